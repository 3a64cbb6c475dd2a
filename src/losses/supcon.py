"""Supervised contrastive loss."""
import mindspore as ms
from mindspore import Tensor, ops

from src.common.values import Positive
from src.losses.loss import PairLoss
from src.losses.pairs import BIG, masked_mean, pair_masks, similarities


class SupConLoss(PairLoss):
    """Cross entropy of every positive against all other rows.

    loss = mean_i -mean_{p != i, y_p = y_i} log(exp(s_ip / t) / sum_{a != i} exp(s_ia / t)),  s the cosine.

    Source: Khosla et al., "Supervised Contrastive Learning" (NeurIPS 2020, arXiv 2004.11362), equation 2 (L_out),
    without the factor t / 0.07 of its published code.

    Args:
        temperature (float): t.

    Outputs:
        scalar float32. Rows without a positive are left out of the mean as anchors, and stay negatives of others; 0
        with zero gradient when no row has a positive. Positives of an anchor compete with each other too.

    Batch: P classes x K images, in any order.
    """

    def __init__(self, temperature: Positive = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        positive, negative = pair_masks(labels, anchors)
        logits = ops.where(ops.logical_or(positive, negative), similarities(rows, anchors) / self.temperature, -BIG)
        log_probabilities = ops.where(positive, ops.log_softmax(logits, 1), 0.0)
        positives = ops.cast(positive, ms.float32).sum(axis=1)
        return masked_mean(-log_probabilities.sum(axis=1) / ops.maximum(positives, 1.0), positives > 0)

"""Supervised contrastive loss."""
import mindspore as ms
from mindspore import Tensor, ops

from src.losses.loss import Loss
from src.losses.pairs import BIG, masked_mean, other_row, same_class, similarities


class SupConLoss(Loss):
    """Cross entropy of every positive against all other rows of the batch.

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

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def construct(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        others = other_row(embeddings.shape[0])
        positive = ops.logical_and(same_class(labels), others)
        logits = ops.where(others, similarities(embeddings) / self.temperature, -BIG)
        log_probabilities = ops.where(positive, ops.log_softmax(logits, 1), 0.0)
        count = ops.cast(positive, ms.float32).sum(axis=1)
        return masked_mean(-log_probabilities.sum(axis=1) / ops.maximum(count, 1.0), count > 0)

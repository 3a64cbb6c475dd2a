"""Multi-similarity loss."""
from mindspore import Tensor, ops

from src.common.values import NonNegative, Positive
from src.losses.loss import PairLoss
from src.losses.pairs import BIG, log_one_plus_sum_exp, pair_masks, similarities


class MultiSimilarityLoss(PairLoss):
    """Keeps the pairs that are hard relative to the anchor's other pairs, and weights them softly.

    Kept are negatives with s > min_{positives} s - eps and positives with s < max_{negatives} s + eps.
    loss = mean over all rows of 1/alpha log(1 + sum_{kept positives} exp(-alpha (s - base)))
                               + 1/beta log(1 + sum_{kept negatives} exp(beta (s - base))),  s the cosine.

    Source: Wang et al., "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning" (CVPR 2019, arXiv
    1904.06627), equations 11, 12 and 15.

    Args:
        alpha (float), beta (float): scales of positives and negatives.
        base (float): lambda of the paper, a cosine.
        eps (float): tolerance when choosing pairs, in cosine.

    Outputs:
        scalar float32. A row without a positive or without a negative keeps no pair and adds 0 to the mean; 0 with
        zero gradient when no row keeps a pair. Choosing the pairs has no gradient.

    Batch: P classes x K images, in any order.
    """

    def __init__(self, alpha: Positive = 2.0, beta: Positive = 50.0, base: float = 0.5, eps: NonNegative = 0.1) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.base = base
        self.eps = eps

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        cosines = similarities(rows, anchors)
        positive, negative = pair_masks(labels, anchors)
        fixed = ops.stop_gradient(cosines)
        # Without a positive `smallest` is BIG, without a negative `largest` is -BIG: no pair is kept.
        smallest = ops.where(positive, fixed, BIG).min(axis=1, keepdims=True)
        largest = ops.where(negative, fixed, -BIG).max(axis=1, keepdims=True)
        hard_negative = ops.logical_and(negative, fixed > smallest - self.eps)
        hard_positive = ops.logical_and(positive, fixed < largest + self.eps)
        pull = log_one_plus_sum_exp(-self.alpha * (cosines - self.base), hard_positive, 1) / self.alpha
        push = log_one_plus_sum_exp(self.beta * (cosines - self.base), hard_negative, 1) / self.beta
        return (pull + push).mean()

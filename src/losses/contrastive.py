"""Contrastive loss of cosines."""
from mindspore import Tensor, ops

from src.common.values import NonNegative
from src.losses.loss import PairLoss
from src.losses.pairs import pair_masks, similarities


class ContrastiveLoss(PairLoss):
    """Pulls positives together and pushes negatives apart until their cosine is at most the margin.

    loss = mean_i sum_{j != i} [y_j = y_i] (1 - s_ij) + [y_j != y_i] relu(s_ij - margin),  s the cosine.

    Source: the contrastive loss of Wang et al., "Cross-Batch Memory for Embedding Learning" (CVPR 2020, arXiv 1912.06798).
    With a memory beside it (recipe entry `memory`) it is their method, called xbm. Their published code counts the pairs
    within the batch twice: as such, and because the memory holds the batch too.

    Args:
        margin (float): cosine above which negatives are pushed away.

    Outputs:
        scalar float32; 0 with zero gradient when there is neither a positive nor a negative above the margin.

    Batch: P classes x K images, in any order.
    """

    def __init__(self, margin: NonNegative = 0.5) -> None:
        super().__init__()
        self.margin = margin

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        cosines = similarities(rows, anchors)
        positive, negative = pair_masks(labels, anchors)
        pull = ops.where(positive, 1.0 - cosines, 0.0)
        return (pull + ops.where(negative, ops.relu(cosines - self.margin), 0.0)).sum(axis=1).mean()

"""Batch-hard triplet loss with Euclidean distances."""
from typing import Optional, Tuple

from mindspore import Tensor, ops

from src.common.values import NonNegative
from src.losses.loss import PairLoss
from src.losses.pairs import (
    BIG,
    anchors_of,
    expanded_squared_distances,
    labels_of_real,
    masked_mean,
    pair_masks,
    real_rows,
    rowwise_squared_distance,
    same_class,
)


def batch_hard(rows: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tuple[Tensor, Tensor]:
    """Batch-hard triplet loss of each anchor among all rows.

    Args:
        rows: (M, D) float32, of which the first N are the anchors.
        positive, negative: (N, M) bool, the pairs to choose from.
        margin: in Euclidean distance.

    Returns:
        losses (N,) float32 and valid (N,) bool, True for anchors with a negative. The other losses are meaningless.
    """
    anchors = positive.shape[0]
    # The expansion only chooses the points. Their distances come from differences, which do not cancel.
    distances = ops.stop_gradient(expanded_squared_distances(rows, anchors))
    farthest = ops.gather(rows, ops.argmax(ops.where(positive, distances, -1.0), 1), 0)
    nearest = ops.gather(rows, ops.argmin(ops.where(negative, distances, BIG), 1), 0)
    points = anchors_of(rows, anchors)
    return ops.relu(_distance(points, farthest) - _distance(points, nearest) + margin), negative.any(axis=1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Below a distance of 1e-6 the root's gradient has no reliable direction; the maximum sets it to 0.
    return ops.sqrt(ops.maximum(rowwise_squared_distance(a, b), 1e-12))


class BatchHardTripletLoss(PairLoss):
    """Triplet loss with the hardest positive and the hardest negative of the batch for every anchor.

    loss = mean_i relu(max_{y_j = y_i} |e_i - e_j| - min_{y_j != y_i} |e_i - e_j| + margin)
    with Euclidean distances (not squared) of embeddings that are NOT normalised. The anchor itself counts among its
    positives, at distance 0; distances below 1e-6 count as 1e-6 and have no gradient.

    Source: Hermans et al., "In Defense of the Triplet Loss" (arXiv 1703.07737), equation 5; margin and details as
    in CTL (arXiv 2104.13643).

    Args:
        margin (float): in Euclidean distance.

    Inputs:
        embeddings (N, D) float, cast to float32; labels (N,) int; mask (N,) or None: a row with 0 is neither
        anchor, positive nor negative; references and reference_labels of PairLoss.

    Outputs:
        scalar float32. Anchors without a negative are left out of the mean; 0 with zero gradient when no anchor has
        a negative. Of equally hard points one gets the gradient.

    Batch: P identities x K images, in any order.
    """
    batch = 'identities'
    takes_mask = True

    def __init__(self, margin: NonNegative = 0.5) -> None:
        super().__init__()
        self.margin = margin

    # The mask is a column of the batch, hence before the references.
    def construct(self, embeddings: Tensor, labels: Tensor, mask: Optional[Tensor] = None,  # type: ignore[override]
                  references: Optional[Tensor] = None, reference_labels: Optional[Tensor] = None) -> Tensor:
        labels = labels_of_real(labels, real_rows(embeddings, mask))
        return super().construct(embeddings, labels, references, reference_labels)

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        real = anchors_of(labels, anchors) >= 0
        negative = pair_masks(labels, anchors)[1]  # MindSpore warns of an element that is named and not used
        losses, valid = batch_hard(rows, same_class(labels, anchors), negative, self.margin)
        return masked_mean(losses, ops.logical_and(real, valid))

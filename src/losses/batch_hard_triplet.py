"""Batch-hard triplet loss with Euclidean distances."""
from typing import Optional, Tuple

import mindspore as ms
from mindspore import Tensor, ops

from src.losses.loss import Loss
from src.losses.pairs import (
    BIG,
    expanded_squared_distances,
    masked_mean,
    real_rows,
    rowwise_squared_distance,
    same_class,
)


def batch_hard(points: Tensor, labels: Tensor, comparable: Tensor, margin: float) -> Tuple[Tensor, Tensor]:
    """Batch-hard triplet loss with each point as the anchor.

    Args:
        points: (N, D) float32.
        labels: (N,) int.
        comparable: (N, N) bool, symmetric: j may be a positive or negative of anchor i.
        margin: in Euclidean distance.

    Returns:
        losses (N,) float32 and valid (N,) bool, True for anchors with a negative. The other losses are meaningless.
    """
    same = same_class(labels)
    positive = ops.logical_and(same, comparable)
    negative = ops.logical_and(ops.logical_not(same), comparable)
    # The expansion only chooses the points. Their distances come from differences, which do not cancel.
    distances = ops.stop_gradient(expanded_squared_distances(points))
    farthest = ops.argmax(ops.where(positive, distances, -1.0), 1)
    nearest = ops.argmin(ops.where(negative, distances, BIG), 1)
    losses = ops.relu(_distance(points, farthest) - _distance(points, nearest) + margin)
    return losses, negative.any(axis=1)


def _distance(points: Tensor, index: Tensor) -> Tensor:
    squared = rowwise_squared_distance(points, ops.gather(points, index, 0))
    # Below a distance of 1e-6 the root's gradient has no reliable direction; the maximum sets it to 0.
    return ops.sqrt(ops.maximum(squared, 1e-12))


class BatchHardTripletLoss(Loss):
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
        anchor, positive nor negative.

    Outputs:
        scalar float32. Anchors without a negative are left out of the mean; 0 with zero gradient when no anchor has
        a negative. Of equally hard points one gets the gradient.

    Batch: P identities x K images, in any order.
    """
    batch = 'identities'
    takes_mask = True

    def __init__(self, margin: float = 0.5) -> None:
        super().__init__()
        self.margin = margin

    def construct(self, embeddings: Tensor, labels: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        points = ops.cast(embeddings, ms.float32)
        real = real_rows(embeddings, mask)
        comparable = ops.logical_and(real.reshape(-1, 1), real.reshape(1, -1))
        losses, valid = batch_hard(points, labels, comparable, self.margin)
        return masked_mean(losses, valid)

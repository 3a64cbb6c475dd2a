"""Margin sample mining, called quadruplet by metric_learn and PaddleCV."""
from mindspore import Tensor, ops

from src.common.values import NonNegative
from src.losses.loss import PairLoss
from src.losses.pairs import BIG, expanded_squared_distances, normalize, pair_masks, rowwise_squared_distance


class QuadrupletLoss(PairLoss):
    """Margin sample mining on L2-normalised embeddings: the farthest positive against the nearest negative pair.

    loss = relu(max_{i != j, y_i = y_j} |e_i - e_j|^2 - min_{y_i != y_j} |e_i - e_j|^2 + margin),
    one term per batch. The two pairs need not share an image, hence a quadruplet.

    Source: Xiao et al., "Margin Sample Mining Loss" (arXiv 1710.00478), equation 4, with squared distances as in
    metric_learn and PaddleCV; after Chen et al., "Beyond triplet loss" (CVPR 2017).

    Args:
        margin (float): in squared distance of unit vectors, 0..4.

    Outputs:
        scalar float32; 0 with zero gradient when the batch has no positive or no negative pair. Of equally hard
        pairs one gets the gradient.

    Batch: P classes x 2 images (any number of images a class works, in any order).
    """
    batch = 'groups'
    def __init__(self, margin: NonNegative = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        rows = normalize(rows)
        positive, negative = pair_masks(labels, anchors)
        # The expansion only chooses the pairs. Their distances come from differences, which do not cancel.
        distances = ops.stop_gradient(expanded_squared_distances(rows, anchors))
        farthest = ops.argmax(ops.where(positive, distances, -1.0).reshape(1, -1), 1)
        nearest = ops.argmin(ops.where(negative, distances, BIG).reshape(1, -1), 1)
        loss = ops.relu(self._pair_distance(rows, farthest) - self._pair_distance(rows, nearest) + self.margin)
        has_both = ops.logical_and(positive.any(), negative.any())
        return ops.where(has_both, loss, 0.0).sum()

    def _pair_distance(self, rows: Tensor, flat_index: Tensor) -> Tensor:
        count = rows.shape[0]
        return rowwise_squared_distance(ops.gather(rows, flat_index // count, 0), ops.gather(rows, flat_index % count, 0))

"""Centroid triplet loss: queries against the centroids of the identities."""
from typing import Optional

import mindspore as ms
from mindspore import Tensor, ops

from src.common.values import NonNegative
from src.losses.batch_hard_triplet import batch_hard
from src.losses.loss import Loss
from src.losses.pairs import masked_mean, real_rows, same_class


class CentroidTripletLoss(Loss):
    """Batch-hard triplet loss over queries and centroids.

    In round i = 0..K-1 the i-th image of each identity is its query, and the mean of its other real images is its
    centroid. The round's loss is the batch-hard triplet loss over the P queries and P centroids together: each of the
    2 P points is an anchor. loss = mean over the rounds. The gradient flows through the centroids too.

    Source: Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image Retrieval" (arXiv
    2104.13643), equation 4, and its published code.

    Args:
        num_instances (int): K.
        margin (float): in Euclidean distance.

    Inputs:
        embeddings (N, D) float, cast to float32; labels (N,) int; mask (N,) or None: a row with 0 is neither a
        query nor part of a centroid.

    Outputs:
        scalar float32. In a round an identity whose query is masked, or which has no other real image, drops out
        with query and centroid; a round left without two identities is left out of the mean; 0 with zero gradient
        when no round is left.

    Raises:
        ValueError: N is not a multiple of K.

    Batch: P identities with K consecutive rows each, K at least 2.
    """
    batch = 'identities'
    needs = ('num_instances',)
    takes_mask = True

    def __init__(self, num_instances: int = 4, margin: NonNegative = 0.5) -> None:
        super().__init__()
        self.num_instances = num_instances
        self.margin = margin

    def construct(self, embeddings: Tensor, labels: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        rows, width = embeddings.shape
        instances = self.num_instances
        if rows % instances:
            raise ValueError(f'centroid triplet loss: {rows} rows are not a multiple of {instances} images an identity')
        images = ops.cast(embeddings, ms.float32).reshape(-1, instances, width)
        real = ops.cast(real_rows(embeddings, mask), ms.float32).reshape(-1, instances)
        images = images * ops.expand_dims(real, 2)
        others = real.sum(axis=1, keepdims=True) - real
        centroids = ((images.sum(axis=1, keepdims=True) - images)
                     / ops.expand_dims(ops.maximum(others, 1.0), 2))
        usable = ops.logical_and(real > 0, others > 0).reshape(-1)

        # All rounds at once: points of different rounds are not comparable.
        points = ops.concat((images.reshape(-1, width), centroids.reshape(-1, width)))
        usable = ops.concat((usable, usable))
        rounds = ops.arange(2 * rows) % instances
        comparable = ops.logical_and(ops.logical_and(usable.reshape(-1, 1), usable.reshape(1, -1)),
                                     ops.equal(rounds.reshape(-1, 1), rounds.reshape(1, -1)))
        same = same_class(ops.concat((labels, labels)), 2 * rows)
        losses, valid = batch_hard(points, ops.logical_and(same, comparable),
                                   ops.logical_and(ops.logical_not(same), comparable), self.margin)

        valid = valid.reshape(-1, instances)
        counts = ops.cast(valid, ms.float32).sum(axis=0)
        round_losses = ops.where(valid, losses.reshape(-1, instances), 0.0).sum(axis=0) / ops.maximum(counts, 1.0)
        return masked_mean(round_losses, counts > 0)

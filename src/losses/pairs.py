"""What several losses share: normalisation, distances, class masks, means over the rows that count.

Everything here expects float32 and is built of operators that exist on Ascend, GPU and CPU.
"""
import mindspore as ms
from mindspore import ops

# A shorter vector has no direction one could trust, and 1 / norm would blow its gradient up.
SMALLEST_SQUARED_NORM = 1e-12
# Where a masked maximum, minimum or exponent must ignore an entry: infinity would turn 0 * inf into NaN backwards.
BIG = 1e30


def normalize(embeddings):
    """Rows scaled to unit L2 norm.

    Args:
        embeddings: (N, D) float32. A row with norm below 1e-6 becomes the zero vector, with zero gradient.

    Returns:
        (N, D) float32.
    """
    squared_norms = ops.square(embeddings).sum(axis=1, keepdims=True)
    inverse = ops.rsqrt(ops.maximum(squared_norms, SMALLEST_SQUARED_NORM))
    return embeddings * ops.where(squared_norms > SMALLEST_SQUARED_NORM, inverse, 0.0)


def squared_distances(embeddings):
    """All squared Euclidean distances |a|^2 + |b|^2 - 2 ab of (N, D) float32: (N, N) float32, never negative."""
    # Distances do not change when all points move together, but the rounding error of the expansion grows with
    # the norms: features of a ReLU network share a large mean, so it goes first.
    centred = embeddings - ops.stop_gradient(embeddings.mean(axis=0, keep_dims=True))
    squared_norms = ops.square(centred).sum(axis=1)
    products = ops.matmul(centred, centred.T)
    return ops.relu(squared_norms.reshape(-1, 1) + squared_norms.reshape(1, -1) - 2.0 * products)


def rowwise_squared_distance(a, b):
    """Squared Euclidean distance of row i of a to row i of b, (N, D) each: (N,)."""
    return ops.square(a - b).sum(axis=1)


def same_class(labels):
    """(N, N) bool: rows i and j have one label. The diagonal is True."""
    return ops.equal(labels.reshape(-1, 1), labels.reshape(1, -1))


def other_row(count):
    """(count, count) bool: i != j."""
    index = ops.arange(count)
    return ops.not_equal(index.reshape(-1, 1), index.reshape(1, -1))


def real_rows(embeddings, mask):
    """(N,) bool: the rows that count as instances; all of them when mask is None."""
    if mask is None:
        return ops.ones((embeddings.shape[0],), ms.bool_)
    return ops.cast(mask, ms.bool_)


def masked_mean(values, mask):
    """Mean of values (N,) where mask (N,) bool is True; 0 with zero gradient when it is True nowhere."""
    count = ops.cast(mask, ms.float32).sum()
    return ops.where(mask, values, 0.0).sum() / ops.maximum(count, 1.0)

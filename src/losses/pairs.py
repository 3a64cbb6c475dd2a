"""What several losses share: normalisation, distances, class masks, means over the rows that count.

Everything here expects float32 and is built of operators that exist on Ascend, GPU and CPU.

On CPU a sum over a whole matrix runs on one thread, one by rows on all, and ops.square with its gradient takes ten
times as long as x * x: the losses sum by rows and write products (100 x 4096 values, one core: 1.5 ms instead of 24).
"""
from typing import Optional

import mindspore as ms
from mindspore import Tensor, ops

# A shorter vector has no direction one could trust, and 1 / norm would blow its gradient up.
SMALLEST_SQUARED_NORM = 1e-12
# Where a masked maximum, minimum or exponent must ignore an entry: infinity would turn 0 * inf into NaN backwards.
BIG = 1e30


def normalize(embeddings: Tensor) -> Tensor:
    """Rows scaled to unit L2 norm.

    Args:
        embeddings: (N, D) float32. A row with norm below 1e-6 becomes the zero vector, with zero gradient.

    Returns:
        (N, D) float32.
    """
    squared_norms = (embeddings * embeddings).sum(axis=1, keepdims=True)
    inverse = ops.rsqrt(ops.maximum(squared_norms, SMALLEST_SQUARED_NORM))
    return embeddings * ops.where(squared_norms > SMALLEST_SQUARED_NORM, inverse, 0.0)


def expanded_squared_distances(embeddings: Tensor) -> Tensor:
    """All squared Euclidean distances |a|^2 + |b|^2 - 2 ab of (N, D) float32: (N, N) float32, never negative.

    Fast, but rounded by what cancels, and to float16 on devices that multiply matrices in it (Ascend 910): for
    choosing among pairs, not for their values.
    """
    # Distances do not change when all points move together, but the rounding error of the expansion grows with
    # the norms: features of a ReLU network share a large mean, so it goes first.
    centred = embeddings - ops.stop_gradient(embeddings.mean(axis=0, keep_dims=True))
    squared_norms = (centred * centred).sum(axis=1)
    products = ops.matmul(centred, centred.T)
    return ops.relu(squared_norms.reshape(-1, 1) + squared_norms.reshape(1, -1) - 2.0 * products)


def squared_distances(embeddings: Tensor) -> Tensor:
    """All squared Euclidean distances of (N, D) float32, summed from the differences: (N, N) float32.

    For losses that use the values. Differences kept for a gradient would fill N * N * D floats, and the gradient of
    cdist takes 14 times as long as its value (160 x 2048 on a CPU core: 1.4 s): so the values are cdist's, which
    holds N * N, and the gradient is the expansion's, 2 sum_j g_ij (e_i - e_j) as two matrix products, in which nothing
    is exponentiated: its rounding stays relative to the gradient. Together 95 ms; the expansion alone takes 40.
    """
    points = ops.stop_gradient(embeddings)
    distances = ops.cdist(points, points)
    expanded = expanded_squared_distances(embeddings)
    # The bracket is exactly 0 and only its gradient counts.
    return distances * distances + (expanded - ops.stop_gradient(expanded))


def rowwise_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance of row i of a to row i of b, (N, D) each: (N,)."""
    difference = a - b
    return (difference * difference).sum(axis=1)


def similarities(embeddings: Tensor) -> Tensor:
    """Cosines between all rows of (N, D), cast to float32: (N, N) float32, 0 beside a zero vector."""
    unit = normalize(ops.cast(embeddings, ms.float32))
    return ops.matmul(unit, unit.T)


def same_class(labels: Tensor) -> Tensor:
    """(N, N) bool: rows i and j have one label. The diagonal is True."""
    return ops.equal(labels.reshape(-1, 1), labels.reshape(1, -1))


def other_row(count: int) -> Tensor:
    """(count, count) bool: i != j."""
    index = ops.arange(count)
    return ops.not_equal(index.reshape(-1, 1), index.reshape(1, -1))


def real_rows(embeddings: Tensor, mask: Optional[Tensor]) -> Tensor:
    """(N,) bool: the rows that count as instances; all of them when mask is None."""
    if mask is None:
        return ops.ones((embeddings.shape[0],), ms.bool_)
    return ops.cast(mask, ms.bool_)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (N,) where mask (N,) bool is True; 0 with zero gradient when it is True nowhere."""
    count = ops.cast(mask, ms.float32).sum()
    return ops.where(mask, values, 0.0).sum() / ops.maximum(count, 1.0)


def log_one_plus_sum_exp(exponents: Tensor, mask: Tensor, axis: int) -> Tensor:
    """log(1 + sum exp(exponents where mask)) along one axis, which no exponent overflows.

    Args:
        exponents: (N, M) float32, of any size.
        mask: (N, M) bool: what enters the sum.
        axis: 0 or 1, that of the sum.

    Returns:
        (M,) or (N,) float32; 0 with zero gradient where the mask is True nowhere.
    """
    exponents = ops.where(mask, exponents, -BIG)
    top = ops.stop_gradient(ops.relu(exponents.max(axis=axis, keepdims=True)))
    # The 1 is exp(0 - top): top or 0 is the largest exponent, so the sum is at least 1.
    total = ops.exp(-top) + ops.exp(exponents - top).sum(axis=axis, keepdims=True)
    return (top + ops.log(total)).reshape(-1)

"""Functions that several losses share: normalisation, distances, class masks, means over the rows that count.

All expect float32, and use operators that exist on Ascend, GPU and CPU.

On CPU a sum over a whole matrix runs on one thread, a sum by rows on all of them, and ops.square with its gradient takes
ten times as long as x * x. So the losses sum by rows and write x * x (100 x 4096 values, one core: 1.5 ms, not 24).
"""
from typing import Optional

import mindspore as ms
from mindspore import Tensor, ops

from src.common.tensors import SMALLEST_SQUARED_NORM

# Stands for infinity where a maximum, minimum or exponent must ignore an entry: in the gradient 0 * inf would be NaN.
BIG = 1e30


def normalize(embeddings: Tensor) -> Tensor:
    """Rows scaled to unit L2 norm.

    Args:
        embeddings: (N, D) float32. A row of norm below 1e-6 becomes the zero vector, with zero gradient.

    Returns:
        (N, D) float32.
    """
    squared_norms = (embeddings * embeddings).sum(axis=1, keepdims=True)
    inverse = ops.rsqrt(ops.maximum(squared_norms, SMALLEST_SQUARED_NORM))
    return embeddings * ops.where(squared_norms > SMALLEST_SQUARED_NORM, inverse, 0.0)


def expanded_squared_distances(embeddings: Tensor) -> Tensor:
    """All squared Euclidean distances |a|^2 + |b|^2 - 2 ab of (N, D) float32: (N, N) float32, never negative.

    Fast, but cancellation costs precision, and Ascend 910 multiplies matrices in float16: use it to choose among pairs,
    not for values of distances.
    """
    # A common shift does not change distances, but the rounding error grows with the norms, and features of a ReLU
    # network share a large mean: subtract it first.
    centred = embeddings - ops.stop_gradient(embeddings.mean(axis=0, keep_dims=True))
    squared_norms = (centred * centred).sum(axis=1)
    products = ops.matmul(centred, centred.T)
    return ops.relu(squared_norms.reshape(-1, 1) + squared_norms.reshape(1, -1) - 2.0 * products)


def squared_distances(embeddings: Tensor) -> Tensor:
    """All squared Euclidean distances of (N, D) float32, summed from the differences: (N, N) float32.

    For losses that use the values. Values are those of cdist, in memory N * N; the gradient is that of the expansion,
    2 sum_j g_ij (e_i - e_j) as two matrix products, whose rounding is relative to the gradient. Differences kept for
    the gradient would fill N * N * D floats, and cdist's own gradient takes 1.4 s for 160 x 2048 on a CPU core, where
    this function takes 95 ms and the expansion alone 40 ms.
    """
    points = ops.stop_gradient(embeddings)
    distances = ops.cdist(points, points)
    expanded = expanded_squared_distances(embeddings)
    # The bracket is exactly 0; only its gradient counts.
    return distances * distances + (expanded - ops.stop_gradient(expanded))


def rowwise_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance of row i of a to row i of b, (N, D) each: (N,)."""
    difference = a - b
    return (difference * difference).sum(axis=1)


def similarities(embeddings: Tensor) -> Tensor:
    """Cosines between all rows of (N, D), cast to float32: (N, N) float32, 0 for a zero vector."""
    unit = normalize(ops.cast(embeddings, ms.float32))
    return ops.matmul(unit, unit.T)


def same_class(labels: Tensor) -> Tensor:
    """(N, N) bool: rows i and j have the same label. The diagonal is True."""
    return ops.equal(labels.reshape(-1, 1), labels.reshape(1, -1))


def other_row(count: int) -> Tensor:
    """(count, count) bool: i != j."""
    index = ops.arange(count)
    return ops.not_equal(index.reshape(-1, 1), index.reshape(1, -1))


def real_rows(embeddings: Tensor, mask: Optional[Tensor]) -> Tensor:
    """(N,) bool: the rows that count, those with a mask other than 0; all rows if mask is None."""
    if mask is None:
        return ops.ones((embeddings.shape[0],), ms.bool_)
    return ops.cast(mask, ms.bool_)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (N,) where mask (N,) bool is True; 0 with zero gradient when it is True nowhere."""
    count = ops.cast(mask, ms.float32).sum()
    return ops.where(mask, values, 0.0).sum() / ops.maximum(count, 1.0)


def log_one_plus_sum_exp(exponents: Tensor, mask: Tensor, axis: int) -> Tensor:
    """log(1 + sum of exp(exponents) where mask is True) along one axis; no exponent overflows.

    Args:
        exponents: (N, M) float32, of any size.
        mask: (N, M) bool: the terms of the sum.
        axis: 0 or 1, along which to sum.

    Returns:
        (M,) or (N,) float32; 0 with zero gradient where the mask is True nowhere.
    """
    exponents = ops.where(mask, exponents, -BIG)
    top = ops.stop_gradient(ops.relu(exponents.max(axis=axis, keepdims=True)))
    # The 1 becomes exp(0 - top). The larger of 0 and top contributes exp(0), so the sum is at least 1.
    total = ops.exp(-top) + ops.exp(exponents - top).sum(axis=axis, keepdims=True)
    return (top + ops.log(total)).reshape(-1)

"""Functions that several losses share: normalisation, distances, class masks, means over the rows that count.

All expect float32, and use operators that exist on Ascend, GPU and CPU.

On CPU a sum over a whole matrix runs on one thread, a sum by rows on all of them, and ops.square with its gradient takes
ten times as long as x * x. So the losses sum by rows and write x * x (100 x 4096 values, one core: 1.5 ms, not 24).
"""
from typing import Optional, Tuple

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


def anchors_of(rows: Tensor, count: int) -> Tensor:
    """First `count` rows."""
    # No slice if there are no other rows: it would copy the rows and their gradient.
    return rows if count == rows.shape[0] else rows[:count]


def expanded_squared_distances(rows: Tensor, anchors: int) -> Tensor:
    """Squared Euclidean distances |a|^2 + |b|^2 - 2 ab of the first `anchors` rows of (M, D) float32 to all: (anchors, M)
    float32, never negative.

    Fast, but cancellation costs precision, and Ascend 910 multiplies matrices in float16: use it to choose among pairs,
    not for values of distances.
    """
    # A common shift does not change distances, but the rounding error grows with the norms, and features of a ReLU
    # network share a large mean: subtract it first.
    centred = rows - ops.stop_gradient(rows.mean(axis=0, keep_dims=True))
    squared_norms = (centred * centred).sum(axis=1)
    products = ops.matmul(anchors_of(centred, anchors), centred.T)
    return ops.relu(anchors_of(squared_norms, anchors).reshape(-1, 1) + squared_norms.reshape(1, -1) - 2.0 * products)


def squared_distances(rows: Tensor, anchors: int) -> Tensor:
    """Squared Euclidean distances of the first `anchors` rows of (M, D) float32 to all, summed from the differences:
    (anchors, M) float32.

    For losses that use the values. Values are those of cdist, in memory anchors * M; the gradient is that of the expansion,
    2 sum_j g_ij (e_i - e_j) as two matrix products, whose rounding is relative to the gradient. Differences kept for
    the gradient would fill anchors * M * D floats, and cdist's own gradient takes 1.4 s for 160 x 2048 on a CPU core, where
    this function takes 95 ms and the expansion alone 40 ms.
    """
    points = ops.stop_gradient(rows)
    distances = ops.cdist(anchors_of(points, anchors), points)
    expanded = expanded_squared_distances(rows, anchors)
    # The bracket is exactly 0; only its gradient counts.
    return distances * distances + (expanded - ops.stop_gradient(expanded))


def rowwise_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance of row i of a to row i of b, (N, D) each: (N,)."""
    difference = a - b
    return (difference * difference).sum(axis=1)


def similarities(rows: Tensor, anchors: int) -> Tensor:
    """Cosines of the first `anchors` rows of (M, D) float32 to all: (anchors, M) float32, 0 for a zero vector."""
    unit = normalize(rows)
    return ops.matmul(anchors_of(unit, anchors), unit.T)


def same_class(labels: Tensor, anchors: int) -> Tensor:
    """(anchors, M) bool: whether each of the first `anchors` rows has the label of each row. The diagonal is True."""
    return ops.equal(anchors_of(labels, anchors).reshape(-1, 1), labels.reshape(1, -1))


def pair_masks(labels: Tensor, anchors: int) -> Tuple[Tensor, Tensor]:
    """Positive and negative pairs of the first `anchors` rows with all rows.

    Args:
        labels: (M,) int; rows with a label below 0 are in no pair.

    Returns:
        positive, negative: (anchors, M) bool: the other rows of an anchor's class, and the rows of other classes.
    """
    same = same_class(labels, anchors)
    negative = ops.logical_and(ops.logical_not(same), (labels >= 0).reshape(1, -1))
    return ops.logical_and(same, other_row(anchors, labels.shape[0])), negative


def other_row(anchors: int, rows: int) -> Tensor:
    """(anchors, rows) bool: i != j."""
    return ops.not_equal(ops.arange(anchors).reshape(-1, 1), ops.arange(rows).reshape(1, -1))


def real_rows(embeddings: Tensor, mask: Optional[Tensor]) -> Tensor:
    """(N,) bool: rows that count, with a mask other than 0; all rows if mask is None."""
    if mask is None:
        return ops.ones((embeddings.shape[0],), ms.bool_)
    return ops.cast(mask, ms.bool_)


def labels_of_real(labels: Tensor, real: Tensor) -> Tensor:
    """(N,) int: the labels where `real`, bool, is True, and -1 elsewhere.

    No ops.where of labels and a number: in a graph MindSpore 2.8 computed other values from it in each call.
    """
    return ops.cast(real, labels.dtype) * (labels + 1) - 1


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (N,) where mask (N,) bool is True; 0 with zero gradient if it is True nowhere."""
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

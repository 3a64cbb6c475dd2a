"""Differentiable ranks of the positives of every row."""
from typing import Tuple

import mindspore as ms
from mindspore import Tensor, ops

from src.losses.pairs import BIG, other_row, pair_masks, similarities


def soft_ranks(rows: Tensor, labels: Tensor, anchors: int, temperature: float, most: int, counts_query: bool = False,
               ranks_query: bool = False) -> Tuple[Tensor, Tensor, Tensor]:
    """Ranks of the positives i of every query q, one of the first `anchors` rows, counted with sigmoids.

    rank_i = 1 + sum over rows j != i of sigmoid((s_qj - s_qi) / temperature),  s the cosine. The positives are the rows of
    q's class among the first `anchors` alone; later rows of its class stand before none, so that they do not make a perfect
    ranking impossible.

    Memory: with the gradient about ten arrays of anchors * most * M floats. One takes 3 MB for 512 rows with 3 positives, 32 MB
    with 31, and 192 MB for 4,000 rows with 3.

    Args:
        rows, labels, anchors: (M, D) float32 and (M,) int, see PairLoss.
        temperature: in cosine.
        most: P, how many positives of each query are ranked, even if its class has more images in the batch.
        counts_query: whether q itself is one of the rows j. It stands before nearly all others.
        ranks_query: whether q is a positive of its own too.

    Returns:
        among_all, among_positives: (anchors, P) float32, ranks among all rows and among the positives.
        is_positive: (anchors, P) bool, False where a query has fewer than P positives; the ranks there are meaningless.
    """
    others = other_row(anchors, rows.shape[0])
    in_batch = (ops.arange(rows.shape[0]) < anchors).reshape(1, -1)
    positive, counted = pair_masks(labels, anchors)
    positive = ops.logical_and(positive, in_batch)
    counted = ops.logical_or(counted, ops.logical_and(others, in_batch))
    if counts_query:
        counted = ops.logical_or(counted, ops.logical_not(others))
    if ranks_query:
        positive = ops.logical_or(positive, ops.logical_not(others))
    positive = ops.cast(positive, ms.float32)
    found, index = ops.topk(positive, min(max(most, 1), anchors), 1)
    scores = ops.where(counted, similarities(rows, anchors) / temperature, -BIG)
    of_positives = ops.gather_elements(scores, 1, index)
    ahead = ops.sigmoid(ops.expand_dims(scores, 1) - ops.expand_dims(of_positives, 2))
    # The sum holds the positive's sigmoid with itself: 0.5, without gradient. So 0.5 is left of the 1 of every rank.
    among_all = 0.5 + ahead.sum(axis=2)
    among_positives = 0.5 + (ahead * ops.expand_dims(positive, 1)).sum(axis=2)
    return among_all, among_positives, found > 0

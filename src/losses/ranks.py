"""Differentiable ranks of the positives of every row."""
from typing import Tuple

import mindspore as ms
from mindspore import Tensor, ops

from src.losses.pairs import BIG, other_row, same_class, similarities


def soft_ranks(embeddings: Tensor, labels: Tensor, instances: int, temperature: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Ranks of the positives i of every row q as query among all other rows, counted with sigmoids.

    rank_i = 1 + sum over rows j (neither q nor i) of sigmoid((s_qj - s_qi) / temperature),  s the cosine.

    Memory: with the gradient about ten arrays of N * (instances - 1) * N floats. One takes 3 MB for 512 rows with 4
    instances, 32 MB with 32, and 192 MB for 4,000 rows with 4.

    Args:
        embeddings: (N, D) float, cast to float32.
        labels: (N,) int.
        instances: K. Each query ranks at most K - 1 positives, even if its class has more images in the batch.
        temperature: in cosine.

    Returns:
        among_all, among_positives: (N, P) float32, P = K - 1, ranks among all rows and among the positives.
        is_positive: (N, P) bool, False where a query has fewer than P positives; the ranks there are meaningless.
    """
    rows = embeddings.shape[0]
    cosines = similarities(embeddings)
    positive = ops.cast(ops.logical_and(same_class(labels), other_row(rows)), ms.float32)
    found, index = ops.topk(positive, min(max(instances - 1, 1), rows), 1)
    # The query itself ranks before no row.
    scores = ops.where(other_row(rows), cosines / temperature, -BIG)
    of_positives = ops.gather_elements(scores, 1, index)
    ahead = ops.sigmoid(ops.expand_dims(scores, 1) - ops.expand_dims(of_positives, 2))
    # The sum holds the positive's sigmoid with itself: 0.5, without gradient. So 0.5 is left of the 1 of every rank.
    among_all = 0.5 + ahead.sum(axis=2)
    among_positives = 0.5 + (ahead * ops.expand_dims(positive, 1)).sum(axis=2)
    return among_all, among_positives, found > 0

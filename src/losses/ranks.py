"""Ranks of the positives of every row, smooth enough for a gradient."""
from typing import Tuple

import mindspore as ms
from mindspore import Tensor, ops

from src.losses.pairs import other_row, same_class, similarities


def soft_ranks(embeddings: Tensor, labels: Tensor, instances: int, temperature: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Each row q as query among all others: the ranks of its positives i, counted with a sigmoid.

    rank_i = 1 + sum over rows j (neither q nor i) of sigmoid((s_qj - s_qi) / temperature),  s the cosine.

    Memory: a few arrays of N * (instances - 1) * N floats, and as many for the gradient: 3 MB each for 512 rows with
    4 images a class, 192 MB for 4,000.

    Args:
        embeddings: (N, D) float, cast to float32.
        labels: (N,) int.
        instances: K; of a class with more images in the batch, each query ranks K - 1 positives.
        temperature: in cosine.

    Returns:
        among_all (N, P) and among_positives (N, P) float32, ranks among all rows and among positives alone; is_positive
        (N, P) bool, False where a query has fewer than P = K - 1 positives: the ranks there mean nothing.
    """
    rows = embeddings.shape[0]
    cosines = similarities(embeddings)
    positive = ops.cast(ops.logical_and(same_class(labels), other_row(rows)), ms.float32)
    found, index = ops.topk(positive, min(max(instances - 1, 1), rows), 1)
    of_positives = ops.gather_elements(cosines, 1, index)
    ahead = ops.sigmoid((ops.expand_dims(cosines, 1) - ops.expand_dims(of_positives, 2)) / temperature)
    # Neither the query nor the positive itself stands before it.
    numbers = ops.arange(rows)
    itself = ops.equal(ops.expand_dims(index, 2), numbers.reshape(1, 1, -1))
    query = ops.equal(numbers.reshape(-1, 1, 1), numbers.reshape(1, 1, -1))
    ahead = ops.where(ops.logical_or(itself, query), 0.0, ahead)
    among_all = 1.0 + ahead.sum(axis=2)
    among_positives = 1.0 + (ahead * ops.expand_dims(positive, 1)).sum(axis=2)
    return among_all, among_positives, found > 0

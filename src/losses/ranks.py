"""Ranks of the positives of every row, smooth enough for a gradient."""
from typing import Tuple

import mindspore as ms
from mindspore import Tensor, ops

from src.losses.pairs import BIG, other_row, same_class, similarities


def soft_ranks(embeddings: Tensor, labels: Tensor, instances: int, temperature: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Each row q as query among all others: the ranks of its positives i, counted with a sigmoid.

    rank_i = 1 + sum over rows j (neither q nor i) of sigmoid((s_qj - s_qi) / temperature),  s the cosine.

    Memory: with the gradient about ten arrays of N * (instances - 1) * N floats, each 3 MB for 512 rows with 4 images a
    class, 32 MB with 32, and 192 MB for 4,000 rows with 4.

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
    # The query itself stands before nothing.
    scores = ops.where(other_row(rows), cosines / temperature, -BIG)
    of_positives = ops.gather_elements(scores, 1, index)
    ahead = ops.sigmoid(ops.expand_dims(scores, 1) - ops.expand_dims(of_positives, 2))
    # Half of the 1 of every rank is the sigmoid of the positive with itself, whose gradients cancel.
    among_all = 0.5 + ahead.sum(axis=2)
    among_positives = 0.5 + (ahead * ops.expand_dims(positive, 1)).sum(axis=2)
    return among_all, among_positives, found > 0

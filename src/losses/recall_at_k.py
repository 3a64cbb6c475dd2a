"""Differentiable Recall@K of a batch."""
from typing import Sequence

import mindspore as ms
from mindspore import Tensor, ops

from src.common.values import Positive
from src.losses.loss import PairLoss
from src.losses.pairs import masked_mean
from src.losses.ranks import soft_ranks


class RecallAtKLoss(PairLoss):
    """1 - Recall@K of every row as query among the others, with sigmoids for the two comparisons.

    r(x) = 1 + sum_{z != x} sigmoid((s_z - s_x) / t),  s the cosine to the query q, which is neither x nor z;
    R_k = sum over positives x of sigmoid((k - r(x)) / t_rank) / min(k, number of positives);
    loss = 1 - mean over k and q of R_k. The rank of a positive counts the other positives too. A perfect ranking does not
    give 0: a positive of rank k counts half for k.

    Source: Patel et al., "Recall@k Surrogate Loss with Large Batches and Similarity Mixup" (CVPR 2022, arXiv
    2108.11179), without the similarity mixup. Its published code also counts the query itself among the z, so that all
    its ranks are about 1 higher; here the query ranks nothing unless counts_query says so. References are z if they are of
    another class, and never x.

    Args:
        num_instances (int): K, images per class in a batch. At most K - 1 positives of each query count.
        k (sequence of int): the ranks to reach.
        temperature (float): t, in cosine.
        rank_temperature (float): t_rank, in ranks.
        counts_query (bool): the query is one of the z, as in the published code, whose hyper-parameters are made for it.

    Outputs:
        scalar float32. A query without a positive is left out of the mean; 0 with zero gradient when all are.

    Batch: P classes x K images, in any order, the larger the better.
    Memory: arrays of N * N * (K - 1) floats, see soft_ranks.
    """

    needs = ('num_instances',)

    def __init__(self, num_instances: int = 4, k: Sequence[int] = (1, 2, 4, 8, 16), temperature: Positive = 0.01,
                 rank_temperature: Positive = 1.0, counts_query: bool = False) -> None:
        super().__init__()
        self.num_instances = num_instances
        self.k = tuple(k)
        self.temperature = temperature
        self.rank_temperature = rank_temperature
        self.counts_query = counts_query

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        # MindSpore warns of an element that is named and not used.
        found = soft_ranks(rows, labels, anchors, self.temperature, self.num_instances - 1, self.counts_query)
        ranks, is_positive = found[0], found[2]
        count = ops.cast(is_positive, ms.float32).sum(axis=1)
        recall = ops.zeros_like(count)
        for k in self.k:
            reached = ops.where(is_positive, ops.sigmoid((k - ranks) / self.rank_temperature), 0.0).sum(axis=1)
            recall = recall + reached / ops.clamp(count, 1.0, float(k))
        return masked_mean(1.0 - recall / len(self.k), count > 0)

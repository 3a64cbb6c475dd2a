"""Smooth-AP: differentiable average precision of a batch."""
import mindspore as ms
from mindspore import Tensor, ops

from src.common.values import Positive
from src.losses.loss import PairLoss
from src.losses.pairs import masked_mean
from src.losses.ranks import soft_ranks


class SmoothAPLoss(PairLoss):
    """1 - mean average precision of every row as query among the others, with a sigmoid for each comparison.

    AP_q = mean over positives i of (1 + sum_{positives j != i} G(s_j - s_i)) / (1 + sum_{j != i} G(s_j - s_i)),
    G(d) = sigmoid(d / t), s the cosine to q; q itself is neither i nor j; loss = 1 - mean_q AP_q.

    Source: Brown et al., "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval" (ECCV 2020, arXiv
    2007.12163). Its published code also counts the query among its own positives and in the rank of every row, which
    raises AP; here the query is neither unless counts_query says so. References are j if they are of another class, and
    never i.

    Args:
        num_instances (int): K, images per class in a batch. At most K - 1 positives of each query count.
        temperature (float): t, in cosine.
        counts_query (bool): the query is one of the i and of the j, as in the published code.

    Outputs:
        scalar float32. A query without a positive is left out of the mean; 0 with zero gradient when all are.

    Batch: P classes x K images, in any order. Memory: arrays of N * N * (K - 1) floats, see soft_ranks.
    """

    needs = ('num_instances',)

    def __init__(self, num_instances: int = 4, temperature: Positive = 0.01, counts_query: bool = False) -> None:
        super().__init__()
        self.num_instances = num_instances
        self.temperature = temperature
        self.counts_query = counts_query

    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        most = self.num_instances - 1 + self.counts_query
        among_all, among_positives, is_positive = soft_ranks(rows, labels, anchors, self.temperature, most, self.counts_query,
                                                             self.counts_query)
        missing = ops.where(is_positive, 1.0 - among_positives / among_all, 0.0).sum(axis=1)
        count = ops.cast(is_positive, ms.float32).sum(axis=1)
        return masked_mean(missing / ops.maximum(count, 1.0), count > 0)

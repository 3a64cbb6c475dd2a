"""Ensemble-style soft hard-mining loss of PaddleCV metric learning."""
import math

import mindspore as ms
from mindspore import Tensor, ops

from src.losses.loss import PairLoss
from src.losses.pairs import BIG, masked_mean, pair_masks, squared_distances

BETA = 100000.0
THRESHOLD = 20.0


class EmlLoss(PairLoss):
    """EML loss on embeddings that are NOT normalised.

    For each anchor, with squared distances d to its positives P and negatives N:
      theta = mean_P exp(d_p - max_P d) * mean_N exp(min_N d - d_n),  b = max_P d - min_N d,
      f(b) = log(1 + beta theta exp(b)) / log(1 + beta),  g(b) = (log theta + b + log beta) / log(1 + beta),
      l = f(min(b, 20)) + g(max(b, 20)) - f(20),  beta = 1e5,
    that is f, continued linearly above 20; loss = mean of l over the anchors.

    Source: "eml" of PaddleCV metric learning, whose page cites Huang et al., "Large Scale Strongly Supervised Ensemble
    Metric Learning" (arXiv 1212.6094). Computed as log(1 + beta theta exp(b)) = softplus(log beta + log theta + b),
    which no distance overflows.

    Outputs:
        scalar float32. An anchor without a positive or without a negative is left out of the mean; 0 with zero
        gradient when no anchor has both.

    Batch: P classes x 2 images (any number of images a class works, in any order).
    """
    batch = 'groups'
    def compare(self, rows: Tensor, labels: Tensor, anchors: int) -> Tensor:
        # Summed from differences: an exponential multiplies every rounding error of the expansion.
        distances = squared_distances(rows, anchors)
        positive, negative = pair_masks(labels, anchors)
        positive_max = ops.where(positive, distances, -1.0).max(axis=1)
        negative_min = ops.where(negative, distances, BIG).min(axis=1)
        log_theta = (self._log_mean_exp(distances - positive_max.reshape(-1, 1), positive)
                     + self._log_mean_exp(negative_min.reshape(-1, 1) - distances, negative))
        bias = positive_max - negative_min
        offset = log_theta + math.log(BETA)
        losses = (ops.softplus(offset + ops.minimum(bias, THRESHOLD)) + offset + ops.maximum(bias, THRESHOLD)
                  - ops.softplus(offset + THRESHOLD)) / math.log1p(BETA)
        return masked_mean(losses, ops.logical_and(positive.any(axis=1), negative.any(axis=1)))

    def _log_mean_exp(self, exponents: Tensor, mask: Tensor) -> Tensor:
        # A row's largest exponent is 0, so the sum is at least 1 where the row counts; the 0.5 only keeps the
        # logarithm of an empty row finite.
        total = ops.exp(ops.where(mask, exponents, -BIG)).sum(axis=1)
        count = ops.cast(mask, ms.float32).sum(axis=1)
        return ops.log(ops.maximum(total, 0.5)) - ops.log(ops.maximum(count, 1.0))

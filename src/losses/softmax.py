"""Cross entropy of a linear classifier over the training classes."""
import math
from typing import Optional

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from mindspore.common.initializer import Normal, Uniform, initializer

from src.common.values import BelowOne
from src.losses.loss import Loss
from src.losses.pairs import masked_mean, real_rows


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each row with the target (1 - e) onehot + e / C.

    Args:
        logits: (N, C) float32.
        labels: (N,) int, 0..C-1.
        label_smoothing: e, 0..1.

    Returns:
        (N,) float32.
    """
    log_probabilities = ops.log_softmax(logits, 1)
    losses = -ops.gather_elements(log_probabilities, 1, labels.reshape(-1, 1)).reshape(-1)
    if label_smoothing:
        losses = (1.0 - label_smoothing) * losses - label_smoothing * log_probabilities.mean(axis=1)
    return losses


class SoftmaxLoss(Loss):
    """Softmax cross entropy; holds its classifier.

    loss = mean_i -sum_c t_ic log softmax(W e_i + b)_c,  t_i = (1 - label_smoothing) onehot(y_i) + label_smoothing / C.

    Source: without smoothing metric_learn and PaddleCV metric learning; with it Szegedy et al., "Rethinking the
    Inception Architecture" (CVPR 2016), section 7, and CTL (arXiv 2104.13643).

    Args:
        num_classes (int): C.
        embedding_size (int): D.
        label_smoothing (float): 0..1.
        has_bias (bool): False removes b.
        weight_deviation (float or None): W starts Normal with this standard deviation; with None uniform in
            +-1/sqrt(D), as b always does. CTL: has_bias=False, weight_deviation=0.001, label_smoothing=0.1.

    Inputs:
        embeddings (N, D) float, cast to float32; labels (N,) int in 0..C-1; mask (N,) or None: 0 marks a row that
        does not count.

    Outputs:
        scalar float32; 0 with zero gradient when no row counts.

    Parameters: weight (C, D), bias (C,). Batch: any.
    """
    batch = 'shuffle'
    needs = ('num_classes', 'embedding_size')
    takes_mask = True

    def __init__(self, num_classes: int, embedding_size: int, label_smoothing: BelowOne = 0.0, has_bias: bool = True,
                 weight_deviation: Optional[float] = None) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(embedding_size)
        start = Uniform(bound) if weight_deviation is None else Normal(weight_deviation)
        self.weight = Parameter(initializer(start, (num_classes, embedding_size), ms.float32), name='weight')
        self.has_bias = has_bias
        if has_bias:
            self.bias = Parameter(initializer(Uniform(bound), (num_classes,), ms.float32), name='bias')
        self.label_smoothing = label_smoothing

    def construct(self, embeddings: Tensor, labels: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        logits = ops.MatMul(transpose_b=True)(ops.cast(embeddings, ms.float32), self.weight)
        if self.has_bias:
            logits = logits + self.bias
        return masked_mean(cross_entropy(logits, labels, self.label_smoothing), real_rows(embeddings, mask))

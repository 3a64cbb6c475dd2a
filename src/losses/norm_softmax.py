"""Normalised softmax with a temperature."""
import math
from typing import Dict

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from mindspore.common.initializer import Uniform, initializer

from src.common.values import NonNegative, Positive
from src.losses.loss import Loss
from src.losses.pairs import normalize
from src.losses.softmax import cross_entropy


class NormSoftmaxLoss(Loss):
    """Cross entropy of cosines to one learnt vector per class, divided by a temperature; holds its classifier.

    loss = mean_i -log softmax(normalize(e_i) normalize(W)^T / t)_{y_i}, no bias.

    Source: Zhai and Wu, "Classification is a Strong Baseline for Deep Metric Learning" (BMVC 2019, arXiv 1811.12649),
    with its class-balanced batches.

    Args:
        num_classes (int): C.
        embedding_size (int): D.
        temperature (float): t.
        lr_factor (float): factor on the learning rate of W. ProxyNCA++ (arXiv 2004.01113) uses far more than 1.

    Inputs:
        embeddings (N, D) float, cast to float32 (a zero vector has cosine 0 to every class and gets no gradient);
        labels (N,) int in 0..C-1.

    Outputs:
        scalar float32.

    Parameters: weight (C, D), uniform in +-1/sqrt(D). Batch: P classes x K images (any rows work).
    """

    needs = ('num_classes', 'embedding_size')

    def __init__(self, num_classes: int, embedding_size: int, temperature: Positive = 0.05,
                 lr_factor: NonNegative = 1.0) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(embedding_size)
        self.weight = Parameter(initializer(Uniform(bound), (num_classes, embedding_size), ms.float32), name='weight')
        self.temperature = temperature
        self.lr_factor = lr_factor

    def construct(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = ops.MatMul(transpose_b=True)(normalize(ops.cast(embeddings, ms.float32)), normalize(self.weight))
        return cross_entropy(cosines / self.temperature, labels).mean()

    def lr_factors(self) -> Dict[str, float]:
        return {'weight': self.lr_factor}

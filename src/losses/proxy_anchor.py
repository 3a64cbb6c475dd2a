"""Proxy-Anchor loss: each class has a learnt proxy, which is the anchor."""
from typing import Dict

import mindspore as ms
from mindspore import Parameter, Tensor, ops
from mindspore.common.initializer import HeNormal, initializer

from src.common.values import NonNegative, Positive
from src.losses.loss import Loss
from src.losses.pairs import log_one_plus_sum_exp, masked_mean, normalize


class ProxyAnchorLoss(Loss):
    """Proxies pull the images of their class and push all others, hard ones most.

    loss = mean over p with a positive in the batch of log(1 + sum_{y_x = p} exp(-alpha (s(x, p) - delta)))
           + mean over all p of log(1 + sum_{y_x != p} exp(alpha (s(x, p) + delta))),  s the cosine.

    Source: Kim et al., "Proxy Anchor Loss for Deep Metric Learning" (CVPR 2020, arXiv 2003.13911), equation 4; initial
    values and learning rate of the proxies as in its published code.

    Args:
        num_classes (int): C.
        embedding_size (int): D.
        alpha (float): scale.
        delta (float): margin in cosine.
        lr_factor (float): factor on the learning rate of the proxies.

    Inputs:
        embeddings (N, D) float, cast to float32 (a zero vector has cosine 0 to every proxy and gets no gradient);
        labels (N,) int in 0..C-1.

    Outputs:
        scalar float32. No exponent overflows.

    Parameters: proxies (C, D), Kaiming normal by fan out, N(0, 2 / C). Batch: any.
    """

    batch = 'shuffle'
    needs = ('num_classes', 'embedding_size')

    def __init__(self, num_classes: int, embedding_size: int, alpha: Positive = 32.0, delta: float = 0.1,
                 lr_factor: NonNegative = 100.0) -> None:
        super().__init__()
        self.proxies = Parameter(initializer(HeNormal(mode='fan_out'), (num_classes, embedding_size), ms.float32),
                                 name='proxies')
        self.num_classes = num_classes
        self.alpha = alpha
        self.delta = delta
        self.lr_factor = lr_factor

    def construct(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = ops.MatMul(transpose_b=True)(normalize(ops.cast(embeddings, ms.float32)), normalize(self.proxies))
        positive = ops.equal(labels.reshape(-1, 1), ops.arange(self.num_classes).reshape(1, -1))
        pull = log_one_plus_sum_exp(-self.alpha * (cosines - self.delta), positive, 0)
        push = log_one_plus_sum_exp(self.alpha * (cosines + self.delta), ops.logical_not(positive), 0)
        return masked_mean(pull, positive.any(axis=0)) + push.mean()

    def lr_factors(self) -> Dict[str, float]:
        return {'proxies': self.lr_factor}

"""ResNet50-IBN-a (Pan et al., ECCV 2018, arXiv 1807.09441), with the parameter names of its public weights.

CTL's page (arXiv 2104.13643) names it beside ResNet50 for re-identification.
"""
from typing import Any, Dict

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor, ops

from src.networks.convolution import images_first, images_last
from src.networks.resnet import Bottleneck, ResNet50, batch_norm


class InstanceNorm(nn.Cell):
    """Each channel of each image to mean 0 and variance 1, then gamma x + beta, in float32.

    nn.InstanceNorm2d does not run on a CPU.

    Args:
        channels, eps: as of BatchNorm. frozen: whether gamma and beta stay as they are in training.

    Inputs and outputs: (N, channels, H, W).
    """

    def __init__(self, channels: int, eps: float, frozen: bool):
        super().__init__()
        self.eps = eps
        self.gamma = Parameter(Tensor(np.ones(channels, np.float32)), 'gamma', requires_grad=not frozen)
        self.beta = Parameter(Tensor(np.zeros(channels, np.float32)), 'beta', requires_grad=not frozen)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.cast(x, ms.float32)
        x = x - ops.mean(x, (2, 3), True)
        x = x / ops.sqrt(ops.mean(x * x, (2, 3), True) + self.eps)
        # Mixed precision would round them.
        gamma, beta = ops.cast(self.gamma, ms.float32), ops.cast(self.beta, ms.float32)
        return x * gamma.reshape(-1, 1, 1) + beta.reshape(-1, 1, 1)


class InstanceBatchNorm(nn.Cell):
    """InstanceNorm of the first half of the channels, BatchNorm of the others. Inputs: x and images as of Convolution."""

    def __init__(self, channels: int, eps: float, frozen: bool):
        super().__init__()
        self.half = channels // 2
        self.IN = InstanceNorm(self.half, eps, frozen)
        self.BN = batch_norm(channels - self.half, eps, frozen)

    def construct(self, x: Tensor, images: int = 0) -> Tensor:
        first, second = x[:, :self.half], self.BN(x[:, self.half:])
        first = images_last(self.IN(images_first(first, images))) if images else self.IN(first)
        return ops.concat((ops.cast(first, second.dtype), second), 1)


class IbnBottleneck(Bottleneck):
    """A bottleneck whose first BatchNorm is split."""

    def __init__(self, in_channels: int, channels: int, stride: int, padding: str, norm: Dict[str, Any]):
        super().__init__(in_channels, channels, stride, padding, norm)
        self.bn1 = InstanceBatchNorm(channels, **norm)

    def norm(self, name: str, x: Tensor, images: int) -> Tensor:
        return self.bn1(x, images) if name == 'bn1' else getattr(self, name)(x)


class ResNet50IbnA(ResNet50):
    """ResNet50 whose first three stages, which see style rather than content, have IbnBottleneck."""

    early_block = IbnBottleneck

    @staticmethod
    def rename(name: str) -> str:
        name = ResNet50.rename(name)
        if '.IN.' in name:
            name = name.replace('.weight', '.gamma').replace('.bias', '.beta')
        return name

"""Heads, which turn the feature map of a backbone into embeddings, and the network made of both."""
from typing import Any, Callable, Dict, Optional, Tuple

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from src.common.errors import InputError
from src.common.registry import lookup
from src.common.tensors import SMALLEST_SQUARED_NORM
from src.common.whitening import whitening
from src.networks.backbone import Backbone


class Head(nn.Cell):
    """Feature map (N, C, h, w) -> embeddings (N, out_channels) float32.

    Attributes:
        out_channels: width of the embeddings.
        new_layers: name prefixes of its parameters, which the weights of a backbone do not contain.
        gives_feature: whether it returns (feature, neck's output) in training; None if it has no neck. May be set.
        fitted: whether `fit` is to be called before the network is measured or saved.
    """

    out_channels: int
    new_layers: Tuple[str, ...] = ()
    gives_feature: Optional[bool] = None
    fitted: bool = False

    def reset(self) -> None:
        """Undo `fit`, since the backbone's weights have changed."""

    def fit(self, embeddings: NDArray[Any], labels: NDArray[Any]) -> None:
        """Fit to the embeddings (N, C) float32 of training images, computed after `reset`, and their labels (N,) int."""


class ImageNetwork(nn.Cell):
    """A backbone and a head. Parameters keep their names in the backbone and the head, so one checkpoint serves all heads.

    new_layers, out_channels: as of the head.

    Inputs: images (N, 3, H, W), float32 and normalised; or uint8 pixels, which are normalised here (a training then sends
    a quarter of the bytes to the device). Outputs: as of the head.
    """

    def __init__(self, backbone: Backbone, head: Head):
        super().__init__(auto_prefix=False)
        self.backbone = backbone
        self.head = head
        self.out_channels = head.out_channels
        self.new_layers = head.new_layers
        self.mean, self.deviation = (Tensor(np.array([255 * value for value in values], np.float32).reshape(3, 1, 1))
                                     for values in (backbone.mean, backbone.deviation))

    def construct(self, images: Tensor) -> Any:
        if images.dtype == ms.uint8:
            images = (ops.cast(images, ms.float32) - self.mean) / self.deviation
        return self.head(self.backbone(images))


def average_pool(x: Tensor) -> Tensor:
    """Global average: feature maps (N, C, h, w) -> (N, C)."""
    return ops.mean(x, (2, 3))  # mint.mean has no ONNX export


def gem_pool(x: Tensor) -> Tensor:
    """Generalised mean, (mean x^3)^(1/3), x from 1e-6 (Radenovic et al., arXiv 1711.02512, equation 3), in float32.

    The bound keeps the root's derivative finite: a channel that is 0 everywhere gets no gradient instead of NaN.
    """
    x = ops.maximum(ops.cast(x, ms.float32), 1e-6)
    return ops.pow(ops.mean(x * x * x, (2, 3)), 1 / 3)


def average_max_pool(x: Tensor) -> Tensor:
    """Sum of average and maximum. Positions that share the maximum share its gradient."""
    return ops.mean(x, (2, 3)) + ops.amax(x, (2, 3))


def unit_length(x: Tensor, axis: int = 1) -> Tensor:
    """Scale to norm 1 along the axis; same shape, float32.

    A vector shorter than 1e-6 becomes 0 with gradient 0: its true gradient would be up to a million times the loss's.
    Only operators that have an ONNX export are used, unlike in src.losses.pairs.normalize.
    """
    x = ops.cast(x, ms.float32)
    squares = ops.sum(x * x, axis, True)
    long_enough = ops.cast(squares > SMALLEST_SQUARED_NORM, ms.float32)
    return x / ops.sqrt(ops.maximum(squares, SMALLEST_SQUARED_NORM)) * long_enough


POOLS: Dict[str, Callable[[Tensor], Tensor]] = {
    'average': average_pool, 'gem': gem_pool, 'average_max': average_max_pool}


class NoHead(Head):
    """Global average (N, C) of the backbone's feature map."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.out_channels = in_channels

    def construct(self, x: Tensor) -> Tensor:
        return average_pool(x)


class Embedding(Head):
    """Pooling, then optionally LayerNorm, a linear layer `embedding` and scaling to unit length.

    Args:
        in_channels: C of the map.
        embedding_size: width of the linear layer, 0 for none.
        pool: 'average', 'gem' or 'average_max'.
        layer_norm: whether every row of the pooled features gets mean 0 and deviation 1, without parameters (Zhai and
            Wu, arXiv 1811.12649).
        unit_length: whether the embeddings have norm 1 (a zero vector stays 0).

    Raises:
        InputError: no pool has that name, or the size is negative.
    """

    def __init__(self, in_channels: int, embedding_size: int = 512, pool: str = 'gem', layer_norm: bool = True,
                 unit_length: bool = True):
        super().__init__()
        if embedding_size < 0:
            raise InputError(f'embedding_size is {embedding_size}: give a width, or 0 for no linear layer')
        self.pool = lookup(POOLS, pool, 'pool')
        self.layer_norm = layer_norm
        self.unit_length = unit_length
        self.embedding = None
        if embedding_size:
            self.embedding = nn.Dense(in_channels, embedding_size, weight_init='xavier_uniform', bias_init='zeros')
        self.out_channels = embedding_size or in_channels
        self.new_layers = ('embedding.',) if embedding_size else ()

    def construct(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        if self.layer_norm:
            x = ops.cast(x, ms.float32)
            x = x - ops.mean(x, 1, True)
            x = x / ops.sqrt(ops.mean(x * x, 1, True) + 1e-5)
        if self.embedding is not None:
            x = self.embedding(x)
        return unit_length(x) if self.unit_length else x


class Linear(Embedding):
    """Global average and a linear layer `embedding`, as in PaddleCV's metric learning."""

    def __init__(self, in_channels: int, embedding_size: int):
        super().__init__(in_channels, embedding_size, 'average', layer_norm=False, unit_length=False)


class Whitened(Head):
    """Global average; in evaluation at unit length, centred and whitened: (x / |x| - mean) W.

    `fit` computes mean and W from the training images, see src.common.whitening; before it, they are 0 and the
    identity. In training the output is the average, at unit length if unit_length is set.

    Args:
        in_channels: C of the map.
        shrinkage: positive; a larger value amplifies directions of small variance within classes less.
        unit_length: whether embeddings also have norm 1 in training, for losses of distances.
    """

    new_layers = ('whitening.',)
    fitted = True

    def __init__(self, in_channels: int, shrinkage: float = 0.1, unit_length: bool = False):
        super().__init__()
        if not 0 < shrinkage < float('inf'):
            raise InputError(f'shrinkage is {shrinkage}: give a positive number')
        self.shrinkage, self.unit_length = shrinkage, unit_length
        self.out_channels = in_channels
        self.mean = Parameter(np.zeros(in_channels, np.float32), 'whitening.mean', requires_grad=False)
        self.matrix = Parameter(np.eye(in_channels, dtype=np.float32), 'whitening.matrix', requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        x = average_pool(x)
        if self.training:
            return unit_length(x) if self.unit_length else x
        return ops.matmul(unit_length(x) - self.mean, self.matrix)

    def reset(self) -> None:
        """Let evaluation give x / |x| from now on."""
        self._set(np.zeros(self.out_channels), np.eye(self.out_channels))

    def fit(self, embeddings: NDArray[Any], labels: NDArray[Any]) -> None:
        """See Head.fit."""
        self._set(embeddings.mean(0), whitening(embeddings, np.unique(labels, return_inverse=True)[1], self.shrinkage))

    def _set(self, mean: NDArray[Any], matrix: NDArray[Any]) -> None:
        # Not set_data, which compiled graphs may not see.
        ops.assign(self.mean, Tensor(mean, ms.float32))
        ops.assign(self.matrix, Tensor(matrix, ms.float32))


class BatchNormNeck(nn.BatchNorm1d):
    """BatchNorm1d whose evaluation is written out: MindSpore 2.8's own has no usable ONNX export.

    Inputs and outputs: (N, D) float32.
    """

    def construct(self, x: Tensor) -> Tensor:
        if self.training:
            return super().construct(x)
        return (x - self.moving_mean) / ops.sqrt(self.moving_variance + self.eps) * self.gamma + self.beta


class Neck(Head):
    """Global average and a BatchNorm `neck` whose bias stays 0 (Luo et al., arXiv 1903.07071; CTL, arXiv 2104.13643).

    Outputs: in evaluation the neck's output (N, C) float32, the embedding for retrieval. In training, unless
        gives_feature is False, (feature, neck's output): the feature for the metric losses, the neck's output for the
        classifier.
    """

    new_layers = ('neck.',)
    gives_feature = True

    def __init__(self, in_channels: int):
        super().__init__()
        self.neck = BatchNormNeck(in_channels, eps=1e-5, momentum=0.9)
        self.neck.beta.requires_grad = False
        self.out_channels = in_channels

    def construct(self, x: Tensor) -> Any:
        feature = average_pool(x)
        embedding = self.neck(feature)
        return (feature, embedding) if self.training and self.gives_feature else embedding

"""Convolution that is fast on a CPU also where MindSpore's is not."""
from contextlib import contextmanager
from typing import Any, Iterator, Tuple

import mindspore as ms
import mindspore.nn as nn
from mindspore import Tensor, ops

from src.common.device import reference_convolutions

# Maps up to this side are one product of all images: a product for each image has too few columns to be fast.
LARGEST = 4


class Convolution(nn.Conv2d):
    """nn.Conv2d without bias, dilation and groups, with symmetric or 'same' padding.

    On a CPU, some convolutions are matrix products of the weight with the inputs that every output position sees (im2col),
    equal but for rounding: all of them where MindSpore's convolutions are slow (reference_convolutions), else those of small
    maps in training, because the gradient of MindSpore's convolution is slow there (benchmarks/resnet_step.py).

    Args:
        in_channels, out_channels, kernel, stride (int): kernel odd.
        padding (str): 'symmetric', kernel // 2 on all sides, or 'same', which puts the odd one at the end.
        weight_init (Initializer): of the weight (out_channels, in_channels, kernel, kernel).

    Attributes:
        by_products: whether to use products. all_by_products: whether for all maps.

    The inputs that the positions see are kept for the gradients: in ResNet50 about 58 MB for an image of 224 px
    (computed from the shapes).

    Inputs: (N, in_channels, H, W). Outputs: (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: str, weight_init: Any) -> None:
        where = {'pad_mode': 'same'} if padding == 'same' else {'pad_mode': 'pad', 'padding': kernel // 2}
        super().__init__(in_channels, out_channels, kernel, stride, has_bias=False, weight_init=weight_init, **where)
        self.side, self.step, self.same = kernel, stride, padding == 'same'
        self.by_products = ms.get_context('device_target') == 'CPU'
        self.all_by_products = self.by_products and reference_convolutions()
        self.product = ops.MatMul(transpose_b=True)
        # MindSpore computes it as one product for each image, without copies.
        self.pointwise = ops.Conv2D(out_channels, 1)

    def construct(self, x: Tensor) -> Tensor:
        count, height, width = x.shape[0], -(-x.shape[2] // self.step), -(-x.shape[3] // self.step)
        small = height <= LARGEST and width <= LARGEST
        if not (self.by_products and (self.all_by_products or self.training and small)):
            return self.conv2d(x, self.weight)
        columns = x if self.side == self.step == 1 else self._columns(x, height, width)
        weight = self.weight.reshape(self.out_channels, -1)
        if not small:
            return self.pointwise(columns.reshape(count, -1, height, width), weight.reshape(self.out_channels, -1, 1, 1))
        rows = ops.transpose(columns.reshape(count, -1, height * width), (0, 2, 1)).reshape(count * height * width, -1)
        rows = self.product(rows, weight).reshape(count, height * width, -1)
        return ops.transpose(rows, (0, 2, 1)).reshape(count, -1, height, width)

    def _columns(self, x: Tensor, height: int, width: int) -> Tensor:
        """(N, in_channels * kernel * kernel, height * width): the inputs that every output position sees."""
        if not self.same:
            return ops.unfold(x, self.side, 1, self.side // 2, self.step)
        around = self._same(x.shape[2], height), self._same(x.shape[3], width)
        return ops.unfold(ops.Pad(((0, 0), (0, 0), *around))(x), self.side, 1, 0, self.step)

    def _same(self, size: int, out: int) -> Tuple[int, int]:
        """Numbers of zeros before and after an axis."""
        total = max((out - 1) * self.step + self.side - size, 0)
        return total // 2, total - total // 2


@contextmanager
def plain_convolutions(network: nn.Cell) -> Iterator[None]:
    """Replace the convolutions of `network` by MindSpore's within the block, for an export."""
    cells = [cell for _, cell in network.cells_and_names() if isinstance(cell, Convolution) and cell.by_products]
    for cell in cells:
        cell.by_products = False
    try:
        yield
    finally:
        for cell in cells:
            cell.by_products = True

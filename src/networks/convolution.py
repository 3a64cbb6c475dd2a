"""Convolution that is fast on a CPU also where MindSpore's is not."""
from contextlib import contextmanager
from typing import Any, Iterator

import mindspore as ms
import mindspore.nn as nn
from mindspore import Tensor, ops

# Of maps up to this side, the gradients of MindSpore's own convolutions are slow on a CPU.
SMALL = 4


class Convolution(nn.Conv2d):
    """nn.Conv2d without bias, dilation and groups, with symmetric or 'same' padding.

    On a CPU it can be one matrix product of the weight with the inputs that every output position of every image sees (im2col),
    equal but for rounding. The images must then be the last axis, which lets a product have columns enough for any size of
    map. A network whose layers all allow that, as ResNet, keeps them there; elsewhere they are moved there and back, for small
    maps in training. Figures: benchmarks/resnet_step.py.

    Args:
        in_channels, out_channels, kernel, stride (int): kernel odd.
        padding (str): 'symmetric', kernel // 2 on all sides, or 'same', which puts the odd one at the end.
        weight_init (Initializer): of the weight (out_channels, in_channels, kernel, kernel).

    Attributes:
        by_products: whether small maps are products in training.

    The inputs that the positions see are kept for the gradients: in ResNet50 about 58 MB for an image of 224 px
    (computed from the shapes).

    Inputs: (N, in_channels, H, W), or with images = N as `images_last` gives them, (1, in_channels, H, W * N).
    Outputs: (N, out_channels, ceil(H / stride), ceil(W / stride)), or in the form of the inputs.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: str, weight_init: Any) -> None:
        where = {'pad_mode': 'same'} if padding == 'same' else {'pad_mode': 'pad', 'padding': kernel // 2}
        super().__init__(in_channels, out_channels, kernel, stride, has_bias=False, weight_init=weight_init, **where)
        self.side, self.step, self.same = kernel, stride, padding == 'same'
        self.by_products = ms.get_context('device_target') == 'CPU'
        self.product = ops.MatMul()    # ops.matmul makes a step of 1.4 times the time

    def construct(self, x: Tensor, images: int = 0) -> Tensor:
        if images:
            return self._product(x, images)
        if self.by_products and self.training and x.shape[2] <= SMALL * self.step and x.shape[3] <= SMALL * self.step:
            return images_first(self._product(images_last(x), x.shape[0]), x.shape[0])
        return self.conv2d(x, self.weight)

    def _product(self, x: Tensor, images: int) -> Tensor:
        height, width = (-(-size // self.step) for size in (x.shape[2], x.shape[3] // images))
        columns = x if self.side == self.step == 1 else self._columns(x, images)
        product = self.product(self.weight.reshape(self.out_channels, -1),
                               columns.reshape(self.in_channels * self.side ** 2, -1))
        return product.reshape(1, self.out_channels, height, width * images)

    def _columns(self, x: Tensor, images: int) -> Tensor:
        """(in_channels * kernel ** 2, positions, N), in another shape of that order: what the output positions see."""
        half, step = self.side // 2, self.step
        top, left = self._before(x.shape[2]), self._before(x.shape[3] // images)
        # ops.pad takes ten times as long.
        if top < half:
            x = ops.concat((x, ops.zeros((1, self.in_channels, 1, x.shape[3]), x.dtype)), 2)
        if x.shape[3] // images % step:
            x = ops.concat((x, ops.zeros((1, self.in_channels, x.shape[2], images), x.dtype)), 3)
        columns = ops.unfold(x, self.side, (1, images), (top, half * images), (step, 1))
        if step == 1:
            return columns
        # Unfold steps by values, not by positions, so that it takes every column; ops.slice is faster than x[::step].
        columns = columns.reshape(-1, x.shape[3] // images // step, step * images)
        return ops.slice(columns, (0, 0, (half - left) * images), (columns.shape[0], columns.shape[1], images))

    def _before(self, size: int) -> int:
        """The number of zeros before an axis."""
        total = max((-(-size // self.step) - 1) * self.step + self.side - size, 0)
        return total // 2 if self.same else self.side // 2


def images_last(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (1, C, H, W * N), which BatchNorm2d takes for one wide image."""
    return ops.transpose(x, (1, 2, 3, 0)).reshape(1, x.shape[1], x.shape[2], -1)


def images_first(x: Tensor, images: int) -> Tensor:
    """(1, C, H, W * N) -> (N, C, H, W) for images = N."""
    return ops.transpose(x.reshape(x.shape[1], x.shape[2], -1, images), (3, 0, 1, 2))


@contextmanager
def plain_convolutions(network: nn.Cell) -> Iterator[None]:
    """Replace the convolutions of `network` by MindSpore's within the block, for an export."""
    cells = [cell for _, cell in network.cells_and_names() if getattr(cell, 'by_products', False)]
    for cell in cells:
        cell.by_products = False
    try:
        yield
    finally:
        for cell in cells:
            cell.by_products = True

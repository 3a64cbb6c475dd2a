"""Convolution whose gradient is fast on a CPU even for small maps."""
from typing import Any, Tuple

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

# The gradient of MindSpore's convolution falls from 70-100 to 18 GFLOP/s on maps up to this side; on maps of 4 x 4 it is as
# fast as a product (benchmarks/resnet_step.py).
LARGEST = 2


def _span(at: int, stride: int, before: int, size: int, kernel: int) -> Tuple[int, int, int, int]:
    """Inputs and taps of an output position along one axis: (first input, end of inputs, first tap, end of taps)."""
    first = at * stride - before
    low, high = max(first, 0), min(first + kernel, size)
    return low, high, low - first, high - first


class Convolution(nn.Conv2d):
    """nn.Conv2d without bias, dilation and groups, with symmetric or 'same' padding.

    On a CPU, output maps of up to 2 x 2 in training are computed as matrix products, equal but for rounding. A 1 x 1 kernel is
    one product. A larger one is a product for each output position, of the inputs that it sees and the taps that it uses; a
    product with a matrix of 0 and 1 picks these taps, because its gradient is a product again.

    Args:
        in_channels, out_channels, kernel, stride (int): kernel odd.
        padding (str): 'symmetric', kernel // 2 on all sides, or 'same', which puts the odd one at the end.
        weight_init (Initializer): of the weight (out_channels, in_channels, kernel, kernel).

    Inputs: (N, in_channels, H, W). Outputs: (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: str, weight_init: Any) -> None:
        where = {'pad_mode': 'same'} if padding == 'same' else {'pad_mode': 'pad', 'padding': kernel // 2}
        super().__init__(in_channels, out_channels, kernel, stride, has_bias=False, weight_init=weight_init, **where)
        self.side, self.step, self.same = kernel, stride, padding == 'same'
        self.by_products = ms.get_context('device_target') == 'CPU'
        taps = kernel * kernel
        self.taps = Tensor(np.eye(taps, dtype=np.float32).reshape(kernel, kernel, taps))
        self.product = ops.MatMul(transpose_b=True)

    def construct(self, x: Tensor) -> Tensor:
        height, width = -(-x.shape[2] // self.step), -(-x.shape[3] // self.step)
        # Not in evaluation, where the convolution is fast.
        if self.by_products and self.training and height <= LARGEST and width <= LARGEST:
            if self.side == self.step == 1:
                rows = ops.transpose(x, (0, 2, 3, 1)).reshape(-1, self.in_channels)
                rows = self.product(rows, self.weight.reshape(self.out_channels, -1))
                return ops.transpose(rows.reshape(-1, height, width, self.out_channels), (0, 3, 1, 2))
            return self._by_position(x, height, width)
        return self.conv2d(x, self.weight)

    def _padding(self, size: int, out: int) -> Tuple[int, int]:
        """Numbers of zeros before and after an axis."""
        if self.same:
            total = max((out - 1) * self.step + self.side - size, 0)
            return total // 2, total - total // 2
        return self.side // 2, self.side // 2

    def _by_position(self, x: Tensor, height: int, width: int) -> Tensor:
        count, _, in_height, in_width = x.shape
        weight = self.weight.reshape(-1, self.side * self.side)
        above, before = self._padding(in_height, height)[0], self._padding(in_width, width)[0]
        outputs = ()
        for i in range(height):
            top, bottom, a, b = _span(i, self.step, above, in_height, self.side)
            for j in range(width):
                left, right, c, d = _span(j, self.step, before, in_width, self.side)
                taps = weight
                if b - a < self.side or d - c < self.side:
                    taps = self.taps[a:b, c:d].reshape(-1, self.side * self.side).astype(weight.dtype)
                    taps = self.product(weight, taps)
                seen = x[:, :, top:bottom, left:right].reshape(count, -1)
                outputs += (self.product(seen, taps.reshape(self.out_channels, -1)),)  # type: ignore[assignment]
        return ops.stack(outputs, 2).reshape(count, self.out_channels, height, width)

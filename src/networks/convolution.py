"""Convolution whose gradient is not slow on a CPU where maps are small."""
import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

# MindSpore's kernels fall from 70-100 to 18 GFLOP/s there; on maps of 4 x 4 they are as fast as a product
# (benchmarks/resnet_step.py).
LARGEST = 2


def _span(at, stride, before, size, kernel):
    """What an output position sees along one axis: (first and end of the inputs, first and end of the taps)."""
    first = at * stride - before
    low, high = max(first, 0), min(first + kernel, size)
    return low, high, low - first, high - first


class Convolution(nn.Conv2d):
    """nn.Conv2d without bias, dilation and groups, with symmetric or 'same' padding.

    In a training on a CPU output maps of up to 2 x 2 are computed as matrix products, equal but for rounding. A 1 x 1
    kernel is one product. A larger one is a product for each output position, of the inputs it sees with the taps it
    uses; these are picked by a product with a matrix of 0 and 1, whose gradient is a product again.

    Args:
        in_channels, out_channels, kernel, stride (int): kernel odd.
        padding (str): 'symmetric', kernel // 2 on all sides, or 'same', which puts the odd one at the end.
        weight_init (Initializer): of the weight (out_channels, in_channels, kernel, kernel).

    Inputs: (N, in_channels, H, W). Outputs: (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels, out_channels, kernel, stride, padding, weight_init):
        where = {'pad_mode': 'same'} if padding == 'same' else {'pad_mode': 'pad', 'padding': kernel // 2}
        super().__init__(in_channels, out_channels, kernel, stride, has_bias=False, weight_init=weight_init, **where)
        self.side, self.step, self.same = kernel, stride, padding == 'same'
        self.by_products = ms.get_context('device_target') == 'CPU'
        taps = kernel * kernel
        self.taps = Tensor(np.eye(taps, dtype=np.float32).reshape(kernel, kernel, taps))
        self.product = ops.MatMul(transpose_b=True)

    def construct(self, x):
        height, width = -(-x.shape[2] // self.step), -(-x.shape[3] // self.step)
        # Not in evaluation, whose graph is exported for any batch.
        if not (self.training and self.by_products and height <= LARGEST and width <= LARGEST):
            return self.conv2d(x, self.weight)
        if self.side == self.step == 1:
            rows = ops.transpose(x, (0, 2, 3, 1)).reshape(-1, self.in_channels)
            rows = self.product(rows, self.weight.reshape(self.out_channels, -1))
            return ops.transpose(rows.reshape(-1, height, width, self.out_channels), (0, 3, 1, 2))
        return self._by_position(x, height, width)

    def _before(self, size, out):
        if self.same:
            return max((out - 1) * self.step + self.side - size, 0) // 2
        return self.side // 2

    def _by_position(self, x, height, width):
        count, _, in_height, in_width = x.shape
        weight = self.weight.reshape(-1, self.side * self.side)
        outputs = ()
        for i in range(height):
            top, bottom, a, b = _span(i, self.step, self._before(in_height, height), in_height, self.side)
            for j in range(width):
                left, right, c, d = _span(j, self.step, self._before(in_width, width), in_width, self.side)
                taps = weight
                if b - a < self.side or d - c < self.side:
                    taps = self.taps[a:b, c:d].reshape(-1, self.side * self.side).astype(weight.dtype)
                    taps = self.product(weight, taps)
                seen = x[:, :, top:bottom, left:right].reshape(count, -1)
                outputs += (self.product(seen, taps.reshape(self.out_channels, -1)),)
        return ops.stack(outputs, 2).reshape(count, self.out_channels, height, width)

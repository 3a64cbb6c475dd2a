"""Convolutions as matrix products with the inputs of all positions side by side (im2col) against MindSpore's, on a CPU.

    python benchmarks/columns.py                         # without MindSpore's where they take 60 times as long
    python benchmarks/columns.py --instructions=AVX2     # the limit that src.common.device sets

Printed are milliseconds of the processor for the output and for the gradients of input and weight. The gradients make the
columns again; a training would keep them. A 1 x 1 convolution of stride 1 is MindSpore's alone.

- product: of the weight with the columns of all images as one matrix, which costs two transpositions.
- product an image: of the weight with the columns of every image, which repeats the weight.
"""
import os

import mindspore as ms
import numpy as np
import tools
from mindspore import Parameter, Tensor, nn, ops

from src.common.device import reference_convolutions

# Images, inputs, outputs, kernel, stride, side: of ResNet50 at 64 px and at 224 px.
SIZES = ((32, 3, 64, 7, 2, 64), (32, 64, 64, 3, 1, 16), (32, 128, 128, 3, 1, 8), (32, 256, 256, 3, 1, 4),
         (32, 256, 64, 1, 1, 16), (8, 64, 64, 3, 1, 56), (8, 128, 128, 3, 1, 28), (8, 512, 512, 3, 1, 7))


class Convolution(nn.Cell):
    """A convolution with symmetric padding, computed in one of the ways."""

    def __init__(self, way, inputs, outputs, kernel, stride):
        super().__init__()
        self.way, self.outputs, self.kernel, self.stride = way, outputs, kernel, stride
        weight = np.random.default_rng(0).standard_normal((outputs, inputs, kernel, kernel))
        self.weight = Parameter(Tensor(weight, ms.float32))
        self.plain = ops.Conv2D(outputs, kernel, pad_mode='pad', pad=kernel // 2, stride=stride)

    def construct(self, x):
        if self.way == 'MindSpore':
            return self.plain(x, self.weight)
        count, height, width = x.shape[0], -(-x.shape[2] // self.stride), -(-x.shape[3] // self.stride)
        columns = ops.unfold(x, self.kernel, 1, self.kernel // 2, self.stride)
        weight = self.weight.reshape(self.outputs, -1)
        if self.way == 'product an image':
            weight = ops.broadcast_to(weight.expand_dims(0), (count, *weight.shape))
            return ops.BatchMatMul()(weight, columns).reshape(count, self.outputs, height, width)
        columns = ops.transpose(columns, (1, 0, 2)).reshape(weight.shape[1], -1)
        return ops.transpose(ops.MatMul()(weight, columns).reshape(self.outputs, count, height, width), (1, 0, 2, 3))


class Gradients(nn.Cell):
    """Gradients of input and weight."""

    def __init__(self, cell):
        super().__init__(auto_prefix=False)
        self.cell = cell
        self.derive = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)(cell, cell.trainable_params())

    def construct(self, x, to_output):
        return self.derive(x, to_output)


def main():
    args = tools.parser(__doc__, instructions='DEFAULT', rounds=5).parse_args()
    os.environ['ONEDNN_MAX_CPU_ISA'] = args.instructions
    ms.set_device('CPU')
    ms.set_context(mode=ms.GRAPH_MODE)
    rng = np.random.default_rng(0)
    for count, inputs, outputs, kernel, stride, side in SIZES:
        x = Tensor(rng.standard_normal((count, inputs, side, side)), ms.float32)
        plain = kernel == 1 or not reference_convolutions()
        ways, expected = {}, None
        for way in ['MindSpore'] * plain + ['product', 'product an image'] * (kernel > 1):
            cell = Convolution(way, inputs, outputs, kernel, stride)
            output = cell(x)
            if expected is not None:
                np.testing.assert_allclose(output.asnumpy(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
            expected = output.asnumpy()
            gradients = Gradients(cell)
            ways[way] = lambda cell=cell, x=x: cell(x).asnumpy()
            ways[f'{way}, gradients'] = (lambda gradients=gradients, x=x, output=output:
                                         [part[0].asnumpy() for part in gradients(x, output)])
        taken = tools.in_turns(ways, args.rounds)
        shown = ', '.join(f'{way} {taken[way].cpu * 1e3:.1f} + {taken[f"{way}, gradients"].cpu * 1e3:.1f}'
                          for way in ways if 'gradients' not in way)
        print(f'{count} images, {inputs} to {outputs}, {kernel} x {kernel}, stride {stride}, {side} x {side}: {shown}',
              flush=True)


if __name__ == '__main__':
    main()

"""Convolution as products against loops over positions and taps, and its gradients against MindSpore's."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from src.networks.convolution import Convolution, images_first, images_last


def naive(x, weight, stride, padding):
    """(N, C, H, W), (O, C, k, k) -> (N, O, ceil(H / stride), ceil(W / stride))."""
    n, _, height, width = x.shape
    k = weight.shape[-1]
    out = [-(-size // stride) for size in (height, width)]
    before = [max((o - 1) * stride + k - size, 0) // 2 if padding == 'same' else k // 2
              for o, size in zip(out, (height, width))]
    result = np.zeros((n, weight.shape[0], *out))
    for i in range(out[0]):
        for j in range(out[1]):
            for a in range(k):
                for b in range(k):
                    row, column = i * stride - before[0] + a, j * stride - before[1] + b
                    if 0 <= row < height and 0 <= column < width:
                        result[:, :, i, j] += x[:, :, row, column] @ weight[:, :, a, b].T
    return result


class ImagesLast(nn.Cell):
    """A convolution between the two forms of images."""

    def __init__(self, cell):
        super().__init__(auto_prefix=False)
        self.cell = cell

    def construct(self, x):
        return images_first(self.cell(images_last(x), x.shape[0]), x.shape[0])


def gradients(cell, x, factor, calls=1):
    """(outputs, gradients to the input and to the weight) of the sum of outputs times a factor, in the last of its calls."""
    class Sum(nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.cell = cell
            self.grad = ops.value_and_grad(self.total, 0, ms.ParameterTuple(cell.trainable_params()))

        def total(self, x):
            return ops.ReduceSum()(self.cell(x) * factor)

        def construct(self, x):
            return self.grad(x)

    total = Sum()
    for _ in range(calls):
        _, (to_x, (to_weight,)) = total(x)
    return cell(x).asnumpy(), to_x.asnumpy(), to_weight.asnumpy()


@pytest.mark.parametrize('padding', ['symmetric', 'same'])
@pytest.mark.parametrize('size, kernel, stride', [((5, 6), 3, 2), ((5, 6), 7, 2), ((6, 5), 1, 2),
                                                  ((2, 2), 3, 1), ((2, 1), 3, 1), ((1, 1), 3, 1), ((4, 3), 3, 2),
                                                  ((3, 4), 1, 2), ((2, 2), 1, 1), ((3, 3), 3, 1), ((2, 2), 7, 2),
                                                  ((5, 6), 3, 1), ((9, 10), 3, 2), ((11, 10), 1, 2), ((5, 5), 1, 1)])
def test_all_ways_are_the_same_convolution(padding, size, kernel, stride):
    rng = np.random.default_rng(0)
    cell = Convolution(3, 5, kernel, stride, padding, Normal(0.5))
    x = Tensor(rng.standard_normal((2, 3, *size)).astype(np.float32))
    expected = naive(x.asnumpy(), cell.weight.asnumpy().astype(np.float64), stride, padding)
    factor = Tensor(rng.standard_normal(expected.shape).astype(np.float32))
    results = []
    for way, by_products in ((cell, True), (ImagesLast(cell), True), (cell, False)):
        cell.set_train().by_products = by_products
        results.append(gradients(way, x, factor))
        np.testing.assert_allclose(results[-1][0], expected, rtol=1e-5, atol=1e-5)
    for ours, others, mindspores in zip(*results):
        np.testing.assert_allclose(ours, mindspores, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(others, mindspores, rtol=1e-5, atol=1e-5)


@pytest.mark.graph
def test_later_calls_of_a_graph():
    """MindSpore has operators whose gradient is right in the first call of a graph only."""
    cell = ImagesLast(Convolution(3, 5, 3, 2, 'same', Normal(0.5))).set_train()
    rng = np.random.default_rng(0)
    x, factor = (Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in ((2, 3, 10, 9), (2, 5, 5, 5)))
    expected = gradients(cell, x, factor)
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        found = gradients(cell, x, factor, calls=4)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_float16_and_the_name_of_its_parameter():
    cell = Convolution(4, 4, 3, 1, 'symmetric', Normal(0.5)).to_float(ms.float16)
    cell.set_train()
    assert [p.name for p in cell.get_parameters()] == ['weight']
    x = Tensor(np.ones((2, 4, 2, 2), np.float32))
    expected = naive(x.asnumpy(), cell.weight.asnumpy(), 1, 'symmetric')
    np.testing.assert_allclose(cell(x).asnumpy(), expected, rtol=1e-2, atol=1e-2)

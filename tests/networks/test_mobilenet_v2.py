"""MobileNetV2 against a forward pass in plain numpy that follows torchvision's names; real weights against PyTorch by hand."""
import re
import subprocess
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

from src.checkpoints.engine import has_onnxruntime, open_onnx, write_onnx
from src.checkpoints.weights import load_weights
from src.common.errors import InputError
from src.networks import create_network, mobilenet_v2
from src.networks.folding import fold_batch_norm
from src.networks.mobilenet_v2 import MobileNetV2
from tests.networks.resnet_oracle import assert_close, images_of

WEIGHTS = Path(__file__).parents[3] / 'shared/data/weights/mobilenet_v2.pth'
BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
TORCH = Path.home() / '.cache/torch-peer/bin/python'
# Of the small one: expansion, channels, blocks, stride.
STAGES = ((1, 4, 1, 1), (6, 6, 2, 2), (2, 8, 1, 2))


def torchvision_shapes(stages, stem, last):
    """Name and shape of every value of torchvision's `features`, written out."""
    shapes = {}

    def layer(conv, norm, out, per_group, kernel):
        shapes[f'{conv}.weight'] = (out, per_group, kernel, kernel)
        shapes.update({f'{norm}.{kind}': (out,) for kind in ('weight', 'bias', 'running_mean', 'running_var')})
    layer('features.0.0', 'features.0.1', stem, 3, 3)
    number, before = 1, stem
    for expansion, channels, blocks, _ in stages:
        for _ in range(blocks):
            at, wide = f'features.{number}.conv', before * expansion
            if expansion > 1:
                layer(f'{at}.0.0', f'{at}.0.1', wide, before, 1)
            i = int(expansion > 1)
            layer(f'{at}.{i}.0', f'{at}.{i}.1', wide, 1, 3)
            layer(f'{at}.{i + 1}', f'{at}.{i + 2}', channels, wide, 1)
            number, before = number + 1, channels
    layer(f'features.{number}.0', f'features.{number}.1', last, before, 1)
    return shapes


def random_weights(stages, stem, last):
    rng, weights = np.random.default_rng(3), {}
    for name, shape in torchvision_shapes(stages, stem, last).items():
        if len(shape) == 4:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith('running_var'):
            value = rng.uniform(0.5, 2, shape)
        else:
            value = rng.uniform(0.5, 1.5, shape) if name.endswith('.weight') else rng.normal(0, 0.3, shape)
        weights[name] = value.astype(np.float32)
    return weights


def numpy_map(weights, images, stages):
    """The definition in float64: loops over taps; groups are told from the weight's shape."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def conv(x, name, stride=1):
        kernel = w[name + '.weight']
        side = kernel.shape[-1]
        x = np.pad(x, [(0, 0), (0, 0)] + [(side // 2, side // 2)] * 2)
        high, wide = ((n - side) // stride + 1 for n in x.shape[2:])
        how = 'oc,nchw->nohw' if kernel.shape[1] == x.shape[1] else 'ox,nohw->nohw'
        return sum(np.einsum(how, kernel[:, :, i, j], x[:, :, i:i + stride * high:stride, j:j + stride * wide:stride])
                   for i in range(side) for j in range(side))

    def norm(x, name):
        gamma, beta, mean, variance = (w[f'{name}.{kind}'][:, None, None]
                                       for kind in ('weight', 'bias', 'running_mean', 'running_var'))
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def layer(x, name, stride=1):
        return np.clip(norm(conv(x, f'{name}.0', stride), f'{name}.1'), 0, 6)
    x, number = layer(images.astype(np.float64), 'features.0', 2), 1
    for expansion, _, blocks, stride in stages:
        for block in range(blocks):
            at, y, i = f'features.{number}.conv', x, 0
            if expansion > 1:
                y, i = layer(y, f'{at}.0'), 1
            y = layer(y, f'{at}.{i}', stride if block == 0 else 1)
            y = norm(conv(y, f'{at}.{i + 1}'), f'{at}.{i + 2}')
            x, number = x + y if x.shape == y.shape else y, number + 1
    return layer(x, f'features.{number}')


@pytest.fixture
def small(monkeypatch):
    """-> function(options) -> a small network, with the weights of the oracle."""
    monkeypatch.setattr(mobilenet_v2, 'STAGES', STAGES)
    monkeypatch.setattr(mobilenet_v2, 'STEM', 8)
    monkeypatch.setattr(mobilenet_v2, 'OUT_CHANNELS', 16)
    weights = random_weights(STAGES, 8, 16)

    def build(**options):
        network = MobileNetV2(**options)
        parameters = {p.name: p for p in network.get_parameters()}
        assert len(parameters) == len(weights)
        norms = {name.rpartition('.')[0] for name in weights if name.endswith('running_mean')}
        for name, value in weights.items():
            module, _, kind = name.rpartition('.')
            ours = {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'moving_mean', 'running_var': 'moving_variance'}
            parameters[f'{module}.{ours[kind] if module in norms else kind}'].set_data(Tensor(value))
        return network, weights
    return build


def test_names_and_shapes_are_torchvisions():
    network = create_network('mobilenet_v2')
    expected = torchvision_shapes(mobilenet_v2.STAGES, 32, 1280)
    assert sorted(p.shape for p in network.get_parameters()) == sorted(expected.values())
    assert {re.sub(r'\.(gamma|beta|moving_\w+|weight)$', '', p.name) for p in network.get_parameters()} == {
        name.rpartition('.')[0] for name in expected}
    assert sum(p.size for p in network.trainable_params()) == 2_223_872  # torchvision's 3,504,872 less the classifier
    assert (network.out_channels, network.backbone.input_size) == (1280, 224)


@pytest.mark.parametrize('height, width', [(32, 32), (37, 50)])
def test_output_is_the_definition(small, height, width):
    network, weights = small()
    images = images_of(height, width)
    expected = numpy_map(weights, images, STAGES)
    out = network.set_train(False)(Tensor(images)).asnumpy()
    assert out.shape == expected.shape and out.dtype == np.float32
    assert_close(out, expected)
    assert_close(fold_batch_norm(network)(Tensor(images)).asnumpy(), expected)
    half = amp.auto_mixed_precision(small()[0].set_train(False), 'O2')(Tensor(images)).asnumpy().astype(np.float32)
    assert np.abs(half - expected).max() < 0.03 * np.abs(expected).max()


class Gradients(nn.Cell):
    def __init__(self, network, factors, parameters):
        super().__init__(auto_prefix=False)
        self.network, self.factors = network, factors
        self.grad = ops.grad(self.total, None, ms.ParameterTuple(parameters))

    def total(self, images):
        return (self.network(images) * self.factors).sum()

    def construct(self, images):
        return self.grad(images)


@pytest.mark.graph
def test_gradients_of_a_whole_network_in_a_graph(small):
    """Against differences of the definition, of the first layer and of depthwise layers, which the most lies behind."""
    network, weights = small(frozen_batch_norm=True)
    images = images_of(16, 16)
    out = numpy_map(weights, images, STAGES)
    factors = np.random.default_rng(0).normal(size=out.shape)

    def loss(weights):
        return (numpy_map(weights, images, STAGES) * factors).sum()
    network.set_train()
    parameters = {p.name: p for p in network.trainable_params()}
    names = ('features.0.0.weight', 'features.1.conv.0.0.weight', 'features.2.conv.1.0.weight', 'features.3.conv.1.0.weight')
    gradients = Gradients(network, Tensor(factors, ms.float32), [parameters[name] for name in names])(Tensor(images))
    rng = np.random.default_rng(1)
    for name, gradient in zip(names, gradients):
        direction, found = rng.normal(size=gradient.shape), gradient.asnumpy()
        step = 1e-6
        ends = [loss({**weights, name: weights[name].astype(np.float64) + sign * step * direction}) for sign in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * step)
        assert abs((found * direction).sum() - expected) < 1e-3 * np.linalg.norm(found) * np.linalg.norm(direction)


def test_frozen_layers_keep_all_their_values(small):
    network, _ = small(frozen_layers=3)
    network.set_train()
    before = {p.name: p.asnumpy().copy() for p in network.get_parameters()}
    assert not [p.name for p in network.trainable_params() if p.name.startswith(('features.0.', 'features.1.', 'features.2.'))]
    network(Tensor(images_of(32, 32)))
    moved = {p.name.split('.')[1] for p in network.get_parameters() if (p.asnumpy() != before[p.name]).any()}
    assert moved == {'3', '4', '5'}
    with pytest.raises(InputError, match='frozen_layers is 7: give a number from 0 to 6'):
        small(frozen_layers=7)


@pytest.mark.graph
@pytest.mark.skipif(not has_onnxruntime(), reason='needs onnxruntime')
def test_onnx_is_equal(small, tmp_path):
    network, weights = small()
    network.set_train(False)
    images = images_of(32, 32)
    write_onnx(network, [(3, 32, 32)], 0, tmp_path / 'a.onnx')
    assert_close(open_onnx(str(tmp_path / 'a.onnx'))[0](images), numpy_map(weights, images, STAGES))


@pytest.mark.skipif(not WEIGHTS.is_file(), reason='needs the real weights')
def test_real_weights_fit():
    network = create_network('mobilenet_v2')
    report = load_weights(network, WEIGHTS)
    assert len(report.loaded) == 260 and not report.dropped and not report.untouched


PEER = '''
import sys, numpy as np, torch, torch_peer
network = torch_peer.MobileNetV2().eval()
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
with torch.no_grad():
    np.save(sys.argv[2], network(torch.from_numpy(np.load(sys.argv[2]))).numpy())
'''


@pytest.mark.by_hand
@pytest.mark.skipif(not (WEIGHTS.is_file() and TORCH.exists()), reason='needs PyTorch and the real weights')
def test_real_weights_as_pytorch(tmp_path):
    network = create_network('mobilenet_v2').set_train(False)
    load_weights(network, WEIGHTS)
    images = images_of(128, 96, 4)
    np.save(tmp_path / 'x.npy', images)
    subprocess.run([TORCH, '-c', PEER, WEIGHTS, tmp_path / 'x.npy'], check=True, env={'PYTHONPATH': str(BENCHMARKS)})
    assert_close(network(Tensor(images)).asnumpy(), np.load(tmp_path / 'x.npy'))

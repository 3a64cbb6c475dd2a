"""ResNet and its heads against a forward pass in plain numpy; torchvision's names are written out here."""
import mindspore as ms
import numpy as np
import pytest

from src.errors import InputError
from src.networks import create_network
from src.networks.heads import EmbeddingNetwork, ReidNetwork
from src.networks.resnet import ResNet

ms.set_device('CPU')

BLOCKS = {'resnet50': (3, 4, 6, 3), 'resnet101': (3, 4, 23, 3), 'resnet152': (3, 8, 36, 3)}
BACKBONE_SIZE = {'resnet50': 23_508_032, 'resnet101': 42_500_160, 'resnet152': 58_143_808}  # torchvision's less fc


def torchvision_shapes(blocks):
    """Name and shape of every value in torchvision's bottleneck ResNet without fc."""
    shapes = {}

    def conv(name, out_channels, in_channels, kernel):
        shapes[name + '.weight'] = (out_channels, in_channels, kernel, kernel)

    def norm(name, channels):
        for kind in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{name}.{kind}'] = (channels,)
    conv('conv1', 64, 3, 7)
    norm('bn1', 64)
    width = 64
    for stage, (number, planes) in enumerate(zip(blocks, (64, 128, 256, 512)), 1):
        for block in range(number):
            prefix = f'layer{stage}.{block}.'
            for i, (out_channels, in_channels, kernel) in enumerate(
                    ((planes, width, 1), (planes, planes, 3), (4 * planes, planes, 1)), 1):
                conv(f'{prefix}conv{i}', out_channels, in_channels, kernel)
                norm(f'{prefix}bn{i}', out_channels)
            if block == 0:
                conv(prefix + 'downsample.0', 4 * planes, width, 1)
                norm(prefix + 'downsample.1', 4 * planes)
            width = 4 * planes
    return shapes


def to_mindspore(name):
    parent, kind = name.rsplit('.', 1)
    is_norm = parent.split('.')[-1].startswith('bn') or parent.endswith('downsample.1')
    if is_norm:
        kind = {'weight': 'gamma', 'bias': 'beta',
                'running_mean': 'moving_mean', 'running_var': 'moving_variance'}[kind]
    return parent.replace('downsample', 'down_sample_layer') + '.' + kind


def random_weights(blocks, seed=0):
    """Float32 values under torchvision's names with activations of order 1 and every BatchNorm term in play."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in torchvision_shapes(blocks).items():
        if len(shape) == 4:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith('running_var'):
            value = rng.uniform(0.5, 2, shape)
        elif name.endswith('.weight'):
            value = rng.uniform(0.3, 0.8, shape)
        else:
            value = rng.normal(0, 0.3, shape)
        weights[name] = value.astype(np.float32)
    return weights


def pad(x, kernel, stride, padding, fill=0.0):
    widths = []
    for n in x.shape[2:]:
        if padding == 'same':
            total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
            widths.append((total // 2, total - total // 2))
        else:
            widths.append((kernel // 2, kernel // 2))
    return np.pad(x, [(0, 0), (0, 0)] + widths, constant_values=fill)


def windows(x, kernel, stride, padding, fill=0.0):
    """For every offset (i, j) within the kernel, the padded input at that offset of every window."""
    x = pad(x, kernel, stride, padding, fill)
    high, wide = ((n - kernel) // stride + 1 for n in x.shape[2:])
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, x[:, :, i:i + stride * high:stride, j:j + stride * wide:stride]


def numpy_resnet(w, images, blocks, padding, eps, last_stride=2, stem_relu=True):
    w = {name: value.astype(np.float64) for name, value in w.items()}

    def conv(x, name, stride=1):
        kernel = w[name + '.weight'].shape[-1]
        return sum(np.einsum('oc,nchw->nohw', w[name + '.weight'][:, :, i, j], part, optimize=True)
                   for i, j, part in windows(x, kernel, stride, padding))

    def norm(x, name):
        gamma, beta, mean, variance = (w[f'{name}.{kind}'][:, None, None]
                                       for kind in ('weight', 'bias', 'running_mean', 'running_var'))
        return (x - mean) / np.sqrt(variance + eps) * gamma + beta
    x = norm(conv(images.astype(np.float64), 'conv1', 2), 'bn1')
    if stem_relu:
        x = np.maximum(x, 0)
    x = np.max([part for _, _, part in windows(x, 3, 2, padding, -np.inf)], axis=0)
    for stage, stride in enumerate((1, 2, 2, last_stride), 1):
        for block in range(blocks[stage - 1]):
            name, step = f'layer{stage}.{block}', stride if block == 0 else 1
            y = np.maximum(norm(conv(x, name + '.conv1'), name + '.bn1'), 0)
            y = np.maximum(norm(conv(y, name + '.conv2', step), name + '.bn2'), 0)
            y = norm(conv(y, name + '.conv3'), name + '.bn3')
            short = norm(conv(x, name + '.downsample.0', step), name + '.downsample.1') if block == 0 else x
            x = np.maximum(y + short, 0)
    return x.mean((2, 3))


def set_weights(network, weights):
    parameters = {p.name: p for p in network.get_parameters()}
    for name, value in weights.items():
        parameters[to_mindspore(name)].set_data(ms.Tensor(value))


def images_of(height, width, n=2):
    return np.random.default_rng(5).normal(0, 1, (n, 3, height, width)).astype(np.float32)


def assert_close(out, expected):
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize('name', sorted(BLOCKS))
def test_names_shapes_and_count(name):
    network = create_network(name)
    expected = {to_mindspore(key): shape for key, shape in torchvision_shapes(BLOCKS[name]).items()}
    assert {p.name: p.shape for p in network.get_parameters()} == expected
    trainable = network.trainable_params()
    assert sum(p.size for p in trainable) == BACKBONE_SIZE[name]
    convolutions = 3 * sum(BLOCKS[name]) + 5
    assert len(trainable) == 3 * convolutions


def test_initial_weights():
    values = {p.name: p.asnumpy() for p in ResNet((1, 1, 1, 1)).get_parameters()}
    for name, value in values.items():
        if value.ndim == 4:
            deviation = np.sqrt(2 / (value.shape[0] * value.shape[2] * value.shape[3]))
            assert abs(value.std() / deviation - 1) < 0.1, name
        else:
            one = name.endswith(('moving_variance', 'gamma')) and not name.endswith('bn3.gamma')
            assert (value == (1 if one else 0)).all(), name


@pytest.mark.parametrize('padding,last_stride,stem_relu,height,width', [
    ('same', 2, True, 64, 64), ('symmetric', 2, True, 64, 64), ('same', 2, True, 57, 70),
    ('symmetric', 2, True, 57, 70), ('symmetric', 1, False, 64, 32), ('same', 1, False, 61, 33)])
def test_output_is_the_definition(padding, last_stride, stem_relu, height, width):
    blocks = (1, 1, 1, 1)
    weights, images = random_weights(blocks), images_of(height, width)
    network = ResNet(blocks, padding, 1e-2, last_stride, stem_relu)
    set_weights(network, weights)
    expected = numpy_resnet(weights, images, blocks, padding, 1e-2, last_stride, stem_relu)
    assert_close(network(ms.Tensor(images)).asnumpy(), expected)
    other = {'same': 'symmetric', 'symmetric': 'same'}[padding]
    changed = numpy_resnet(weights, images, blocks, other, 1e-2, last_stride, stem_relu)
    assert np.abs(changed - expected).max() > 1e-2 * np.abs(expected).max() or height % 2


@pytest.mark.parametrize('mode', [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_resnet50_whole_in_both_modes(mode):
    weights, images = random_weights(BLOCKS['resnet50']), images_of(64, 64)
    ms.set_context(mode=mode)
    try:
        network = create_network('resnet50')
        set_weights(network, weights)
        out = network(ms.Tensor(images)).asnumpy()
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert out.shape == (2, 2048) and out.dtype == np.float32
    assert_close(out, numpy_resnet(weights, images, BLOCKS['resnet50'], 'same', 1e-4))


def test_training_moves_the_statistics_by_a_tenth():
    network = ResNet((1, 1, 1, 1))
    images = ms.Tensor(images_of(64, 64))
    batch_mean = network.conv1(images).asnumpy().mean((0, 2, 3))
    network.set_train()
    network(images)
    np.testing.assert_allclose(network.bn1.moving_mean.asnumpy(), 0.1 * batch_mean, rtol=1e-3, atol=1e-5)


def test_unknown_padding():
    with pytest.raises(InputError, match="'valid'.*'same' or 'symmetric'"):
        create_network('resnet50', padding='valid')


def test_embedding_is_linear_and_keeps_the_backbones_names():
    blocks = (1, 1, 1, 1)
    backbone = ResNet(blocks)
    names = {p.name for p in backbone.get_parameters()}
    network = EmbeddingNetwork(backbone, 16)
    assert {p.name for p in network.get_parameters()} == names | {'embedding.weight', 'embedding.bias'}
    set_weights(network, random_weights(blocks))
    network.embedding.bias.set_data(ms.Tensor(np.arange(16, dtype=np.float32)))
    images = ms.Tensor(images_of(64, 64))
    feature = backbone(images).asnumpy()
    expected = feature @ network.embedding.weight.asnumpy().T + np.arange(16)
    assert_close(network(images).asnumpy(), expected)
    assert create_network('resnet50', embedding_size=7).out_channels == 7


def test_reid_neck_in_training_and_evaluation():
    network = ReidNetwork(ResNet((1, 1, 1, 1), 'symmetric', 1e-5, 1, False))
    set_weights(network, random_weights((1, 1, 1, 1)))
    rng = np.random.default_rng(3)
    gamma, mean, variance = (rng.uniform(0.5, 2, 2048).astype(np.float32) for _ in range(3))
    network.neck.gamma.set_data(ms.Tensor(gamma))
    images = ms.Tensor(images_of(64, 32, 4))

    network.set_train()
    feature, embedding = (out.asnumpy().astype(np.float64) for out in network(images))
    expected = (feature - feature.mean(0)) / np.sqrt(feature.var(0) + 1e-5) * gamma
    np.testing.assert_allclose(embedding, expected, rtol=1e-3, atol=1e-3)

    network.set_train(False)
    network.neck.moving_mean.set_data(ms.Tensor(mean))
    network.neck.moving_variance.set_data(ms.Tensor(variance))
    feature = network.backbone(images).asnumpy().astype(np.float64)
    assert_close(network(images).asnumpy(), (feature - mean) / np.sqrt(variance + 1e-5) * gamma)


def test_reid_trains_everything_but_the_necks_bias():
    network = create_network('resnet50_reid')
    assert {p.name for p in network.get_parameters()} - {p.name for p in network.trainable_params()} >= {'neck.beta'}
    assert len(network.trainable_params()) == 159 + 1
    assert network.backbone.layer4[0].conv2.stride == (1, 1)
    assert network.backbone.layer4[0].down_sample_layer[0].stride == (1, 1)


def test_gradients_of_the_neck_network_against_finite_differences():
    network = ReidNetwork(ResNet((1, 1, 1, 1), 'symmetric', 1e-5, 1, False))
    set_weights(network, random_weights((1, 1, 1, 1)))
    network.set_train()
    images = ms.Tensor(images_of(32, 32, 4))
    direction = ms.Tensor(np.random.default_rng(8).normal(0, 1, (4, 2048)).astype(np.float32))

    def loss_of():
        feature, embedding = network(images)
        return (direction * (feature + embedding)).sum()
    wanted = [network.neck.gamma, network.backbone.layer4[0].bn3.gamma]
    gradients = ms.value_and_grad(loss_of, None, ms.ParameterTuple(wanted))()[1]
    for parameter, gradient in zip(wanted, gradients):
        value, gradient = parameter.asnumpy(), gradient.asnumpy()
        step = 0.01 * np.sign(gradient)
        ends = []
        for sign in (1, -1):
            parameter.set_data(ms.Tensor((value + sign * step).astype(np.float32)))
            ends.append(float(loss_of().asnumpy()))
        parameter.set_data(ms.Tensor(value))
        assert (ends[0] - ends[1]) / 2 == pytest.approx(float((gradient * step).sum()), rel=0.02)


@pytest.mark.parametrize('head', ['embedding', 'reid'])
def test_exported_onnx_gives_the_networks_output(head, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    blocks = (1, 1, 1, 1)
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        network = EmbeddingNetwork(ResNet(blocks), 8) if head == 'embedding' else ReidNetwork(
            ResNet(blocks, 'symmetric', 1e-5, 1, False))
        set_weights(network, random_weights(blocks))
        network.set_train(False)
        images = images_of(64, 32)
        expected = network(ms.Tensor(images)).asnumpy()
        ms.onnx.export(network, ms.Tensor(images), file_name=str(tmp_path / 'net'))
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    session = onnxruntime.InferenceSession(str(tmp_path / 'net.onnx'))
    outputs = session.run(None, {session.get_inputs()[0].name: images})
    assert len(outputs) == 1
    assert_close(outputs[0], expected)

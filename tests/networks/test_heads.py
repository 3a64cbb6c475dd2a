"""Heads against numpy, their gradients against finite differences, and every network exported."""
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest

from src.common.errors import InputError
from src.common.registry import loader
from src.networks import BACKBONES, HEADS, create_image_network, create_network
from src.networks.backbone import Backbone
from src.networks.convolution import plain_convolutions
from src.networks.heads import Embedding, Head, ImageNetwork, Linear, Neck, NoHead, Whitened, gem_pool
from src.training.precision import mixed_precision
from tests.networks.networks_small import FEATURES, WIDTH, Small, set_weights, small, small_weights
from tests.networks.resnet_oracle import assert_close, images_of, numpy_resnet


def maps(n=3, channels=5, height=2, width=3, seed=0):
    """As after a ReLU: about half is 0."""
    values = np.random.default_rng(seed).normal(0, 1, (n, channels, height, width))
    return np.maximum(values, 0).astype(np.float32)


def naive_embedding(x, pool, layer_norm, weight, bias, unit_length):
    rows = []
    for image in x.astype(np.float64):
        row = []
        for channel in image:
            values = channel.ravel().tolist()
            mean = sum(values) / len(values)
            cubes = sum(max(v, 1e-6) ** 3 for v in values) / len(values)
            row.append({'average': mean, 'gem': cubes ** (1 / 3), 'average_max': mean + max(values)}[pool])
        row = np.array(row)
        if layer_norm:
            row = (row - row.mean()) / np.sqrt(row.var() + 1e-5)
        if weight is not None:
            row = weight @ row + bias
        if unit_length:
            row = row / np.sqrt((row ** 2).sum())
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize('pool', ['average', 'gem', 'average_max'])
@pytest.mark.parametrize('size,layer_norm,unit_length', [(0, False, False), (4, True, True), (0, True, False),
                                                         (4, False, True), (0, False, True)])
def test_embedding_is_the_definition(pool, size, layer_norm, unit_length):
    head = Embedding(5, size, pool, layer_norm, unit_length)
    weight = bias = None
    if size:
        weight, bias = head.embedding.weight.asnumpy(), np.arange(4, dtype=np.float32)
        head.embedding.bias.set_data(ms.Tensor(bias))
    out = head(ms.Tensor(maps())).asnumpy()
    assert out.shape == (3, head.out_channels) and head.out_channels == (size or 5)
    assert head.new_layers == (('embedding.',) if size else ())
    np.testing.assert_allclose(out, naive_embedding(maps(), pool, layer_norm, weight, bias, unit_length), atol=2e-5)


@pytest.mark.parametrize('pool', ['average', 'gem', 'average_max'])
def test_gradients_against_finite_differences(pool):
    x = np.random.default_rng(1).uniform(0.2, 2, (2, 4, 2, 2)).astype(np.float32)
    head = Embedding(4, 3, pool)
    direction = np.random.default_rng(2).normal(0, 1, (2, 3))
    gradient = ms.grad(lambda images: (head(images) * ms.Tensor(direction, ms.float32)).sum())(ms.Tensor(x)).asnumpy()

    def value(moved):
        weight, bias = (p.asnumpy().astype(np.float64) for p in (head.embedding.weight, head.embedding.bias))
        return (naive_embedding(moved, pool, True, weight, bias, True) * direction).sum()
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-5
        assert (value(x + step) - value(x - step)) / 2e-5 == pytest.approx(gradient[index], abs=2e-3)


@pytest.mark.parametrize('value', [0.0, 300.0])
def test_zeros_and_large_values_stay_finite_in_float16(value):
    x = ms.Tensor(np.full((2, 4, 3, 3), value), ms.float16)
    for head in (gem_pool, Embedding(4, 0, layer_norm=False), Embedding(4, 0, 'average_max')):
        out, gradient = ms.value_and_grad(lambda y, head=head: head(y).sum())(x)
        assert np.isfinite(out.asnumpy()).all() and np.isfinite(gradient.asnumpy()).all()
        assert value or (gradient.asnumpy() == 0).all()


def test_gem_of_equal_values_is_the_value():
    x = np.full((1, 2, 4, 4), 0.7, np.float32)
    np.testing.assert_allclose(gem_pool(ms.Tensor(x)).asnumpy(), 0.7, rtol=1e-6)


def test_bad_options():
    for line, options in (('pool=max: choose one of average, gem, average_max', {'pool': 'max'}),
                          ('embedding_size is -1', {'embedding_size': -1}), ("'colour'", {'colour': 1})):
        with pytest.raises(InputError, match=line):
            create_image_network('resnet18', 'embedding', backbone_options={'width': 4}, head_options=options)
    with pytest.raises(InputError, match='backbone=vgg.*resnet18'):
        create_image_network('vgg')
    for shrinkage in (0, float('nan'), float('inf')):
        with pytest.raises(InputError, match=f'shrinkage is {shrinkage}'):
            create_image_network('resnet18', 'whitened', backbone_options={'width': 4}, head_options={'shrinkage': shrinkage})
    with pytest.raises(InputError, match='head=tail.*none, linear, embedding, neck, whitened'):
        create_image_network('resnet18', 'tail')
    with pytest.raises(InputError, match='network=vgg.*awa_att.*resnet50'):
        create_network('vgg')


def test_linear_keeps_the_backbones_names():
    backbone = Small(width=WIDTH)
    names = {p.name for p in backbone.get_parameters()}
    network = ImageNetwork(backbone, Linear(FEATURES, 16))
    assert {p.name for p in network.get_parameters()} == names | {'embedding.weight', 'embedding.bias'}
    set_weights(network, small_weights())
    network.head.embedding.bias.set_data(ms.Tensor(np.arange(16, dtype=np.float32)))
    images = ms.Tensor(images_of(32, 32))
    feature = backbone(images).asnumpy().mean((2, 3))
    assert_close(network(images).asnumpy(), feature @ network.head.embedding.weight.asnumpy().T + np.arange(16))
    assert network.out_channels == 16 and network.new_layers == ('embedding.',)


def test_neck_in_training_and_evaluation():
    network = small('neck', padding='symmetric', bn_eps=1e-5, last_stride=1, stem_relu=False)
    set_weights(network, small_weights())
    neck = network.head.neck
    rng = np.random.default_rng(3)
    gamma, mean, variance = (rng.uniform(0.5, 2, FEATURES).astype(np.float32) for _ in range(3))
    neck.gamma.set_data(ms.Tensor(gamma))
    images = ms.Tensor(images_of(32, 32, 4))

    network.set_train()
    feature, embedding = (out.asnumpy().astype(np.float64) for out in network(images))
    expected = (feature - feature.mean(0)) / np.sqrt(feature.var(0) + 1e-5) * gamma
    np.testing.assert_allclose(embedding, expected, rtol=1e-3, atol=1e-3)

    network.set_train(False)
    neck.moving_mean.set_data(ms.Tensor(mean))
    neck.moving_variance.set_data(ms.Tensor(variance))
    feature = network.backbone(images).asnumpy().astype(np.float64).mean((2, 3))
    assert_close(network(images).asnumpy(), (feature - mean) / np.sqrt(variance + 1e-5) * gamma)


def test_neck_of_any_backbone_trains_everything_but_its_bias():
    for backbone in ('resnet18', 'resnet50'):
        network = create_image_network(backbone, 'neck', backbone_options={
            'last_stride': 1, 'stem_relu': False, 'padding': 'symmetric', 'bn_eps': 1e-5, 'width': 4})
        names = {p.name for p in network.get_parameters()} - {p.name for p in network.trainable_params()}
        assert {name for name in names if not name.endswith(('moving_mean', 'moving_variance'))} == {'neck.beta'}
        assert network.new_layers == ('neck.',)
    assert len(network.trainable_params()) == 159 + 1
    assert network.backbone.layer4[0].conv2.stride == (1, 1)
    assert network.backbone.layer4[0].down_sample_layer[0].stride == (1, 1)


def test_gradients_of_the_neck_network_against_finite_differences():
    network = small('neck', padding='symmetric', bn_eps=1e-5, last_stride=1, stem_relu=False)
    set_weights(network, small_weights())
    network.set_train()
    images = ms.Tensor(images_of(32, 32, 4))
    direction = ms.Tensor(np.random.default_rng(8).normal(0, 1, (4, FEATURES)).astype(np.float32))

    def loss_of():
        feature, embedding = network(images)
        return (direction * (feature + embedding)).sum()
    wanted = [network.head.neck.gamma, network.backbone.layer4[0].bn3.gamma]
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


class OneConvolution(Backbone):
    """A backbone that is quick to compile."""

    def __init__(self):
        super().__init__()
        self.conv1 = ms.nn.Conv2d(3, FEATURES, 8, 8)

    def construct(self, x):
        return self.conv1(x)


@pytest.mark.parametrize('head,head_options,options,batch', [
    ('none', None, {'padding': 'same'}, 'fixed'),
    ('neck', None, {'padding': 'symmetric', 'last_stride': 1, 'stem_relu': False, 'frozen_batch_norm': True}, 'any'),
    ('none', None, None, 'any'),
    ('neck', None, None, 'fixed'),
    ('linear', {'embedding_size': 8}, None, 'fixed'),
    ('embedding', {'embedding_size': 8}, None, 'fixed'),
    ('embedding', {'embedding_size': 0, 'pool': 'average_max', 'layer_norm': False}, None, 'any'),
    ('whitened', None, None, 'any'),
])
def test_exported_model_gives_the_networks_output(head, head_options, options, batch, tmp_path):
    images = ms.Tensor(images_of(32, 32))
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        network = small(head, head_options, **options or {})
        if options:
            set_weights(network, small_weights())
        else:
            network = ImageNetwork(OneConvolution(), network.head)
        network.set_train(False)
        expected = network(images).asnumpy()
        if head == 'none' and options:
            assert_close(expected, numpy_resnet(small_weights(), images.asnumpy(), Small.blocks, 'same', 1e-4))
        if batch == 'fixed':
            traced, axes = images, {}
        else:
            traced, axes = ms.Tensor(shape=[None, 3, 32, 32], dtype=ms.float32), {'in': {0: 'n'}, 'out': {0: 'n'}}
        with plain_convolutions(network):
            ms.export(network, traced, file_name=str(tmp_path / 'net'), file_format='MINDIR')
            ms.onnx.export(network, ms.Tensor(images_of(32, 32, 3)) if axes else images, file_name=str(tmp_path / 'net'),
                           input_names=['in'], output_names=['out'], dynamic_axes=axes)
        loaded = ms.nn.GraphCell(ms.load(str(tmp_path / 'net.mindir')))
        assert_close(loaded(images).asnumpy(), expected)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(str(tmp_path / 'net.onnx'))
    outputs = session.run(None, {'in': images.asnumpy()})
    assert len(outputs) == 1
    assert_close(outputs[0], expected)


def fitted(x, shrinkage, labels):
    """-> head, and what it gave in evaluation before it was fitted to that."""
    head = Whitened(x.shape[1], shrinkage).set_train(False)
    before = head(ms.Tensor(x)).asnumpy()
    head.fit(before, labels)
    return head, before


@pytest.mark.parametrize('labels', [np.arange(40) % 7 * 3 - 5, [4, 4, 4], [9, 9, 2]])
def test_whitening_is_the_definition(labels):
    x = maps(len(labels), 5)
    head, before = fitted(x, 0.3, labels)
    pooled = x.astype(np.float64).mean((2, 3))
    np.testing.assert_allclose(before, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), rtol=1e-5)
    covariance = 0
    for one in set(labels):
        members = [row.astype(np.float64) for row, label in zip(before, labels) if label == one]
        for row in members:
            apart = row - sum(members) / len(members)
            covariance = covariance + np.outer(apart, apart) / len(labels)
    shrunk = covariance / (np.trace(covariance) / 5) + 0.3 * np.eye(5)
    white = head(ms.Tensor(x)).asnumpy().astype(np.float64)
    # W is symmetric and W W = the inverse
    matrix = head.matrix.asnumpy().astype(np.float64)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4)
    np.testing.assert_allclose(matrix @ matrix @ shrunk, np.eye(5), atol=1e-3)
    np.testing.assert_allclose(white, (before - before.mean(0)) @ matrix, atol=1e-4)
    head.reset()
    np.testing.assert_array_equal(head(ms.Tensor(x)).asnumpy(), before)


def test_whitening_of_classes_that_do_not_vary_centres_alone():
    zero, equal = np.zeros((4, 3, 2, 2), np.float32), np.ones((4, 3, 2, 2), np.float32)
    for x, labels in ((zero, [0, 0, 1, 1]), (equal, [0, 0, 1, 1]), (maps(4, 3), [0, 1, 2, 3])):
        head, before = fitted(x, 0.1, labels)
        np.testing.assert_allclose(head(ms.Tensor(x)).asnumpy(), (before - before.mean(0)) / 0.1 ** 0.5, atol=1e-6)
        assert np.isfinite(before).all()


def test_a_network_in_float16_is_whitened_through_the_head_it_was_made_of():
    body = OneConvolution()
    body.out_channels = FEATURES
    network = ImageNetwork(body, Whitened(FEATURES))
    wrapped, images = mixed_precision(network, 'O2').set_train(False), ms.Tensor(images_of(16, 16, 24))

    def given():
        return wrapped(images).asnumpy().astype(np.float64)
    before = given()
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=1e-3)
    network.head.fit(before.astype(np.float32), np.arange(24) % 5)
    expected = (before - before.mean(0)) @ network.head.matrix.asnumpy().astype(np.float64)
    np.testing.assert_allclose(given(), expected, atol=0.01 * np.abs(expected).max())
    network.head.reset()
    np.testing.assert_array_equal(given(), before)


def test_losses_see_what_is_not_whitened():
    x = maps(40, 5)
    head, _ = fitted(x, 0.1, np.arange(40) % 7)
    assert not list(head.trainable_params())
    head.set_train()
    np.testing.assert_allclose(head(ms.Tensor(x)).asnumpy(), x.mean((2, 3)), rtol=1e-6)
    assert np.isfinite(head(ms.Tensor(x, ms.float16)).asnumpy()).all()


def test_registries_hold_classes_and_need_no_mindspore():
    line = ('import sys; from src.networks import BACKBONES, HEADS, NETWORKS; '
            'sys.exit(bool({"mindspore", "scipy", "matplotlib"} & set(sys.modules)))')
    assert subprocess.run([sys.executable, '-c', line], timeout=60).returncode == 0
    for table, base in ((BACKBONES, Backbone), (HEADS, Head)):
        for name in table:
            assert issubclass(loader('src.networks', table, 'network')(name), base)
    assert NoHead(7).out_channels == Neck(7).out_channels == 7

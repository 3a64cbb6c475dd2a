"""ResNet against a forward pass in plain numpy."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.nn.utils import no_init_parameters

from src.common.errors import InputError
from src.networks import create_network
from src.networks.convolution import plain_convolutions
from src.networks.resnet import ResNet
from tests.networks.networks_small import FEATURES, WIDTH, Small, SmallBasic, set_weights, small, small_weights
from tests.networks.resnet_oracle import (
    BLOCKS,
    assert_close,
    images_of,
    numpy_map,
    numpy_resnet,
    random_weights,
    to_mindspore,
    torchvision_shapes,
)

# torchvision's less fc
BACKBONE_SIZE = {'resnet18': 11_176_512, 'resnet34': 21_284_672, 'resnet50': 23_508_032, 'resnet101': 42_500_160,
                 'resnet152': 58_143_808}


@pytest.mark.parametrize('name', sorted(BLOCKS))
def test_names_shapes_and_count(name):
    with no_init_parameters():
        network = create_network(name)
    basic = name in ('resnet18', 'resnet34')
    expected = {to_mindspore(key, basic): shape for key, shape in torchvision_shapes(BLOCKS[name], basic=basic).items()}
    assert {p.name: p.shape for p in network.get_parameters()} == expected
    trainable = network.trainable_params()
    assert sum(p.size for p in trainable) == BACKBONE_SIZE[name]
    convolutions = 2 * sum(BLOCKS[name]) + 4 if basic else 3 * sum(BLOCKS[name]) + 5
    assert len(trainable) == 3 * convolutions
    assert network.out_channels == network.backbone.out_channels == (512 if basic else 2048)


@pytest.mark.parametrize('backbone,last', [(Small, 'bn3'), (SmallBasic, 'bn2d')])
def test_initial_weights(backbone, last):
    for name, value in ((p.name, p.asnumpy()) for p in backbone(width=16).get_parameters()):
        if value.ndim == 4:
            deviation = np.sqrt(2 / (value.shape[0] * value.shape[2] * value.shape[3]))
            assert abs(value.std() / deviation - 1) < 5 / np.sqrt(value.size), name
        else:
            one = name.endswith(('moving_variance', 'gamma')) and not name.endswith(last + '.gamma')
            assert (value == (1 if one else 0)).all(), name


@pytest.mark.parametrize('padding,last_stride,stem_relu,height,width', [
    ('same', 2, True, 64, 64), ('symmetric', 2, True, 64, 64), ('same', 2, True, 57, 70),
    ('symmetric', 2, True, 57, 70), ('symmetric', 1, False, 64, 32), ('same', 1, False, 61, 33)])
def test_output_is_the_definition(padding, last_stride, stem_relu, height, width):
    weights, images = small_weights(), images_of(height, width)
    network = Small(padding, 1e-2, last_stride, stem_relu, width=WIDTH)
    set_weights(network, weights)
    expected = numpy_map(weights, images, Small.blocks, padding, 1e-2, last_stride, stem_relu)
    out = network(ms.Tensor(images)).asnumpy()
    assert out.dtype == np.float32 and out.shape == expected.shape
    assert_close(out, expected)
    other = {'same': 'symmetric', 'symmetric': 'same'}[padding]
    changed = numpy_map(weights, images, Small.blocks, other, 1e-2, last_stride, stem_relu)
    assert np.abs(changed - expected).max() > 1e-2 * np.abs(expected).max() or height % 2


@pytest.mark.parametrize('padding', ['same', 'symmetric'])
def test_basic_blocks(padding):
    weights, images = random_weights(SmallBasic.blocks, width=WIDTH, basic=True), images_of(32, 40)
    network = SmallBasic(padding, 1e-3, width=WIDTH)
    set_weights(network, weights, True)
    expected = numpy_map(weights, images, SmallBasic.blocks, padding, 1e-3)
    assert expected.shape[1:] == (network.out_channels, 1, 2)
    assert_close(network(ms.Tensor(images)).asnumpy(), expected)


def test_features_are_the_maps_average():
    """In graph mode: tests of export."""
    weights, images = small_weights(), images_of(32, 32)
    network = small()
    set_weights(network, weights)
    out = network(ms.Tensor(images)).asnumpy()
    assert out.shape == (2, FEATURES) and out.dtype == np.float32
    assert_close(out, numpy_resnet(weights, images, Small.blocks, 'same', 1e-4))


@pytest.mark.slow
def test_resnet50_whole():
    weights, images = random_weights(BLOCKS['resnet50']), images_of(64, 64)
    network = create_network('resnet50')
    set_weights(network, weights)
    assert_close(network(ms.Tensor(images)).asnumpy(), numpy_resnet(weights, images, BLOCKS['resnet50'], 'same', 1e-4))


def test_training_moves_the_statistics_by_a_tenth():
    network = Small(width=WIDTH)
    images = ms.Tensor(images_of(32, 32))
    batch_mean = network.conv1(images).asnumpy().mean((0, 2, 3))
    network.set_train()
    network(images)
    np.testing.assert_allclose(network.bn1.moving_mean.asnumpy(), 0.1 * batch_mean, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('mode', [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_frozen_batch_norm_is_a_constant_in_training(mode):
    weights, images = random_weights((1, 1, 1, 1), width=WIDTH), ms.Tensor(images_of(32, 32))

    class Tiny(ResNet):
        blocks = (1, 1, 1, 1)

    def gradient(network):
        loss = lambda: network(images).square().sum()  # noqa: E731
        weight = next(p for p in network.get_parameters() if p.name == 'layer2.0.conv1.weight')
        value, gradients = ms.value_and_grad(loss, None, ms.ParameterTuple([weight]))()
        return value.asnumpy(), gradients[0].asnumpy()
    free = Tiny(width=WIDTH).set_train(False)
    set_weights(free, weights)
    expected = gradient(free)  # without batch statistics the gradient is that of evaluation
    ms.set_context(mode=mode)
    try:
        frozen = Tiny(width=WIDTH, frozen_batch_norm=True).set_train()
        set_weights(frozen, weights)
        before = {p.name: p.asnumpy().copy() for p in frozen.get_parameters()}
        assert [p.name for p in frozen.trainable_params()] == [n for n, v in before.items() if v.ndim == 4]
        for value, wanted in zip(gradient(frozen), expected):
            assert_close(value, wanted)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    for name, value in {p.name: p.asnumpy() for p in frozen.get_parameters()}.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.graph
def test_gradients_of_every_call_of_a_graph():
    """MindSpore has operators whose gradient is right in the first call of a graph only: ops.pad."""
    class Tiny(ResNet):
        blocks = (1, 1, 1, 1)

    class Gradients(nn.Cell):
        def __init__(self, network):
            super().__init__(auto_prefix=False)
            self.network = network
            self.gradients = ops.grad(self.total, None, ms.ParameterTuple(network.trainable_params()))

        def total(self, images):
            return self.network(images).square().sum()

        def construct(self, images):
            return self.gradients(images)

    network, images = Tiny(width=WIDTH, padding='symmetric').set_train(), ms.Tensor(images_of(32, 32))
    set_weights(network, random_weights((1, 1, 1, 1), width=WIDTH))
    gradients = Gradients(network)
    calls = [[gradient.asnumpy() for gradient in gradients(images)] for _ in range(4)]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    with plain_convolutions(network):
        expected = Gradients(network)(images)
    for call in calls:
        for found, wanted in zip(call, expected):
            assert_close(found, wanted.asnumpy())


def test_unknown_options():
    with pytest.raises(InputError, match="'valid'.*'same' or 'symmetric'"):
        create_network('resnet50', padding='valid')
    with pytest.raises(InputError, match="resnet50.*'paddding'.*padding, bn_eps"):
        create_network('resnet50', paddding='same')


def test_paddles_names():
    rename = ResNet.rename
    assert rename('conv1_weights') == 'conv1.weight' and rename('bn_conv1_offset') == 'bn1.beta'
    assert rename('res2a_branch1_weights') == 'layer1.0.down_sample_layer.0.weight'
    assert rename('bn5c_branch2b_variance') == 'layer4.2.bn2.moving_variance'
    assert rename('res4b22_branch2c_weights') == 'layer3.22.conv3.weight'
    assert rename('bn4a_branch1_mean') == 'layer3.0.down_sample_layer.1.moving_mean'
    assert rename('res4f_branch2a_weights') == 'layer3.5.conv1.weight'
    assert rename('res2a_branch2a_weights_velocity_0') == 'res2a_branch2a_weights_velocity_0'

"""Gradients in float16 under the dynamic loss scale against those of float32, for every loss of images.

Of a ResNet with one block a stage, an eighth as wide; of ResNet50, whose deviations add up over its depth, by hand.
"""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.losses import LOSSES, create_loss, loss_class, loss_kind
from src.networks import create_network
from src.networks.heads import ImageNetwork, NoHead
from src.networks.resnet import ResNet
from src.training.precision import level_for, mixed_precision
from src.training.train_step import FIRST_SCALE

CLASSES, ROWS = 4, 12
# One name of each type.
IMAGES = [name for name in {row.target: name for name, row in LOSSES.items()}.values() if loss_kind(name) != 'semantic']
LABELS = {'triplet': [0, 0, 1, 2, 2, 3] * 2, 'pairs': [0, 0, 1, 1, 2, 2] * 2}


class OneBlock(ResNet):
    blocks = (1, 1, 1, 1)


def small():
    body = OneBlock(width=8)
    return ImageNetwork(body, NoHead(body.out_channels))


class Gradient(nn.Cell):
    """Of all weights of a network, from the gradient to its output. One graph serves all losses."""

    def __init__(self, network, target):
        super().__init__()
        self.width = network.out_channels
        weights = ms.ParameterTuple(network.trainable_params())
        rng = np.random.default_rng(2)
        for weight in weights:
            if weight.ndim > 1:
                deviation = (2 / np.prod(weight.shape[1:])) ** 0.5
                weight.set_data(Tensor(rng.normal(0, deviation, weight.shape), ms.float32))
            elif weight.name.endswith('bn3.gamma'):
                weight.set_data(Tensor(np.full(weight.shape, 0.5), ms.float32))
        self.network = mixed_precision(network, level_for('auto', target)).set_train()
        self.grad = ops.grad(self._product, None, weights)

    def _product(self, images, to_output):
        return (ops.cast(self.network(images), ms.float32) * to_output).sum()

    def construct(self, images, to_output):
        return self.grad(images, to_output)

    def of(self, images, loss, labels, scale):
        """float64 array of all gradients of loss times scale, divided by scale again."""
        feature = ops.cast(self.network(images), ms.float32)

        def scaled(feature):
            return loss(*(feature,) * (2 if loss.uses_neck else 1), labels) * scale

        found = self(images, ops.grad(scaled)(feature))
        return np.concatenate([gradient.asnumpy().astype(np.float64).ravel() / scale for gradient in found])


@pytest.fixture(scope='module', params=['small', pytest.param('resnet50', marks=pytest.mark.by_hand)])
def networks(request):
    build = small if request.param == 'small' else lambda: create_network('resnet50')
    return Gradient(build(), 'CPU'), Gradient(build(), 'Ascend'), 0.99 if request.param == 'small' else 0.9


@pytest.mark.slow
@pytest.mark.parametrize('name', IMAGES)
def test_gradients_point_the_same_way(networks, name):
    """The scale is lowered as the step lowers it, until nothing overflows."""
    single, half, least = networks
    kind = loss_class(name)
    ms.set_seed(1)
    np.random.seed(1)
    options = {'num_classes': CLASSES, 'embedding_size': single.width, 'num_instances': 4}
    loss = create_loss(name, **{need: options[need] for need in kind.needs})
    rng = np.random.default_rng(3)
    for weight in loss.trainable_params():
        if weight.ndim > 1:
            weight.set_data(Tensor(rng.normal(0, weight.shape[-1] ** -0.5, weight.shape), ms.float32))
    labels = Tensor(LABELS.get(kind.batch, np.repeat([0, 1, 2], 4)), ms.int32)
    images = Tensor(rng.normal(0, 1, (ROWS, 3, 64, 64)), ms.float32)
    exact, scale = single.of(images, loss, labels, 1.0), FIRST_SCALE
    rounded = half.of(images, loss, labels, scale)
    while not np.isfinite(rounded).all() and scale > 1:
        scale /= 2
        rounded = half.of(images, loss, labels, scale)
    cosine = exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded)
    print(f'{name}: cosine {cosine:.4f} at scale {scale:.0f}')
    assert cosine > least and scale > 1

"""Gradients of ResNet50 in float16 under the dynamic loss scale against those of float32, for every loss of images."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src.losses import LOSSES, create_loss, loss_class
from src.networks import create_network
from src.systems.images import for_device
from src.training.train_step import FIRST_SCALE

CLASSES, WIDTH, ROWS = 4, 2048, 12
OPTIONS = {'num_classes': CLASSES, 'embedding_size': WIDTH, 'num_instances': 4, 'device_num': 1}
IMAGES = [name for name in LOSSES if loss_class(name).kind != 'semantic']
LABELS = {'triplet': [0, 0, 1, 2, 2, 3] * 2, 'pairs': [0, 0, 1, 1, 2, 2] * 2}


class Gradient(nn.Cell):
    """Of all weights of a network, from the gradient to its output. One graph serves all losses."""

    def __init__(self, target):
        super().__init__()
        network = create_network('resnet50')
        weights = ms.ParameterTuple(network.trainable_params())
        rng = np.random.default_rng(2)
        for weight in weights:
            if weight.ndim > 1:
                deviation = (2 / np.prod(weight.shape[1:])) ** 0.5
                weight.set_data(Tensor(rng.normal(0, deviation, weight.shape), ms.float32))
            elif weight.name.endswith('bn3.gamma'):
                weight.set_data(Tensor(np.full(weight.shape, 0.5), ms.float32))
        self.network = for_device(network, target).set_train()
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


@pytest.fixture(scope='module')
def networks():
    return Gradient('CPU'), Gradient('Ascend')


@pytest.mark.by_hand
@pytest.mark.parametrize('name', IMAGES)
def test_gradients_point_the_same_way(networks, name):
    """The scale is lowered as the step lowers it, until nothing overflows."""
    kind = loss_class(name)
    ms.set_seed(1)
    np.random.seed(1)
    loss = create_loss(name, **{need: OPTIONS[need] for need in kind.needs})
    rng = np.random.default_rng(3)
    for weight in loss.trainable_params():
        if weight.ndim > 1:
            weight.set_data(Tensor(rng.normal(0, weight.shape[-1] ** -0.5, weight.shape), ms.float32))
    labels = Tensor(LABELS.get(kind.batch, np.repeat([0, 1, 2], 4)), ms.int32)
    images = Tensor(rng.normal(0, 1, (ROWS, 3, 64, 64)), ms.float32)
    single, half = networks
    exact, scale = single.of(images, loss, labels, 1.0), FIRST_SCALE
    rounded = half.of(images, loss, labels, scale)
    while not np.isfinite(rounded).all() and scale > 1:
        scale /= 2
        rounded = half.of(images, loss, labels, scale)
    cosine = exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded)
    print(f'{name}: cosine {cosine:.4f} at scale {scale:.0f}')
    assert cosine > 0.9 and scale > 1

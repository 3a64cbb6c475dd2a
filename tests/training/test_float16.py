"""Gradients of a ResNet in float16 under the dynamic loss scale against those of float32, for every loss of images."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, ops

from src.losses import LOSSES, create_loss, loss_class
from src.networks.heads import ImageNetwork, NoHead
from src.networks.resnet import ResNet
from src.training.train_step import FIRST_SCALE

CLASSES, WIDTH = 4, 2048
OPTIONS = {'num_classes': CLASSES, 'embedding_size': WIDTH, 'num_instances': 4, 'device_num': 1}
IMAGES = [name for name in LOSSES if name not in ('mse', 'prototype_softmax')]


class SmallResNet(ResNet):
    blocks = (1, 1, 1, 1)


def gradients(name, scale):
    """Of all weights, divided by `scale` again; scale 1: a network in float32."""
    ms.set_seed(1)
    np.random.seed(1)
    kind = loss_class(name)
    network = ImageNetwork(SmallResNet(), NoHead(WIDTH))
    loss = create_loss(name, **{need: OPTIONS[need] for need in kind.needs})
    rng = np.random.default_rng(2)
    for parameter in [*network.trainable_params(), *loss.get_parameters()]:
        if parameter.ndim > 1 and parameter.dtype == ms.float32:
            deviation = (2 / np.prod(parameter.shape[1:])) ** 0.5
            parameter.set_data(Tensor(rng.normal(0, deviation, parameter.shape), ms.float32))
        elif parameter.name.endswith('bn3.gamma'):
            parameter.set_data(Tensor(np.full(parameter.shape, 0.5), ms.float32))
    weights = ms.ParameterTuple(network.trainable_params())
    if scale > 1:
        network = amp.auto_mixed_precision(network, 'O2')
    rows = 12
    labels = {'triplet': [0, 0, 1, 2, 2, 3] * 2, 'pairs': [0, 0, 1, 1, 2, 2] * 2}.get(kind.batch,
                                                                                     np.repeat([0, 1, 2], 4))
    images = Tensor(rng.normal(0, 1, (rows, 3, 64, 64)), ms.float32)
    network.set_train()

    def scaled(images, labels):
        feature = network(images)
        outputs = (feature, feature) if kind.uses_neck else (feature,)
        return loss(*outputs, labels) * scale

    found = ops.grad(scaled, None, weights)(images, Tensor(labels, ms.int32))
    return np.concatenate([gradient.asnumpy().astype(np.float64).ravel() / scale for gradient in found])


@pytest.mark.slow
@pytest.mark.parametrize('name', IMAGES)
def test_gradients_point_the_same_way(name):
    """The scale is lowered as the step lowers it, until nothing overflows."""
    exact, scale = gradients(name, 1.0), FIRST_SCALE
    rounded = gradients(name, scale)
    while not np.isfinite(rounded).all() and scale > 1:
        scale /= 2
        rounded = gradients(name, scale)
    assert exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded) > 0.9, scale

"""Small networks for the tests: eight channels instead of 64, few blocks, weights of the oracle."""
import mindspore as ms

from src.networks import head_class
from src.networks.heads import ImageNetwork
from src.networks.resnet import ResNet, ResNet18
from tests.networks.resnet_oracle import random_weights, to_mindspore

WIDTH, FEATURES = 8, 256


class Small(ResNet):
    blocks = (1, 2, 1, 1)


class SmallBasic(ResNet18):
    blocks = (2, 1, 1, 1)


def small(head='none', head_options=None, **options):
    """A small network of bottlenecks; see create_image_network."""
    return ImageNetwork(Small(width=WIDTH, **options),
                        head_class(head)(FEATURES, **(head_options or {})))


def small_weights(seed=0):
    return random_weights(Small.blocks, seed, width=WIDTH)


def set_weights(network, weights, basic=False):
    parameters = {p.name: p for p in network.get_parameters()}
    for name, value in weights.items():
        parameters[to_mindspore(name, basic)].set_data(ms.Tensor(value))

"""ResNet50-IBN-a by the names of its public weights, against a forward pass in plain numpy."""
import mindspore as ms
import numpy as np
from mindspore import Tensor
from mindspore.nn.utils import no_init_parameters

from src.checkpoints.weights import Weights, load_weights
from src.networks import create_network
from src.networks.resnet_ibn import ResNet50IbnA
from tests.networks.resnet_oracle import BLOCKS, assert_close, images_of, numpy_map, random_weights, torchvision_shapes

WIDTH = 8


class Small(ResNet50IbnA):
    blocks = (1, 2, 1, 1)


def ibn_weights(weights):
    """Weights of a ResNet with bn1 of the blocks of the first three stages split as in the public file."""
    split = {}
    for name, value in weights.items():
        stage, _, rest = name.partition('.')
        if rest.partition('.')[2].startswith('bn1.') and stage in ('layer1', 'layer2', 'layer3'):
            front, kind = name.rsplit('.', 1)
            half = len(value) // 2
            if kind in ('weight', 'bias'):
                split[f'{front}.IN.{kind}'] = value[:half]
            split[f'{front}.BN.{kind}'] = value[half:]
        else:
            split[name] = value
    return split


def numpy_ibn(weights, images, blocks):
    """As numpy_map with the split BatchNorm: its first half is an affine map by the statistics of each image."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def norm(x, name):
        if f'{name}.IN.weight' in w:
            half = len(w[f'{name}.IN.weight'])
            first, rest = x[:, :half], norm(x[:, half:], f'{name}.BN')
            first = (first - first.mean((2, 3), keepdims=True)) / np.sqrt(first.var((2, 3), keepdims=True) + 1e-5)
            gamma, beta = (w[f'{name}.IN.{kind}'][:, None, None] for kind in ('weight', 'bias'))
            return np.concatenate([first * gamma + beta, rest], 1)
        gamma, beta, mean, variance = (w[f'{name}.{kind}'][:, None, None]
                                       for kind in ('weight', 'bias', 'running_mean', 'running_var'))
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    return numpy_map(weights, images, blocks, 'symmetric', 1e-5, norm=norm)


def test_names_are_those_of_the_public_weights():
    with no_init_parameters():
        network = create_network('resnet50_ibn_a', padding='symmetric', bn_eps=1e-5)
    file = ibn_weights({name: np.zeros(shape, np.float32) for name, shape in torchvision_shapes(BLOCKS['resnet50']).items()})
    assert 'layer3.5.bn1.IN.weight' in file and 'layer3.5.bn1.BN.running_mean' in file and 'layer4.0.bn1.weight' in file
    report = load_weights(network, Weights('resnet50_ibn_a-d9d0bb7b.pth', {**file, 'fc.weight': np.zeros((3, 2048))}))
    assert report.dropped == ['fc.weight'] and not report.untouched and len(report.loaded) == len(file)
    assert sum(p.size for p in network.trainable_params()) == 23_508_032


def test_output_is_the_definition():
    weights, images = ibn_weights(random_weights(Small.blocks, width=WIDTH)), images_of(37, 64)
    network = Small('symmetric', 1e-5, width=WIDTH).set_train(False)
    load_weights(network, Weights('a.pth', weights))
    expected = numpy_ibn(weights, images, Small.blocks)
    assert_close(network(Tensor(images)).asnumpy(), expected)
    half = ms.amp.auto_mixed_precision(network, 'O2')(Tensor(images)).asnumpy().astype(np.float32)
    assert np.abs(half - expected).max() < 0.03 * np.abs(expected).max()


def test_frozen_batch_norm_freezes_both_halves():
    network = Small(width=WIDTH, frozen_batch_norm=True)
    assert [p.name for p in network.trainable_params() if 'bn' in p.name] == []

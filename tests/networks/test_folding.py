"""BatchNorm folded into convolutions: equal embeddings, the network untouched."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.networks.folding import fold_batch_norm
from src.networks.heads import Embedding, ImageNetwork
from src.networks.resnet import BasicBlock, Bottleneck, ResNet


@pytest.mark.parametrize('kind, options', [
    pytest.param(Bottleneck, {}, marks=pytest.mark.graph), (BasicBlock, {'padding': 'symmetric', 'stem_relu': False})])
def test_embeddings_are_equal(kind, options):
    class Small(ResNet):
        block, blocks = kind, (1, 2, 1, 1)

    body = Small(width=8, **options)
    network = ImageNetwork(body, Embedding(body.out_channels, 16)).set_train(False)
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        if parameter.name.endswith(('gamma', 'moving_variance')):
            parameter.set_data(Tensor(rng.uniform(0.3, 2, parameter.shape), ms.float32))
        elif parameter.name.endswith(('beta', 'moving_mean')):
            parameter.set_data(Tensor(rng.normal(0, 0.3, parameter.shape), ms.float32))
    images = Tensor(rng.standard_normal((3, 3, 64, 48)), ms.float32)
    expected = network(images).asnumpy()
    before = {p.name: p.asnumpy() for p in network.get_parameters()}
    folded = fold_batch_norm(network)
    found = folded(images).asnumpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert not any('moving_' in p.name for p in folded.get_parameters() if 'layer' in p.name)
    np.testing.assert_array_equal(network(images).asnumpy(), expected)
    for parameter in network.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), before[parameter.name])

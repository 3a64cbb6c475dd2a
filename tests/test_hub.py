"""mindspore_hub_conf.py: networks by name, with and without weights."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindspore_hub_conf import create_network
from src import networks
from src.common.errors import InputError


@pytest.mark.parametrize('name, options, shape', [
    ('resnet18', {'padding': 'symmetric', 'bn_eps': 1e-4}, (1, 3, 32, 32)), ('cub_att', {}, (2, 312))])
def test_networks_with_weights_of_no_recorded_training(tmp_path, name, options, shape):
    """The model zoo's resnet18 pads as torchvision's does: weights bring the options of the network."""
    network = networks.create_network(name, **options).set_train(False)
    ms.save_checkpoint(network, str(tmp_path / 'a.ckpt'))
    inputs = Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    loaded = create_network(name, str(tmp_path / 'a.ckpt'))
    np.testing.assert_allclose(loaded(inputs).asnumpy(), network(inputs).asnumpy(), rtol=1e-6)
    assert not loaded.training and create_network(name)(inputs).shape == loaded(inputs).shape
    with pytest.raises(InputError, match='brings its own options; leave out padding'):
        create_network(name, str(tmp_path / 'a.ckpt'), padding='same')


@pytest.mark.parametrize('name, pretrained, words', [
    ('resnet9', None, 'network=resnet9: choose one of'), ('resnet50', 'absent.ckpt', 'absent.ckpt'),
    ('semantic', 'a.ckpt', 'name one of resnet18, .*awa_fusion'), ('awa_att', 'a.ckpt', 'a.ckpt')])
def test_what_is_no_network_or_no_weights_of_it_is_refused(tmp_path, monkeypatch, name, pretrained, words):
    monkeypatch.chdir(tmp_path)
    ms.save_checkpoint(networks.create_network('cub_fusion'), 'a.ckpt')
    with pytest.raises(InputError, match=words):
        create_network(name, pretrained)

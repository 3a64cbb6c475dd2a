"""Files written by the tests, whole and damaged, into networks and back."""
import logging

import mindspore as ms
import numpy as np
import pytest
from safetensors.numpy import save_file

from src.errors import InputError
from src.networks import create_network
from src.networks.heads import EmbeddingNetwork, ReidNetwork
from src.networks.resnet import ResNet
from src.networks.weights import load_weights, read_weights
from tests.networks.test_resnet import (
    BLOCKS,
    assert_close,
    images_of,
    numpy_resnet,
    random_weights,
    set_weights,
    to_mindspore,
)

ms.set_device('CPU')

SMALL = (1, 1, 1, 1)


def small_dem():
    return create_network('awa_att', attribute_dim=4, hidden_dim=3, visual_dim=2)


def dem_values(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {'fc1.weight': (3, 4), 'fc1.bias': (3,), 'fc2.weight': (2, 3), 'fc2.bias': (2,)}
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def save_ckpt(values, path):
    ms.save_checkpoint([{'name': name, 'data': ms.Tensor(value)} for name, value in values.items()], str(path))
    return path


def assert_holds(network, values):
    held = {p.name: p.asnumpy() for p in network.get_parameters()}
    assert held.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(held[name], value)


def failure(network, path, **options):
    """The error's line; the network must be as before."""
    before = {p.name: p.asnumpy().copy() for p in network.get_parameters()}
    with pytest.raises(InputError) as caught:
        load_weights(network, path, **options)
    assert_holds(network, before)
    message = str(caught.value)
    assert '\n' not in message and str(path) in message
    return message


@pytest.mark.parametrize('prefix', ['', 'network.'])
def test_checkpoint_with_training_state(prefix, tmp_path):
    values = dem_values()
    state = {'learning_rate': np.float32(0.1), 'global_step': np.int32([7]), 'beta1_power': np.float32(0.9),
             'loss.weight': np.ones((5, 2), np.float32)}
    for name, value in values.items():
        for moment in ('moment1', 'moment2', 'moments'):
            state[f'{moment}.{prefix}{name}'] = value + 1
    path = save_ckpt({**state, **{prefix + name: value for name, value in values.items()}}, tmp_path / 'a.ckpt')
    network = small_dem()
    report = load_weights(network, str(path))
    assert_holds(network, values)
    assert report == {'loaded': sorted(values), 'dropped': sorted(state), 'untouched': []}


def test_real_training_checkpoint_of_mindspore(tmp_path):
    network = small_dem()
    optimizer = ms.nn.Adam(network.trainable_params())
    cell = ms.nn.TrainOneStepCell(ms.nn.WithLossCell(network, ms.nn.MSELoss()), optimizer)
    cell(ms.Tensor(np.ones((2, 4), np.float32)), ms.Tensor(np.ones((2, 2), np.float32)))
    ms.save_checkpoint(cell, str(tmp_path / 'a.ckpt'))
    other = small_dem()
    report = load_weights(other, tmp_path / 'a.ckpt')
    assert_holds(other, {p.name: p.asnumpy() for p in network.get_parameters()})
    assert 'moment1.fc1.weight' in report['dropped']


@pytest.mark.parametrize('suffix', ['.ckpt', '.safetensors'])
def test_every_difference_is_named(suffix, tmp_path):
    values = dem_values()
    path = tmp_path / ('a' + suffix)

    def save(contents):
        save_ckpt(contents, path) if suffix == '.ckpt' else save_file(contents, str(path))
    save({name: value for name, value in values.items() if name != 'fc2.bias'})
    assert 'lacks 1: fc2.bias' in failure(small_dem(), path)
    save({**values, 'fc3.bias': values['fc1.bias']})
    assert 'unknown to the network, 1: fc3.bias' in failure(small_dem(), path)
    save({**values, 'fc1.weight': np.ones((4, 3), np.float32)})
    assert 'fc1.weight (4, 3) instead of (3, 4)' in failure(small_dem(), path)
    save({f'x{i}': values['fc1.bias'] for i in range(6)})
    message = failure(small_dem(), path)
    assert 'lacks 4: fc1.bias, fc1.weight, fc2.bias, fc2.weight' in message
    assert '6: x0, x1, x2, x3 and 2 more' in message


def test_ignored_names_stay_as_they_are(tmp_path):
    path = save_ckpt({**dem_values(), 'fc2.weight': np.ones((9, 9), np.float32), 'extra.a': np.ones(1, np.float32)},
                     tmp_path / 'a.ckpt')
    network = small_dem()
    before = network.fc2.weight.asnumpy().copy()
    report = load_weights(network, path, ignore=('fc2.weight', 'extra.'))
    np.testing.assert_array_equal(network.fc2.weight.asnumpy(), before)
    np.testing.assert_array_equal(network.fc1.weight.asnumpy(), dem_values()['fc1.weight'])
    assert report['untouched'] == ['fc2.weight'] and report['dropped'] == ['extra.a', 'fc2.weight']


@pytest.mark.parametrize('suffix', ['.ckpt', '.safetensors', '.pth'])
def test_damaged_and_missing_files(suffix, tmp_path, capfd):
    if suffix == '.pth':
        pytest.importorskip('torch')
    network = create_network('awa_att')
    if suffix == '.ckpt':
        ms.save_checkpoint(network, str(tmp_path / 'good.ckpt'))
    elif suffix == '.safetensors':
        save_file({p.name: p.asnumpy() for p in network.get_parameters()}, str(tmp_path / 'good.safetensors'))
    else:
        import torch
        torch.save({p.name: torch.tensor(p.asnumpy()) for p in network.get_parameters()}, tmp_path / 'good.pth')
    whole = (tmp_path / ('good' + suffix)).read_bytes()
    load_weights(network, tmp_path / ('good' + suffix))
    rng = np.random.default_rng(0)
    damaged = {'empty': b'', 'text': b'hello\n' * 50, 'noise': rng.bytes(3000), 'half': whole[:len(whole) // 2],
               'almost': whole[:-10], 'head': whole[:20]}
    capfd.readouterr()
    for name, data in damaged.items():
        path = tmp_path / (name + suffix)
        path.write_bytes(data)
        assert 'cannot be read' in failure(network, path), name
    assert 'cannot be opened (No such file' in failure(network, tmp_path / ('absent' + suffix))
    (tmp_path / ('folder' + suffix)).mkdir()
    assert 'cannot be opened' in failure(network, tmp_path / ('folder' + suffix))
    assert capfd.readouterr() == ('', '')
    assert logging.root.manager.disable == logging.NOTSET


def test_unknown_kind_of_file(tmp_path):
    (tmp_path / 'a.h5').write_bytes(b'x')
    assert '.ckpt, .safetensors, .pth' in failure(small_dem(), tmp_path / 'a.h5')


def test_torchvision_weights_give_torchvisions_output(tmp_path):
    blocks = BLOCKS['resnet50']
    weights = random_weights(blocks)
    contents = {**weights, 'fc.weight': np.ones((1000, 2048), np.float32), 'fc.bias': np.ones(1000, np.float32)}
    contents.update({name.replace('running_mean', 'num_batches_tracked'): np.array(3, np.int64)
                     for name in weights if name.endswith('running_mean')})
    path = tmp_path / 'resnet50.safetensors'
    save_file(contents, str(path), metadata={'format': 'pt'})
    network = create_network('resnet50', padding='symmetric', bn_eps=1e-5)
    report = load_weights(network, path)
    assert report['dropped'] == ['fc.bias', 'fc.weight'] and len(report['loaded']) == len(weights)
    images = images_of(64, 96)
    assert_close(network(ms.Tensor(images)).asnumpy(), numpy_resnet(weights, images, blocks, 'symmetric', 1e-5))

    reid = create_network('resnet50_reid')
    assert 'lacks 4: neck.beta, neck.gamma, neck.moving_mean, neck.moving_variance' in failure(reid, path)
    load_weights(reid, path, ignore=('neck.',))
    np.testing.assert_array_equal(reid.backbone.conv1.weight.asnumpy(), weights['conv1.weight'])


def test_published_backbone_checkpoint_and_zoo_classifier(tmp_path):
    weights = random_weights(SMALL)
    published = {to_mindspore(name): value for name, value in weights.items()}
    path = save_ckpt({**published, 'end_point.weight': np.ones((10, 2048), np.float32)}, tmp_path / 'a.ckpt')
    network = ResNet(SMALL)
    report = load_weights(network, path)
    assert report['dropped'] == ['end_point.weight']
    assert_holds(network, published)


@pytest.mark.parametrize('make', [lambda: EmbeddingNetwork(ResNet(SMALL), 8), lambda: ReidNetwork(ResNet(SMALL))])
def test_head_and_backbone_share_one_checkpoint(make, tmp_path):
    network = make()
    set_weights(network, random_weights(SMALL))
    ms.save_checkpoint(network, str(tmp_path / 'a.ckpt'))
    other = make()
    load_weights(other, tmp_path / 'a.ckpt')
    assert_holds(other, {p.name: p.asnumpy() for p in network.get_parameters()})
    backbone = ResNet(SMALL)
    load_weights(backbone, tmp_path / 'a.ckpt', ignore=('embedding.', 'neck.'))
    images = ms.Tensor(images_of(64, 64))
    np.testing.assert_array_equal(backbone(images).asnumpy(), network.backbone(images).asnumpy())


@pytest.mark.parametrize('kind', ['tensor', 'Parameter'])
def test_pth_equals_safetensors(tmp_path, kind):
    torch = pytest.importorskip('torch')
    values = dem_values()
    tensors = {name: torch.tensor(value) for name, value in values.items()}
    if kind == 'Parameter':  # as in resnet50-19c8e357.pth
        tensors = {name: torch.nn.Parameter(value) for name, value in tensors.items()}
    torch.save(tensors, tmp_path / 'a.pth', _use_new_zipfile_serialization=kind == 'tensor')
    network = small_dem()
    load_weights(network, tmp_path / 'a.pth')
    assert_holds(network, values)


def test_pth_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'torch', None)
    (tmp_path / 'a.pth').write_bytes(b'x')
    assert 'pip install torch' in failure(small_dem(), tmp_path / 'a.pth')


def test_half_precision_file_becomes_the_networks_type(tmp_path):
    values = {name: value.astype(np.float16) for name, value in dem_values().items()}
    save_file(values, str(tmp_path / 'a.safetensors'))
    network = small_dem()
    load_weights(network, tmp_path / 'a.safetensors')
    assert_holds(network, {name: value.astype(np.float32) for name, value in values.items()})
    assert network.fc1.weight.dtype == ms.float32
    assert read_weights(tmp_path / 'a.safetensors')['fc1.weight'].dtype == np.float16

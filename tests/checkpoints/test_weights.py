"""Files written by the tests, whole and damaged, into networks and back."""
import json
import logging

import mindspore as ms
import numpy as np
import pytest
from safetensors.numpy import save_file

from src.checkpoints.checkpoint import Recorded, check_values, quiet_mindspore
from src.checkpoints.weights import (
    Weights,
    classifier_of,
    conventions,
    load_classifier,
    load_weights,
    read_weights,
)
from src.common.errors import InputError
from src.losses.arcmargin import ArcMarginLoss
from src.losses.softmax import SoftmaxLoss
from src.networks import create_image_network, create_network
from src.networks.heads import ImageNetwork, NoHead
from tests.networks.networks_small import FEATURES, WIDTH, Small, SmallBasic, set_weights, small, small_weights
from tests.networks.resnet_oracle import assert_close, images_of, numpy_resnet, random_weights, to_mindspore


def small_dem():
    return create_network('awa_att', attribute_dim=4, hidden_dim=3, visual_dim=2)


def dem_values(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {'fc1.weight': (3, 4), 'fc1.bias': (3,), 'fc2.weight': (2, 3), 'fc2.bias': (2,)}
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def published():
    """Of the small backbone, by the names of MindSpore's model zoo."""
    return {to_mindspore(name): value for name, value in small_weights().items()}


def save_ckpt(values, path, **options):
    parameters = [{'name': name, 'data': ms.Tensor(value)} for name, value in values.items()]
    ms.save_checkpoint(parameters, str(path), **options)
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


def test_the_folder_of_a_training_is_its_last_checkpoint(tmp_path):
    save_ckpt({'x': np.ones(2, np.float32)}, tmp_path / 'train.ckpt')
    (tmp_path / 'result.json').write_text('{}')
    weights = read_weights(tmp_path)
    assert list(weights.values) == ['x'] and weights.path == str(tmp_path / 'train.ckpt')
    (tmp_path / 'page.pth').write_text('<!DOCTYPE html>')
    with pytest.raises(InputError, match='page.pth is a web page'):
        read_weights(tmp_path / 'page.pth')


@pytest.mark.parametrize('prefix', ['', 'network.'])
def test_checkpoint_with_training_state(prefix, tmp_path):
    values = dem_values()
    state = {'learning_rate': np.float32(0.1), 'global_step': np.int32([7]), 'beta1_power': np.float32(0.9),
             'loss.weight': np.ones((5, 2), np.float32), 'learning_rate_group_0': np.float32([0.1])}
    for name, value in values.items():
        for moment in ('moment1', 'moment2', 'moments'):
            state[f'{moment}.{prefix}{name}'] = value + 1
    path = save_ckpt({**state, **{prefix + name: value for name, value in values.items()}}, tmp_path / 'a.ckpt')
    network = small_dem()
    report = load_weights(network, str(path))
    assert_holds(network, values)
    assert (report.loaded, report.dropped, report.untouched) == (sorted(values), sorted(state), [])
    assert str(report) == ('4 parameters, ignored: beta1_power; global_step; learning_rate; learning_rate_group_0; '
                           'loss.weight; 4 moment1; 4 moment2; 4 moments')


def test_real_training_checkpoint_of_mindspore(tmp_path):
    network = small_dem()
    optimizer = ms.nn.Adam(network.trainable_params())
    cell = ms.nn.TrainOneStepCell(ms.nn.WithLossCell(network, ms.nn.MSELoss()), optimizer)
    cell(ms.Tensor(np.ones((2, 4), np.float32)), ms.Tensor(np.ones((2, 2), np.float32)))
    ms.save_checkpoint(cell, str(tmp_path / 'a.ckpt'))
    other = small_dem()
    report = load_weights(other, tmp_path / 'a.ckpt')
    assert_holds(other, {p.name: p.asnumpy() for p in network.get_parameters()})
    assert 'moment1.fc1.weight' in report.dropped


def test_what_a_head_finds_anew_is_of_its_own_training(tmp_path):
    network = small('whitened')
    network.head.mean.set_data(ms.Tensor(np.ones(FEATURES, np.float32)))
    ms.save_checkpoint(network, str(tmp_path / 'a.ckpt'))
    other = small('whitened')
    assert not load_weights(other, tmp_path / 'a.ckpt').untouched and other.head.mean.asnumpy().all()
    # Others of the backbone's features are averaged where a training starts from them.
    values = {p.name: p.asnumpy() for p in network.get_parameters()}
    values['whitening.mean'], values['whitening.matrix'] = np.ones(3, np.float32), np.eye(3, dtype=np.float32)
    path, other = save_ckpt(values, tmp_path / 'b.ckpt'), small('whitened')
    report = load_weights(other, path, other.new_layers)
    assert report.untouched == report.dropped == ['whitening.matrix', 'whitening.mean']
    assert not other.head.mean.asnumpy().any()
    assert 'of another shape 2: whitening.matrix' in failure(small('whitened'), path)


class Combine(ms.nn.Cell):
    """The published structure of metric_learn: network and head without their names, and quadruplet's index."""

    def __init__(self, classes, index):
        super().__init__(auto_prefix=False)
        self.features = ImageNetwork(Small(width=WIDTH), NoHead(FEATURES))
        self.head = ms.nn.Dense(FEATURES, classes)
        if index:
            self.index_var = ms.Parameter(ms.Tensor(np.zeros(4, np.int32)), name='index_var', requires_grad=False)

    def construct(self, images):
        return self.head(self.features(images))


@pytest.mark.parametrize('optimizer', [None, 'momentum', 'adam'])
def test_published_checkpoints_of_metric_learn(optimizer, tmp_path):
    network = Combine(5, index=optimizer == 'momentum')
    set_weights(network, small_weights())
    cell = network
    params = network.trainable_params()
    if optimizer:
        kind = {'momentum': lambda: ms.nn.Momentum(params, 0.1, 0.9), 'adam': lambda: ms.nn.Adam(params)}[optimizer]
        manager = ms.nn.FixedLossScaleUpdateCell(1024.0) if optimizer == 'adam' else ms.nn.DynamicLossScaleUpdateCell(
            1024.0, 2, 1000)
        cell = ms.nn.TrainOneStepWithLossScaleCell(ms.nn.WithLossCell(network, ms.nn.MSELoss()), kind(), manager)
    ms.save_checkpoint(cell, str(tmp_path / 'a.ckpt'))
    held = read_weights(tmp_path / 'a.ckpt').values
    assert {'conv1.weight', 'weight', 'bias'} <= held.keys() and (optimizer is None or len(held) > 60)

    weights = read_weights(tmp_path / 'a.ckpt')
    for head in (small(), small('neck'), small('linear', {'embedding_size': 3})):
        report = load_weights(head, weights, head.new_layers)
        assert set(published()) == set(report.loaded)
        assert sorted(report.untouched) == sorted(
            p.name for p in head.get_parameters() if p.name.startswith(('neck.', 'embedding.')))
        assert set(report.dropped) == held.keys() - set(published())
        np.testing.assert_array_equal(head.backbone.conv1.weight.asnumpy(), small_weights()['conv1.weight'])
    line = str(report)
    assert 'starting fresh: embedding.bias, embedding.weight' in line
    assert 'head bias, weight' in line and '\n' not in line
    if optimizer == 'momentum':
        assert '; index_var' in line and f'{len(params)} moments' in line and 'learning_rate' in line
    if optimizer == 'adam':
        assert f'{len(params)} moment1; {len(params)} moment2' in line

    weight, bias = classifier_of(weights)
    np.testing.assert_array_equal(weight, network.head.weight.asnumpy())
    np.testing.assert_array_equal(bias, network.head.bias.asnumpy())
    loss = SoftmaxLoss(5, FEATURES)
    assert load_classifier(loss, weights)
    np.testing.assert_array_equal(loss.weight.asnumpy(), weight)
    np.testing.assert_array_equal(loss.bias.asnumpy(), bias)
    loss.update_parameters_name('loss.')
    assert load_classifier(loss, weights)
    for other in (SoftmaxLoss(6, FEATURES), SoftmaxLoss(5, 3), SoftmaxLoss(5, FEATURES, has_bias=False),
                  ArcMarginLoss(5, FEATURES), ms.nn.MSELoss()):
        before = [p.asnumpy().copy() for p in other.get_parameters()]
        assert not load_classifier(other, weights)
        for p, value in zip(other.get_parameters(), before):
            np.testing.assert_array_equal(p.asnumpy(), value)


def test_classifiers():
    weight, bias = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones(3, np.float32)
    assert classifier_of(Weights('a.ckpt', published())) is None
    assert classifier_of(Weights('a.ckpt', {'end_point.weight': weight, 'end_point.bias': bias})) is None
    own = classifier_of(Weights('a.ckpt', {'loss.weight': weight}))
    np.testing.assert_array_equal(own[0], weight)
    assert own[1] is None
    arc = ArcMarginLoss(3, 2)
    assert load_classifier(arc, Weights('a.ckpt', {'loss.weight': weight}))
    np.testing.assert_array_equal(arc.weight.asnumpy(), weight)
    # Paddle's are (in, out); the first is the embedding where there are two.
    values = {'fc_0.w_0': np.ones((7, 2), np.float32), 'fc_0.b_0': bias, 'fc_1.w_0': weight.T, 'fc_1.b_0': bias}
    np.testing.assert_array_equal(classifier_of(Weights('folder', values))[0], weight)
    assert classifier_of(Weights('folder', {'weight_norm.w_0': weight}))[1] is None


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
    save({f'x{i:02}': values['fc1.bias'] for i in range(22)})
    message = failure(small_dem(), path)
    assert 'lacks 4: fc1.bias, fc1.weight, fc2.bias, fc2.weight' in message
    assert '22: x00, x01, x02, x03, ' in message and 'x19 and 2 more' in message


def test_new_layers_stay_where_the_file_has_none_and_are_loaded_where_it_has(tmp_path):
    values = {**dem_values(), 'extra.a': np.ones(1, np.float32)}
    old = {name: value for name, value in values.items() if not name.startswith('fc2.')}
    path = save_ckpt(old, tmp_path / 'a.ckpt')
    network = small_dem()
    before = network.fc2.weight.asnumpy().copy()
    report = load_weights(network, path, ('fc2.', 'extra.'))
    np.testing.assert_array_equal(network.fc2.weight.asnumpy(), before)
    np.testing.assert_array_equal(network.fc1.weight.asnumpy(), values['fc1.weight'])
    assert (report.untouched, report.dropped) == (['fc2.bias', 'fc2.weight'], ['extra.a'])
    whole = save_ckpt(values, tmp_path / 'b.ckpt')
    assert load_weights(network, whole, ('fc2.', 'extra.')).untouched == []
    np.testing.assert_array_equal(network.fc2.weight.asnumpy(), values['fc2.weight'])
    assert 'unknown to the network, 1: extra.a' in failure(small_dem(), whole)
    half = save_ckpt({name: value for name, value in values.items() if name != 'fc2.bias'}, tmp_path / 'c.ckpt')
    assert 'lacks 1: fc2.bias' in failure(small_dem(), half, new_layers=('fc2.', 'extra.'))


@pytest.mark.parametrize('suffix', ['.ckpt', '.safetensors'])
def test_damaged_and_missing_files(suffix, tmp_path, capfd):
    network = small_dem()
    good = tmp_path / ('good' + suffix)
    if suffix == '.ckpt':
        ms.save_checkpoint(network, str(good))
    else:
        save_file({p.name: p.asnumpy() for p in network.get_parameters()}, str(good))
    whole = good.read_bytes()
    load_weights(network, good)
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


def test_a_checksum_is_compared(tmp_path):
    path = save_ckpt(dem_values(), tmp_path / 'a.ckpt', crc_check=True)
    load_weights(small_dem(), path)
    content = bytearray(path.read_bytes())
    content[content.index(dem_values()['fc1.weight'].tobytes()) + 2] ^= 1
    path.write_bytes(content)
    assert 'damaged' in failure(small_dem(), path)


def test_the_callers_logging_level_stays():
    before = logging.root.manager.disable
    try:
        logging.disable(logging.INFO)
        with pytest.raises(KeyError), quiet_mindspore():
            assert logging.root.manager.disable == logging.CRITICAL
            raise KeyError
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(before)


def test_unknown_kind_of_file(tmp_path):
    (tmp_path / 'a.h5').write_bytes(b'x')
    assert '.ckpt, .safetensors, .pth, .pt, .pth.tar, .pdparams' in failure(small_dem(), tmp_path / 'a.h5')


@pytest.mark.parametrize('basic', [False, True])
def test_torchvision_weights_give_torchvisions_output(basic, tmp_path):
    backbone = SmallBasic if basic else Small
    weights = random_weights(backbone.blocks, width=WIDTH, basic=basic)
    contents = {**weights, 'fc.weight': np.ones((1000, FEATURES), np.float32), 'fc.bias': np.ones(1000, np.float32)}
    contents.update({name.replace('running_mean', 'num_batches_tracked'): np.array(3, np.int64)
                     for name in weights if name.endswith('running_mean')})
    path = tmp_path / 'resnet.safetensors'
    save_file(contents, str(path), metadata={'format': 'pt'})
    body = backbone(width=WIDTH, **conventions('resnet18' if basic else 'resnet50', read_weights(path)))
    network = ImageNetwork(body, NoHead(body.out_channels))
    report = load_weights(network, path)
    assert report.dropped == ['fc.bias', 'fc.weight'] and len(report.loaded) == len(weights)
    images = images_of(32, 48)
    expected = numpy_resnet(weights, images, backbone.blocks, 'symmetric', 1e-5)
    assert_close(network(ms.Tensor(images)).asnumpy(), expected)
    if not basic:
        reid = small('neck')
        assert 'lacks 4: neck.beta, neck.gamma, neck.moving_mean, neck.moving_variance' in failure(reid, path)
        load_weights(reid, path, ('neck.',))
        np.testing.assert_array_equal(reid.backbone.conv1.weight.asnumpy(), weights['conv1.weight'])


# Of the model zoo, and of torchvision's MobileNetV2.
@pytest.mark.parametrize('classifier', ['end_point.weight', 'classifier.1.weight'])
def test_zoo_checkpoint_and_its_classifier(classifier, tmp_path):
    path = save_ckpt({**published(), classifier: np.ones((10, FEATURES), np.float32)}, tmp_path / 'a.ckpt')
    network = small()
    report = load_weights(network, path)
    assert report.dropped == [classifier] and str(report).endswith(f'ignored: {classifier}')
    assert_holds(network, published())


def test_weights_of_a_wrapped_network(tmp_path):
    """As it is on Ascend."""
    save_file(small_weights(), str(tmp_path / 'a.safetensors'))
    network = small()
    load_weights(ms.amp.auto_mixed_precision(network, 'O2'), tmp_path / 'a.safetensors')
    np.testing.assert_array_equal(network.backbone.conv1.weight.asnumpy(), small_weights()['conv1.weight'])


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'base.', 'model.', 'module.backbone.encoder.'])
def test_a_prefix_of_all_names_is_taken_off_and_named(prefix, tmp_path):
    values = {prefix + name: value for name, value in small_weights().items()}
    save_file({**values, f'{prefix}fc.weight': np.ones((3, FEATURES), np.float32)}, str(tmp_path / 'a.safetensors'))
    network = small()
    report = load_weights(network, tmp_path / 'a.safetensors')
    np.testing.assert_array_equal(network.backbone.conv1.weight.asnumpy(), small_weights()['conv1.weight'])
    assert f'without {prefix} before their names' in str(report) and report.dropped == ['fc.weight']
    values[prefix.replace('.', '_') + 'other.weight'] = np.ones(2, np.float32)
    save_file(values, str(tmp_path / 'b.safetensors'))
    assert 'does not fit' in failure(small(), tmp_path / 'b.safetensors')


def test_names_of_ctl(tmp_path):
    """Its neck is `bn`; the classifier and the centers are of its training."""
    values = {f'backbone.base.{name}': value for name, value in small_weights().items()}
    neck = {f'bn.{kind}': np.full(FEATURES, i + 1, np.float32)
            for i, kind in enumerate(('weight', 'bias', 'running_mean', 'running_var'))}
    save_file({**values, **neck, 'fc_query.weight': np.ones((5, FEATURES), np.float32),
               'center_loss.centers': np.ones((5, FEATURES), np.float32)}, str(tmp_path / 'a.safetensors'))
    network = small('neck')
    report = load_weights(network, tmp_path / 'a.safetensors')
    assert report.dropped == ['center_loss.centers', 'fc_query.weight'] and not report.untouched
    assert [float(p.asnumpy()[0]) for p in (network.head.neck.gamma, network.head.neck.beta, network.head.neck.moving_mean,
                                            network.head.neck.moving_variance)] == [1, 2, 3, 4]


@pytest.mark.parametrize('name, value', [
    ('conv1.weight', np.nan), ('conv1.weight', -np.inf), ('bn1.running_var', -1e-3), ('layer1.0.bn1.running_mean', np.nan)])
@pytest.mark.parametrize('kind', ['ckpt', 'safetensors', 'own'])
def test_weights_that_are_no_numbers_are_refused_by_name(name, value, kind, tmp_path):
    values = dict(small_weights())
    values[name] = values[name].copy()
    values[name].reshape(-1)[-1] = value
    path = tmp_path / ('a.safetensors' if kind == 'safetensors' else 'a.ckpt')
    if kind == 'safetensors':
        save_file(values, str(path))
    else:
        save_ckpt(values, path, crc_check=kind == 'own')
    with pytest.raises(InputError, match=f'{name} holds .*; use another file') as caught:
        read_weights(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('dtype, right', [(np.float16, True), (np.float64, True), (np.int32, False), (np.bool_, False),
                                          (np.int8, False)])
def test_types_of_weights(dtype, right, tmp_path):
    values = {name: value.astype(dtype) for name, value in small_weights().items()}
    save_file(values, str(tmp_path / 'a.safetensors'))
    network = small()
    if right:
        load_weights(network, tmp_path / 'a.safetensors')
        np.testing.assert_array_equal(network.backbone.conv1.weight.asnumpy(), values['conv1.weight'].astype(np.float32))
    else:
        assert f'no floating-point numbers in {len(values)}: bn1.beta ({np.dtype(dtype)})' in failure(
            network, tmp_path / 'a.safetensors')


def test_weights_too_large_for_float32(tmp_path):
    values = {**{name: value.astype(np.float64) for name, value in small_weights().items()}}
    values['conv1.weight'] = values['conv1.weight'] + 1e300
    save_file(values, str(tmp_path / 'a.safetensors'))
    with pytest.raises(InputError, match='too large for float32'):
        read_weights(tmp_path / 'a.safetensors')
    large = np.full(1000, 3e38, np.float32)
    check_values({'x': large, 'half': large.astype(np.float16)[:0], 'numbers': np.arange(3)}, 'a')


def test_conventions_go_with_the_weights(tmp_path):
    symmetric, same = {'padding': 'symmetric', 'bn_eps': 1e-5}, {'padding': 'same', 'bn_eps': 1e-4}
    for name, of_50 in (('a.ckpt', same), ('a.pth', symmetric), ('a.safetensors', symmetric), ('a.pdparams', symmetric),
                        ('folder', symmetric)):
        assert conventions('resnet50', Weights(name, {})) == of_50
    assert conventions('resnet18', Weights('a.ckpt', {})) == {'padding': 'symmetric', 'bn_eps': 1e-4}
    with pytest.raises(InputError, match='backbone=vgg'):
        conventions('vgg', Weights('a.ckpt', {}))

    def saved(**facts):
        path = save_ckpt(published(), tmp_path / 'own.ckpt', append_dict={'facts': json.dumps(facts)})
        weights = read_weights(path)
        assert weights.recorded == Recorded(**facts) and 'facts' not in weights.values
        return conventions('resnet50', weights)
    assert saved(recipe={'backbone_options': {**symmetric, 'width': 8}}) == symmetric
    assert saved(recipe={'network_options': {'padding': 'same', 'embedding_size': 8}}) == {'padding': 'same'}
    assert saved(recipe={'backbone_options': same}, found={'conventions': symmetric}) == symmetric
    assert saved(recipe={'backbone_options': {}}) == {}
    given = conventions('resnet50', Weights('a.pth', {}))
    given['padding'] = 'changed'
    assert conventions('resnet50', Weights('a.pth', {})) == symmetric


@pytest.mark.parametrize('head,options', [('linear', {'embedding_size': 8}), ('neck', None), ('embedding', None)])
def test_head_and_backbone_share_one_checkpoint(head, options, tmp_path):
    network = small(head, options)
    set_weights(network, small_weights())
    ms.save_checkpoint(network, str(tmp_path / 'a.ckpt'))
    other = small(head, options)
    load_weights(other, tmp_path / 'a.ckpt', other.new_layers)
    assert_holds(other, {p.name: p.asnumpy() for p in network.get_parameters()})
    backbone = small()
    assert 'unknown to the network' in failure(backbone, tmp_path / 'a.ckpt')
    load_weights(backbone, tmp_path / 'a.ckpt', network.new_layers)
    images = ms.Tensor(images_of(32, 32))
    np.testing.assert_array_equal(backbone(images).asnumpy(), network.backbone(images).asnumpy().mean((2, 3)))


def test_half_precision_file_becomes_the_networks_type(tmp_path):
    values = {name: value.astype(np.float16) for name, value in dem_values().items()}
    save_file(values, str(tmp_path / 'a.safetensors'))
    network = small_dem()
    load_weights(network, tmp_path / 'a.safetensors')
    assert_holds(network, {name: value.astype(np.float32) for name, value in values.items()})
    assert network.fc1.weight.dtype == ms.float32
    assert read_weights(tmp_path / 'a.safetensors').values['fc1.weight'].dtype == np.float16


@pytest.mark.slow
def test_weights_of_the_published_size(tmp_path):
    network = create_image_network('resnet50')
    ms.save_checkpoint(network, str(tmp_path / 'a.ckpt'))
    assert len(load_weights(create_image_network('resnet50', 'neck'), tmp_path / 'a.ckpt', ('neck.',)).loaded) == 265

"""Exported models, their cards and the engine, on small networks, against the network called directly."""
import json
import shutil
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train.mind_ir_pb2 import ModelProto

from src.checkpoints import engine as engine_module
from src.checkpoints import exported
from src.checkpoints.engine import Engine
from src.checkpoints.exported import (
    Card,
    add_threshold,
    card_path,
    export_network,
    network_identity,
    open_exported,
    read_card,
)
from src.common.errors import InputError
from src.networks.heads import BatchNormNeck

SIDE = 8


class Small(nn.Cell):
    """With BatchNorm, whose export is the delicate one."""

    def __init__(self, seed=0):
        super().__init__()
        ms.set_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3, weight_init='normal')
        self.norm = nn.BatchNorm2d(4)
        self.neck = BatchNormNeck(4)

    def construct(self, images):
        return self.neck(ops.mean(self.norm(self.conv(images)), (2, 3)) * 3)


@pytest.fixture(scope='module')
def exported_once(network, tmp_path_factory):
    return Path(export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path_factory.mktemp('exported') / 'a')))


@pytest.fixture
def exported_file(exported_once, tmp_path):
    """A copy of a MINDIR and of the file beside it, to spoil."""
    for name in (exported_once.name, f'{exported_once.name}.json'):
        shutil.copy(exported_once.with_name(name), tmp_path)
    return str(tmp_path / exported_once.name)


def images(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope='module', autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(scope='module')
def network():
    """Not to be changed: compiled once for each shape."""
    return Small().set_train(False)


@pytest.mark.parametrize('file_format, batch', [('MINDIR', 2), ('MINDIR', 0), ('ONNX', 2), ('ONNX', 0)])
def test_exported_model_with_its_card(network, tmp_path, capsys, file_format, batch):
    if file_format == 'ONNX':
        pytest.importorskip('onnxruntime')
    card = Card(recipe='small', image_size=SIDE, bgr=True, threshold={'similarity': 0.5})
    path = export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'), file_format=file_format,
                          batch_size=batch, card=card)
    assert path == str(tmp_path / 'a') + {'MINDIR': '.mindir', 'ONNX': '.onnx'}[file_format]
    assert f'exported {path}: batch {batch or "of any size"}, largest difference' in capsys.readouterr().out
    model = open_exported(path)
    assert model.image_shape == (batch, SIDE, SIDE)
    assert model.model == network_identity(network)
    assert replace(model.card, model=card.model, checksum=card.checksum) == card
    for count in ([batch] if batch else [1, 5]):
        np.testing.assert_allclose(model.run(images(count)), network(Tensor(images(count))).asnumpy(), rtol=1e-5,
                                   atol=1e-6)
    Path(card_path(path)).unlink()
    alone = open_exported(path)
    assert replace(alone.card, checksum=model.card.checksum) == model.card and not capsys.readouterr().err
    whole = Path(path).read_bytes()
    assert b'Conv' in whole and b'Im2Col' not in whole
    # Not a byte may change, of the card inside either; without its name it is a model of which nothing is known.
    for at in np.random.default_rng(0).choice(len(whole) - 900, 20).tolist() + [len(whole) - 300, len(whole) - 100]:
        Path(path).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        with pytest.raises(InputError, match=f'{path}: (was changed since|the card inside)'):
            open_exported(path)
    Path(path).write_bytes(whole.replace(exported.KEY, b'x' * len(exported.KEY)))
    unknown = open_exported(path)
    assert unknown.card is None and unknown.model == open_exported(path).model != network_identity(network)
    assert capsys.readouterr().err.startswith(f'{path}: has no card')


def test_the_card_inside_is_metadata_for_other_programs(network, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    path = export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'), file_format='ONNX')
    said = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map[exported.KEY.decode()]
    assert json.loads(said)['model'] == network_identity(network)
    export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'))
    message = ModelProto()
    message.ParseFromString((tmp_path / 'a.mindir').read_bytes())
    said = message.user_info
    if not hasattr(said, 'keys'):  # before 2.10 a list of pairs
        said = {pair.key: pair.value for pair in said}
    assert json.loads(said[exported.KEY.decode()])['model'] == network_identity(network)


@pytest.mark.parametrize('name', ["a'b \n", '用户'])
@pytest.mark.parametrize('file_format', ['MINDIR', 'ONNX'])
def test_any_path(network, tmp_path, name, file_format):
    if file_format == 'ONNX':
        pytest.importorskip('onnxruntime')
    path = export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / name / name), file_format=file_format)
    np.testing.assert_allclose(open_exported(path).run(images(1)), network(Tensor(images(1))).asnumpy(), rtol=1e-5, atol=1e-6)


def test_files_of_others_are_not_written_over(network, tmp_path):
    (tmp_path / 'a.mindir').write_bytes(b'theirs')
    with pytest.raises(InputError, match='--file_name=.*/a.mindir: exists'):
        export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'))
    (tmp_path / 'a.mindir').unlink()
    (tmp_path / 'a.mindir.json').write_text('{"theirs": 1}')
    with pytest.raises(InputError, match='--file_name=.*/a.mindir.json: exists'):
        export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'))
    assert [path.name for path in tmp_path.iterdir()] == ['a.mindir.json']
    (tmp_path / 'a.mindir.json').unlink()
    for _ in range(2):
        export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'))


def test_an_onnx_of_any_batch_declares_its_shapes(network, tmp_path, capfd):
    """As onnx itself infers them from the graph; onnxruntime warns of other sizes of an output at every batch."""
    onnx = pytest.importorskip('onnx')
    path = export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'), file_format='ONNX', batch_size=0)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (declared,) = model.graph.output
    kind = onnx.TypeProto.FromString(declared.type.SerializeToString())
    assert [size.dim_param or size.dim_value for size in kind.tensor_type.shape.dim] == ['batch', 4]
    declared.type.tensor_type.ClearField('shape')
    (inferred,) = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output
    assert inferred.type == kind
    pytest.importorskip('onnxruntime')
    open_exported(path).run(images(5))
    assert 'Expected shape' not in capfd.readouterr().err


def test_the_card_of_another_model_is_refused_by_name(exported_file, tmp_path):
    other = export_network(Small(1).set_train(False), [(3, SIDE, SIDE)], file_name=str(tmp_path / 'other'))
    Path(card_path(exported_file)).write_bytes(Path(card_path(other)).read_bytes())
    with pytest.raises(InputError, match='a.mindir.json: describes another model'):
        open_exported(exported_file)


@pytest.mark.parametrize('text, words', [
    ('{"checksum"', 'damaged'), ('[]', 'a list instead of a table'), ('5', '5 instead of a table'), ('\xff', 'damaged'),
    ('{"recipe": ' + '[' * 100000 + ']' * 100000 + '}', 'damaged'),
    ({'eval_transform': 5}, 'eval_transform is 5, expected a text'),
    ({'model': 5}, 'model is 5, expected a text'), ({'model': 'resnet50'}, 'model is "resnet50"'),
    ({'bgr': 'no'}, 'bgr is "no", expected true or false'), ({'mirror': 1}, 'mirror is 1, expected true or false'),
    ({'turned': [1]}, 'turned is a list, expected true or false'),
    *(({'image_size': size}, f'image_size is {shown}, expected ') for size, shown in (
        ('big', '"big"'), (0, '0'), (True, 'true'), (8.0, '8.0'), ([8], '[8]'), ([8, -8], '[8, -8]'),
        (['a', 'b'], 'a list'), ({}, 'a table'))),
    ({'mean': [1.0]}, 'mean is [1.0], expected three'), ({'deviation': [1, 1, 0]}, 'deviation is [1.0, 1.0, 0.0]'),
    ({'threshold': 0.5}, 'threshold is 0.5, expected a table'), ({'colour': 1}, 'has an unknown entry "colour"'),
    ({'recipe': ['a' * 5000]}, 'recipe is a list'), ({'checksum': 'a' * 32}, 'describes another model than'),
    ({'checksum': None}, 'checksum is null')], ids=lambda value: str(value)[:30])
def test_an_edited_card_is_one_line_that_names_file_and_entry(exported_file, text, words):
    beside = Path(card_path(exported_file))
    text = json.dumps({**json.loads(beside.read_text()), **text}) if isinstance(text, dict) else text
    beside.write_text(text, encoding='latin1')
    with pytest.raises(InputError) as raised:
        read_card(exported_file)
    message = str(raised.value)
    assert message.startswith(f'{beside}: {words}') and message.endswith('; remove it, or export the model again')
    assert '\n' not in message and len(message) < len(str(beside)) + len(exported_file) + 150


def test_a_card_without_its_model_is_refused(exported_file):
    beside = Path(card_path(exported_file))
    beside.write_text(json.dumps({'checksum': json.loads(beside.read_text())['checksum']}))
    with pytest.raises(InputError, match='a.mindir.json: model is missing'):
        read_card(exported_file)


def test_a_threshold_is_added_to_the_cards_of_its_network(exported_file, network, tmp_path):
    other = export_network(Small(1).set_train(False), [(3, SIDE, SIDE)], file_name=str(tmp_path / 'other'))
    (tmp_path / 'gone.onnx.json').write_text('{}')
    before = read_card(exported_file)
    assert add_threshold(tmp_path, network_identity(network), {'similarity': 0.25}) == [exported_file]
    assert read_card(exported_file) == replace(before, threshold={'similarity': 0.25})
    assert read_card(other).threshold is None


def test_cut_short_or_absent_models(exported_file, tmp_path):
    path = exported_file
    Path(path).write_bytes(Path(path).read_bytes()[:-200])
    with pytest.raises(InputError, match='a.mindir.json: describes another model'):
        open_exported(path)
    Path(card_path(path)).unlink()
    with pytest.raises(InputError, match='a.mindir: damaged'):
        open_exported(path)
    with pytest.raises(InputError, match='absent.onnx: no such'):
        open_exported(str(tmp_path / 'absent.onnx'))
    with pytest.raises(InputError, match='not an exported model'):
        open_exported(str(tmp_path / 'a.ckpt'))


def test_a_model_of_something_else_than_images(tmp_path):
    path = export_network(nn.Dense(4, 3), [(4,)], file_name=str(tmp_path / 'dense'))
    with pytest.raises(InputError, match='not images'):
        open_exported(path).image_shape


@pytest.mark.parametrize('options, words', [
    (dict(file_format='AIR'), 'writes AIR on Ascend only'),
    (dict(file_format='AIR', batch_size=0, target='Ascend'), '--batch_size=0: AIR'),
])
def test_air_that_cannot_be_written(network, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'), **options)
    assert not list(tmp_path.iterdir())


def test_a_file_that_gives_something_else_is_not_kept(network, tmp_path, monkeypatch):
    monkeypatch.setattr(exported, '_open_mindir', lambda path: (lambda x: np.ones((len(x), 4), np.float32), None))
    with pytest.raises(InputError, match='differs from the network'):
        export_network(network, [(3, SIDE, SIDE)], file_name=str(tmp_path / 'a'))
    assert not list(tmp_path.iterdir())


def test_identity_is_that_of_the_weights(network):
    assert network_identity(network) == network_identity(Small())
    assert network_identity(network) != network_identity(Small(1))


@pytest.mark.parametrize('mode', [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_engine_gives_what_the_network_gives(network, capsys, mode):
    pytest.importorskip('onnxruntime')
    ms.set_context(mode=mode)
    try:
        engine = Engine(network)
        for seed in range(3):
            np.testing.assert_allclose(engine(images(4, seed)), network(Tensor(images(4, seed))).asnumpy(), rtol=1e-5,
                                       atol=1e-6)
        assert ms.get_context('mode') == mode
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('engine: onnxruntime, equal to mindspore to ') and engine.name == 'onnxruntime'


@pytest.mark.parametrize('name, options', [('few images', dict(count=10)), ('asked for', dict(engine='mindspore')),
                                           ('Ascend', dict(target='Ascend'))])
def test_engine_stays_with_mindspore(network, capsys, name, options):
    engine = Engine(network, **options)
    np.testing.assert_array_equal(engine(images(2)), network(Tensor(images(2))).asnumpy())
    assert engine.name == 'mindspore' and capsys.readouterr().err == ''


def test_without_onnxruntime_batch_norm_is_folded_where_that_is_equal(network, monkeypatch):
    engine, folds = Engine(network, engine='mindspore'), []
    fold = engine_module.fold_batch_norm
    monkeypatch.setattr(engine_module, 'fold_batch_norm', lambda one: folds.append(one) or fold(one))
    for seed in range(3):
        np.testing.assert_allclose(engine(images(2, seed)), network(Tensor(images(2, seed))).asnumpy(), rtol=1e-5, atol=1e-6)
    assert folds == [network]
    monkeypatch.setattr(engine_module, 'fold_batch_norm', lambda one: lambda x: ms.ops.zeros((len(x), 4)))
    engine = Engine(network, engine='mindspore')
    for seed in range(2):
        np.testing.assert_array_equal(engine(images(2, seed)), network(Tensor(images(2, seed))).asnumpy())


def test_engine_falls_back_and_says_so(network, capsys, monkeypatch):
    pytest.importorskip('onnxruntime')
    monkeypatch.setattr(engine_module, 'open_onnx', lambda path: (lambda x: np.full((len(x), 4), np.nan), None))
    engine = Engine(network)
    for seed in range(2):
        np.testing.assert_array_equal(engine(images(2, seed)), network(Tensor(images(2, seed))).asnumpy())
    assert capsys.readouterr().err == 'engine: mindspore; onnxruntime gives another result, by nan\n'

    def fail(*_):
        raise RuntimeError('no such operator\nC++ call stack')
    monkeypatch.setattr(engine_module, 'write_onnx', fail)
    engine = Engine(network, engine='onnxruntime')
    np.testing.assert_array_equal(engine(images(2)), network(Tensor(images(2))).asnumpy())
    assert capsys.readouterr().err == 'engine: mindspore; no ONNX of this network: no such operator\n'


def test_engines_that_cannot_be(network, monkeypatch):
    with pytest.raises(InputError, match='--engine=torch: choose one of mindspore, onnxruntime'):
        Engine(network, engine='torch')
    with pytest.raises(InputError, match='runs on a CPU, this is Ascend'):
        Engine(network, engine='onnxruntime', target='Ascend')
    monkeypatch.setattr(engine_module, 'has_onnxruntime', lambda: False)
    with pytest.raises(InputError, match='pip install onnxruntime'):
        Engine(network, engine='onnxruntime')
    assert Engine(network).name == 'mindspore'


def test_the_file_beside_is_json_for_other_programs(exported_once):
    assert sorted(file.name for file in exported_once.parent.iterdir()) == ['a.mindir', 'a.mindir.json']
    assert sorted(json.loads(exported_once.with_name('a.mindir.json').read_text())) == ['checksum', 'model']


def test_every_engine_of_a_network_that_trains_on_finds_onnxruntime():
    """A second export of one cell failed, so that all validations but the first of a training ran through MindSpore."""
    pytest.importorskip('onnxruntime')
    network = Small().set_train(False)
    for weight in (0.5, 2.0):
        ops.assign(network.norm.gamma, Tensor(np.full(4, weight, np.float32)))
        engine = Engine(network, engine='onnxruntime')
        engine(images(5))
        assert engine.name == 'onnxruntime'
        np.testing.assert_allclose(engine(images(5, 1)), network(Tensor(images(5, 1))).asnumpy(), rtol=1e-5, atol=1e-6)

"""PyTorch's and Paddle's files, written by PyTorch or byte by byte here; and what must not be read."""
import io
import os
import pickle
import struct
import sys
import time
import tracemalloc
import zipfile
from collections import OrderedDict

import mindspore as ms
import numpy as np
import pytest

from src.checkpoints import pickled
from src.checkpoints.pickled import read_pdparams, read_pth
from src.checkpoints.weights import conventions, load_weights, read_weights
from src.common.errors import InputError
from src.networks.heads import ImageNetwork, NoHead
from tests.networks.networks_small import FEATURES, WIDTH, Small, small, small_weights
from tests.networks.resnet_oracle import assert_close, images_of, numpy_resnet


class Named:
    """Pickled as a call of `module.name` with `args`."""

    def __init__(self, module, name, *args, state=None):
        self.module, self.name, self.args, self.state = module, name, args, state


class Storage:
    """What torch.save puts in a pickle for a storage; view is the legacy format's."""

    def __init__(self, kind, key, elements, *view):
        self.pid = ('storage', kind, key, 'cpu', elements, *view)


class Pickler(pickle._Pickler):
    """Writes Named as a global or a call, Storage as a persistent id."""

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None

    def save(self, obj, save_persistent_id=True):
        if not isinstance(obj, Named):
            return super().save(obj, save_persistent_id)
        self.write(pickle.GLOBAL + f'{obj.module}\n{obj.name}\n'.encode())
        if obj.args != ('global',):
            self.save(tuple(obj.args))
            self.write(pickle.REDUCE)
        if obj.state is not None:
            self.save(obj.state)
            self.write(pickle.BUILD)


def dumps(obj, protocol=2):
    file = io.BytesIO()
    Pickler(file, protocol).dump(obj)
    return file.getvalue()


def kind(name):
    return Named('torch', name, 'global')


def tensor(storage, offset, shape, stride):
    return Named('torch._utils', '_rebuild_tensor_v2', storage, offset, shape, stride, False, OrderedDict())


def write_zip(path, obj, storages, order=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', dumps(obj))
        if order:
            archive.writestr('archive/byteorder', order)
        for key, raw in storages.items():
            archive.writestr(f'archive/data/{key}', raw)
    return path


def write_legacy(path, obj, storages, little=True):
    parts = [pickle.dumps(part, 2) for part in (0x1950a86a20f9469cfc6c, 1001, {'protocol_version': 1001,
                                                                              'little_endian': little})]
    parts += [dumps(obj), pickle.dumps(list(storages), 2)]
    parts += [struct.pack('<q', elements) + raw for elements, raw in storages.values()]
    path.write_bytes(b''.join(parts))
    return path


def refused(path, read=read_pth):
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert '\n' not in message and str(path) in message
    return message


VALUES = np.arange(12, dtype=np.float32)


@pytest.mark.parametrize('order', [None, 'little', 'big'])
def test_zip_views_share_a_storage(order, tmp_path):
    raw = VALUES.astype('>f4' if order == 'big' else '<f4').tobytes()
    both = Storage(kind('FloatStorage'), '0', 12)
    whole = tensor(both, 0, (3, 4), (4, 1))
    path = write_zip(tmp_path / 'a.pth', OrderedDict(
        whole=whole, turned=tensor(both, 0, (4, 3), (1, 4)), part=tensor(both, 5, (2, 2), (4, 1)),
        one=tensor(both, 7, (), ()), none=tensor(both, 12, (0, 3), (3, 1)),
        parameter=Named('torch._utils', '_rebuild_parameter', whole, True, OrderedDict())), {'0': raw}, order)
    found = read_pth(path)
    np.testing.assert_array_equal(found['whole'], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(found['turned'], VALUES.reshape(3, 4).T)
    np.testing.assert_array_equal(found['part'], [[5, 6], [9, 10]])
    assert found['one'] == 7 and found['none'].shape == (0, 3)
    np.testing.assert_array_equal(found['parameter'], found['whole'])
    for value in found.values():
        assert value.dtype == np.float32 and value.dtype.isnative and value.flags.c_contiguous
        assert not any(np.shares_memory(value, other) for other in found.values() if other is not value)


@pytest.mark.parametrize('little', [True, False])
def test_legacy_storages_and_views(little, tmp_path):
    order = '<' if little else '>'
    first = Storage(kind('FloatStorage'), 'a', 12, None)
    window = Storage(kind('FloatStorage'), 'a', 12, ('w', 4, 6))
    other = Storage(kind('LongStorage'), 'b', 2, None)
    path = write_legacy(tmp_path / 'a.pth', OrderedDict(
        x=tensor(first, 0, (4, 3), (1, 4)), y=tensor(window, 1, (2,), (2,)), n=tensor(other, 1, (), ())),
        {'a': (12, VALUES.astype(order + 'f4').tobytes()), 'b': (2, np.array([3, 4], order + 'i8').tobytes())}, little)
    found = read_pth(path)
    np.testing.assert_array_equal(found['x'], VALUES.reshape(3, 4).T)
    np.testing.assert_array_equal(found['y'], [5, 7])
    assert found['n'] == 4 and found['n'].dtype == np.int64


@pytest.mark.parametrize('legacy', [False, True])
def test_written_by_torch(legacy, tmp_path, monkeypatch):
    torch = pytest.importorskip('torch')
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    values = OrderedDict((str(dtype), base.to(dtype)) for dtype in (
        torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool))
    values.update(turned=base.T, part=base[1:3, ::2], parameter=torch.nn.Parameter(base), scalar=torch.tensor(3))
    torch.save(values, tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    monkeypatch.setitem(sys.modules, 'torch', None)
    found = read_pth(tmp_path / 'a.pth')
    assert found.keys() == values.keys()
    for name, value in values.items():
        expected = value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize('legacy', [False, True])
def test_state_dict_of_a_module_gives_torchs_output(legacy, tmp_path):
    """The small ResNet by torch.nn.functional."""
    torch = pytest.importorskip('torch')
    functional = torch.nn.functional
    w = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in small_weights().items()}
    w['fc.weight'] = torch.nn.Parameter(torch.ones(10, FEATURES))
    w['bn1.num_batches_tracked'] = torch.tensor(3)
    torch.save(OrderedDict(w), tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)

    def convolve(x, name, stride=1):
        return functional.conv2d(x, w[name + '.weight'], None, stride, w[name + '.weight'].shape[-1] // 2)

    def norm(x, name):
        return functional.batch_norm(x, *(w[f'{name}.{kind}'] for kind in (
            'running_mean', 'running_var', 'weight', 'bias')), eps=1e-5)
    images = images_of(32, 48)
    with torch.no_grad():
        x = functional.max_pool2d(functional.relu(norm(convolve(torch.tensor(images), 'conv1', 2), 'bn1')), 3, 2, 1)
        for stage, number in enumerate(Small.blocks, 1):
            for block in range(number):
                name, step = f'layer{stage}.{block}', 2 if block == 0 and stage > 1 else 1
                y = functional.relu(norm(convolve(x, name + '.conv1'), name + '.bn1'))
                y = functional.relu(norm(convolve(y, name + '.conv2', step), name + '.bn2'))
                y = norm(convolve(y, name + '.conv3'), name + '.bn3')
                short = x if block else norm(convolve(x, name + '.downsample.0', step), name + '.downsample.1')
                x = functional.relu(y + short)
        expected = x.mean((2, 3)).numpy()
    weights = read_weights(tmp_path / 'a.pth')
    network = small(**conventions('resnet50', weights))
    assert load_weights(network, weights).dropped == ['fc.weight']
    assert_close(network(ms.Tensor(images)).asnumpy(), expected)


@pytest.mark.parametrize('write', [write_zip, write_legacy])
@pytest.mark.parametrize('module,name,args', [
    ('os', 'system', ('touch {}',)), ('posix', 'system', ('touch {}',)), ('builtins', 'eval', ("open('{}', 'w')",)),
    ('builtins', 'getattr', ({}, 'keys')), ('torch', 'load', ('{}',)), ('numpy', 'load', ('{}',)),
    ('torch.serialization', 'os.system', ('touch {}',)), ('src.checkpoints.pickled', 'read_pth', ('{}',))])
def test_programs_are_refused(write, module, name, args, tmp_path):
    made = tmp_path / 'made'
    args = [arg.format(made) if isinstance(arg, str) else arg for arg in args]
    path = write(tmp_path / 'a.pth', {'weight': Named(module, name, *args)}, {})
    assert f'{module}.{name}' in refused(path) and not made.exists()
    (tmp_path / 'a.pdparams').write_bytes(dumps({'weight': Named(module, name, *args)}))
    assert f'{module}.{name}' in refused(tmp_path / 'a.pdparams', read_pdparams) and not made.exists()


def test_tensors_beyond_their_storage_are_refused(tmp_path):
    storage = Storage(kind('FloatStorage'), '0', 12)
    for offset, shape, stride in ((0, (13,), (1,)), (0, (2, 2), (12, 1)), (-1, (2,), (1,)), (3, (2,), (-1,)),
                                  (13, (1,), (1,)), (0, (1 << 40,), (0,)), (0, (2, 2), (1,)), (0, 'ab', (1, 1))):
        path = write_zip(tmp_path / 'a.pth', {'x': tensor(storage, offset, shape, stride)}, {'0': VALUES.tobytes()})
        assert 'cannot be read' in refused(path), (offset, shape, stride)
    large = Storage(kind('FloatStorage'), '0', 1 << 40, None)
    path = write_legacy(tmp_path / 'b.pth', {'x': tensor(large, 0, (1,), (1,))}, {'0': (1, b'1234')})
    assert 'cannot be read' in refused(path)
    objects = Storage('O8', '0', 1, None)
    path = write_legacy(tmp_path / 'c.pth', {'x': tensor(objects, 0, (1,), (1,))}, {'0': (1, b'12345678')})
    assert 'O8' in refused(path)


def test_other_contents_are_refused(tmp_path):
    plain = tensor(Storage(kind('FloatStorage'), '0', 12), 0, (12,), (1,))
    raw = {'0': VALUES.tobytes()}
    assert 'epoch (int), weights (dict)' in refused(
        write_zip(tmp_path / 'a.pth', {'epoch': 3, 'weights': {'x': plain}}, raw))
    assert 'its only object (list)' in refused(write_zip(tmp_path / 'b.pth', [plain], raw))
    assert 'torch.QInt8Storage' in refused(write_zip(
        tmp_path / 'c.pth', {'x': tensor(Storage(kind('QInt8Storage'), '0', 12), 0, (12,), (1,))}, raw))
    negative = Named('torch._utils', '_rebuild_tensor_v2', *plain.args, {'neg': True})
    assert 'sign or conjugate' in refused(write_zip(tmp_path / 'g.pth', {'x': negative}, raw))
    assert 'cannot be read' in refused(write_zip(tmp_path / 'd.pth', {'x': plain}, {}))
    assert 'cannot be read' in refused(write_zip(tmp_path / 'e.pth', {'x': plain}, raw, 'middle'))
    assert 'cannot be read' in refused(write_zip(tmp_path / 'f.pth', {'x': plain}, raw,
                                                 compression=zipfile.ZIP_DEFLATED))


def test_weights_beside_what_else_a_training_keeps(tmp_path):
    """As CTL's file, which Lightning wrote: nothing is made of the other types, and nothing of them is called."""
    plain = tensor(Storage(kind('FloatStorage'), '0', 12), 0, (12,), (1,))
    hyper = Named('pytorch_lightning.utilities.parsing', 'AttributeDict', state={'cfg': Named('yacs.config', 'CfgNode')})
    for name in ('state_dict', 'model_state_dict', 'model', 'net'):
        path = write_zip(tmp_path / 'a.ckpt', {
            'epoch': 119, 'best': plain, 'callbacks': {Named('callbacks.mine', 'Checkpointer', 'global'): {'best': 0.9}},
            'optimizer_states': [{'state': {0: {'step': 3, 'exp_avg': plain}}, 'param_groups': []}],
            'hyper_parameters': hyper, 'program': Named('os', 'system', f'touch {tmp_path}/made'),
            name: OrderedDict({'backbone.base.conv1.weight': plain})}, {'0': VALUES.tobytes()})
        assert list(read_pth(path)) == ['backbone.base.conv1.weight'] and not (tmp_path / 'made').exists()
    assert read_weights(path).source == 'torchvision'


def doubling(levels):
    """Instructions for a tuple of two that are the same tuple of two, and so on."""
    return b''.join([b'\x80\x02', b')', *[b'2\x86'] * levels])


@pytest.mark.parametrize('name, raw', [
    ('a key whose hash takes 2 ** 45 steps', doubling(45) + b'K\x01}q\x00h\x0001s.'),
    ('the same, several items', b'\x80\x02}(' + doubling(45)[2:] + b'K\x01u.'),
    ('the same, a table of marks', b'\x80\x02(' + doubling(45)[2:] + b'K\x01d.'),
    ('the same, in a set', b'\x80\x04\x8f(' + doubling(45)[2:] + b'\x90.'),
    ('the same, in an ordered table', b'\x80\x02ccollections\nOrderedDict\n(](' + doubling(45)[2:] + b'K\x01\x86etR.'),
    ('a place of four billion', b'\x80\x02}r\xff\xff\xff\xff0]K\x01a.'),
    ('bytes of eight exabytes', b'\x80\x04\x8e' + b'\xff' * 7 + b'\x7f.'),
    ('tuples of a long list, a thousand times', b'\x80\x02](' + b'N' * 20000 + b'eq\x000(' + 1000 * (
        b'cbuiltins\ntuple\n(h\x00tR') + b'l.'),
    ('many tables', b'\x80\x02(' + b'}' * 50000 + b'l.')])
def test_a_pickle_is_bounded(name, raw, tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, 'MOST_INSTRUCTIONS', 45000)
    tracemalloc.start()
    path = tmp_path / 'a.pdparams'
    path.write_bytes(raw)
    before = time.process_time()
    try:
        assert 'cannot be read' in refused(path, read_pdparams) or name == 'a place of four billion'
        assert tracemalloc.get_traced_memory()[1] < 80 * len(raw) + 2 ** 22
    finally:
        tracemalloc.stop()
    assert time.process_time() - before < 30


def test_arrays_that_share_bytes_are_bounded(tmp_path):
    storage = Storage(kind('FloatStorage'), '0', 10 ** 6)
    tied = {str(i): tensor(storage, 0, (10 ** 6,), (1,)) for i in range(3)}
    assert len(read_pth(write_zip(tmp_path / 'a.pth', tied, {'0': bytes(4 * 10 ** 6)}))) == 3
    many = {str(i): tensor(storage, 0, (10 ** 6,), (1,)) for i in range(300)}
    assert 'cannot be read' in refused(write_zip(tmp_path / 'b.pth', many, {'0': bytes(4 * 10 ** 6)}))


@pytest.mark.parametrize('kind_of_file', ['zip', 'legacy', 'pdparams'])
def test_damaged_files(kind_of_file, tmp_path, capfd):
    good, read = tmp_path / 'good.pth', read_pth
    if kind_of_file == 'zip':
        write_zip(good, {'x': tensor(Storage(kind('FloatStorage'), '0', 12), 0, (12,), (1,))}, {'0': VALUES.tobytes()})
    elif kind_of_file == 'legacy':
        write_legacy(good, {'x': tensor(Storage(kind('FloatStorage'), 'a', 12, None), 0, (12,), (1,))},
                     {'a': (12, VALUES.tobytes())})
    else:
        good, read = tmp_path / 'good.pdparams', lambda path: read_pdparams(path)[0]
        good.write_bytes(pickle.dumps({'x': VALUES}, 2))
    np.testing.assert_array_equal(read(good)['x'], VALUES)
    whole = good.read_bytes()
    rng = np.random.default_rng(0)
    short = [whole[:n] for n in range(1, len(whole) - 10, 7)]
    # The third is a zip cut short whose time of day holds a line break.
    for data in [b'', b'hello\n' * 50, b'PK\x03\x04\x14\n' + whole[6:90], rng.bytes(3000), whole[:-10], *short]:
        path = tmp_path / ('bad' + good.suffix)
        path.write_bytes(data)
        assert 'cannot be read' in refused(path, read)
    for _ in range(200):  # whatever is changed: an array or one line
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            assert all(isinstance(value, np.ndarray) for value in read(path).values())
        except InputError as error:
            assert '\n' not in str(error)
    assert capfd.readouterr() == ('', '')


def paddle_name(name, numbers=()):
    """PaddleCV's name of a value of torchvision's; numbers: stages whose blocks are a, b1, b2, ..."""
    kinds = {'running_mean': 'mean', 'running_var': 'variance'}
    *module, what = name.split('.')
    norm = 'bn' in module[-1] or module[-2:] == ['downsample', '1']
    what = kinds.get(what, {'weight': 'scale', 'bias': 'offset'}.get(what)) if norm else 'weights'
    if len(module) == 1:
        return f'{"bn_conv1" if norm else "conv1"}_{what}'
    stage, block = int(module[0][-1]) + 1, int(module[1])
    letter = (f'b{block}' if block else 'a') if stage in numbers else 'abcdefghijklmnopqrstuvwxyz'[block]
    branch = '1' if module[2] == 'downsample' else '2' + 'abc'[int(module[2][-1]) - 1]
    return f'{"bn" if norm else "res"}{stage}{letter}_branch{branch}_{what}'


def lod_tensor(value, levels=()):
    desc = b'\x08' + bytes([{'f4': 5, 'f8': 6, 'i8': 3}[value.dtype.str[1:]]])
    for n in value.shape:
        desc += b'\x10'
        while n > 127:
            desc, n = desc + bytes([n & 127 | 128]), n >> 7
        desc += bytes([n])
    raw = struct.pack('<IQ', 0, len(levels)) + b''.join(struct.pack('<Q', 8 * len(level)) + np.array(
        level, '<u8').tobytes() for level in levels)
    return raw + struct.pack('<Ii', 0, len(desc)) + desc + value.tobytes()


@pytest.mark.parametrize('numbers', [(), (2, 4)])
def test_folder_of_paddle_gives_the_networks_output(numbers, tmp_path):
    weights = small_weights()
    for name, value in weights.items():
        (tmp_path / paddle_name(name, numbers)).write_bytes(lod_tensor(value))
    head = np.ones((FEATURES, 10), np.float32)
    extras = {'fc_0.w_0': head, 'fc_0.b_0': head[0], 'conv1_weights_velocity_0': weights['conv1.weight'],
              'learning_rate_0': np.ones(1, np.float32), '@LR_DECAY_COUNTER@': np.ones(1, np.int64)}
    for name, value in extras.items():
        (tmp_path / name).write_bytes(lod_tensor(value, [[0, 1]]))
    found = read_weights(str(tmp_path))
    network = small(**conventions('resnet50', found))
    report = load_weights(network, found)
    assert report.dropped == sorted(extras) and len(report.loaded) == len(weights)
    images = images_of(32, 48)
    assert_close(network(ms.Tensor(images)).asnumpy(), numpy_resnet(weights, images, Small.blocks, 'symmetric', 1e-5))

    (tmp_path / 'res9z_weights').write_bytes(lod_tensor(head))
    (tmp_path / 'res3z_branch2a_weights').write_bytes(lod_tensor(head))
    (tmp_path / 'conv1_weights').unlink()
    with pytest.raises(InputError, match='lacks 1: conv1.weight; .*unknown.*, 2: layer2.25.*, res9z_weights'):
        load_weights(network, tmp_path)


def test_embedding_of_paddle(tmp_path):
    values = {paddle_name(name): value for name, value in small_weights().items()}
    weight, bias = np.random.default_rng(0).normal(0, 1, (FEATURES, 6)).astype(np.float32), np.ones(6, np.float32)
    classifier = {'fc_1.w_0': np.ones((6, 4), np.float32), 'fc_1.b_0': np.ones(4, np.float32)}
    for more in (classifier, {'weight_norm.w_0': np.ones((4, 6), np.float32)}, {}):
        path = tmp_path / 'a.pdparams'
        path.write_bytes(pickle.dumps({**values, 'fc_0.w_0': weight, 'fc_0.b_0': bias, **more}, 4))
        network = small('linear', {'embedding_size': 6}, padding='symmetric', bn_eps=1e-5)
        assert load_weights(network, path, network.new_layers).dropped == sorted(more)
        np.testing.assert_array_equal(network.head.embedding.weight.asnumpy(), weight.T)
        np.testing.assert_array_equal(network.head.embedding.bias.asnumpy(), bias)


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match='holds no weights'):
        read_weights(tmp_path)
    whole = lod_tensor(VALUES)
    for content in (b'', b'text\n' * 30, whole[:-1], whole[:20], whole + b'x', whole[:14], b'\1' + b'\xff' * 40):
        (tmp_path / 'conv1_weights').write_bytes(content)
        with pytest.raises(InputError, match='conv1_weights is no whole parameter'):
            read_weights(tmp_path)


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_pdparams(protocol, tmp_path):
    path = tmp_path / 'a.pdparams'
    values = {'a.weight': VALUES.reshape(3, 4), 'b': np.asfortranarray(VALUES.reshape(2, 6)), 'c': VALUES.astype('>f8'),
              'd': np.array(3, np.int64), 'e': VALUES.reshape(3, 4)[:, ::2]}
    path.write_bytes(pickle.dumps({**{name: value for name, value in values.items() if name != 'b'},
                                   'b': ('linear_0.b_0', values['b']),
                                   'StructuredToParameterName@@': {'a.weight': 'linear_0.w_0'}}, protocol))
    found = read_weights(path).values
    assert found.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype.isnative and found[name].dtype.itemsize == value.dtype.itemsize


def test_pdparams_by_the_names_of_the_program_or_of_paddle_vision(tmp_path):
    weights, path = small_weights(), tmp_path / 'a.pdparams'
    program = {f'block.{i}': paddle_name(name) for i, name in enumerate(weights)}
    path.write_bytes(pickle.dumps({**dict(zip(program, weights.values())), 'StructuredToParameterName@@': program}, 4))
    network = small()
    assert len(load_weights(network, path).loaded) == len(weights)
    np.testing.assert_array_equal(network.backbone.layer4[0].conv2.weight.asnumpy(), weights['layer4.0.conv2.weight'])

    vision = {name.replace('running_mean', '_mean').replace('running_var', '_variance'): value
              for name, value in weights.items()}
    path.write_bytes(pickle.dumps({**vision, 'fc.weight': np.ones((FEATURES, 10), np.float32)}, 4))
    other = ImageNetwork(Small(width=WIDTH), NoHead(FEATURES))
    assert load_weights(other, path).dropped == ['fc.weight']
    for mine, theirs in zip(other.get_parameters(), network.get_parameters()):
        np.testing.assert_array_equal(mine.asnumpy(), theirs.asnumpy())


def test_arrays_of_python_2(tmp_path):
    raw = VALUES.tobytes().decode('latin1')
    dtype = Named('numpy', 'dtype', 'f4', 0, 1, state=(3, '<', None, None, None, -1, -1, 0))
    array = Named('numpy.core.multiarray', '_reconstruct', Named('numpy', 'ndarray', 'global'), (0,), 'b',
                  state=(1, (3, 4), dtype, False, raw))
    (tmp_path / 'a.pdparams').write_bytes(dumps({'x': array}))
    np.testing.assert_array_equal(read_weights(tmp_path / 'a.pdparams').values['x'], VALUES.reshape(3, 4))
    assert os.listdir(tmp_path) == ['a.pdparams']


def test_two_tables_of_the_same_weights_are_refused(tmp_path):
    table = {'x': np.ones(3, np.float32)}
    (tmp_path / 'a.pdparams').write_bytes(pickle.dumps({'model': table, 'model_ema': table, 'optimizer': {'x': 1, 'y': 2}}, 2))
    with pytest.raises(InputError, match='several tables of the same weights: model, model_ema'):
        read_pdparams(tmp_path / 'a.pdparams')

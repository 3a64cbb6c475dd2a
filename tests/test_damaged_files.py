"""Properties of all readers of weights, arrays and records: whatever a file holds, it gives an InputError of one line or a
right reading, and never takes more memory than a small multiple of the file.

EXAMPLES=5000 python -m pytest tests/test_damaged_files.py looks longer than the tests of a change do.
"""
import json
import os
import pickle
import tracemalloc
import warnings
from dataclasses import asdict
from types import SimpleNamespace

import h5py
import mindspore as ms
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from src.checkpoints.checkpoint import read_recorded
from src.checkpoints.exported import Card
from src.checkpoints.weights import read_weights
from src.common.errors import InputError
from src.common.records import as_table, parse_json, read_record
from src.datasets.mat_file import read_mat, read_names
from src.datasets.scaling import Scale
from src.recipes.recipe import make_recipe, read_recipe
from src.retrieval.naming import ClassesCard, NamedClasses, ScaleCard, Space
from src.retrieval.thresholds import KeptThreshold
from src.training.progress import Run
from tests.checkpoints.test_pickled import Storage, kind, tensor, write_legacy, write_zip

EXAMPLES = int(os.environ.get('EXAMPLES', '25'))
QUICK = settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize='EXAMPLES' not in os.environ,
                 suppress_health_check=list(HealthCheck))
VALUES = np.arange(12, dtype=np.float32)
PLACE = st.floats(0, 1, exclude_max=True)
DAMAGE = st.lists(st.tuples(st.sampled_from(['cut', 'flip', 'set', 'drop', 'double']), PLACE, st.integers(1, 255)),
                  min_size=1, max_size=4)


def damaged(raw, changes):
    """The bytes of a file after some changes (kind, place 0..1, number 1..255)."""
    for what, place, number in changes:
        at = int(place * len(raw))
        if what == 'cut':
            raw = raw[:at]
        elif what in ('flip', 'set'):
            raw = raw[:at] + bytes([raw[at] ^ number if what == 'flip' else number]) + raw[at + 1:] if raw else raw
        else:
            raw = raw[:at] + raw[at:at + number] * (2 * (what == 'double')) + raw[at + number:]
    return raw


def write_v73(path):
    with h5py.File(path, 'w', userblock_size=512) as file:
        file['a'] = VALUES.reshape(3, 4)


def write_classes(path):
    scale, prototypes = Scale(False, None, None, None, 1.0), np.ones((2, 3), np.float32)
    NamedClasses(['a', 'b'], np.array([False, True]), prototypes, Space(scale), 0.5, scale, '0' * 32).save(path)


STORED = {'x': tensor(Storage(kind('FloatStorage'), '0', 12), 0, (12,), (1,))}
# Suffix and name -> function that writes a good file, and its reader, which returns arrays.
FILES = {
    'zip.pth': (lambda path: write_zip(path, STORED, {'0': VALUES.tobytes()}), read_weights),
    'legacy.pth': (lambda path: write_legacy(path, {'x': tensor(Storage(kind('FloatStorage'), 'a', 12, None), 0, (12,), (1,))},
                                             {'a': (12, VALUES.tobytes())}), read_weights),
    'a.pdparams': (lambda path: path.write_bytes(pickle.dumps({'x': VALUES, 'y': VALUES[:3]}, 2)), read_weights),
    'a.safetensors': (lambda path: save_file({'x': VALUES}, str(path)), read_weights),
    'a.ckpt': (lambda path: ms.save_checkpoint([{'name': 'x', 'data': ms.Tensor(VALUES)}], str(path), crc_check=True),
               read_weights),
    'v5.mat': (lambda path: scipy.io.savemat(path, {'a': VALUES, 'b': np.ones(3)}), lambda path: read_mat(path, 'a')),
    'compressed.mat': (lambda path: scipy.io.savemat(path, {'a': VALUES}, do_compression=True),
                       lambda path: read_mat(path, 'a')),
    'v73.mat': (write_v73, lambda path: read_mat(path, 'a')),
    'names.mat': (lambda path: scipy.io.savemat(path, {'a': np.array([['one'], ['two']], object)}),
                  lambda path: read_names(path, 'a')),
    'classes.npz': (write_classes, lambda path: NamedClasses.load(path).prototypes)}


@pytest.mark.parametrize('change', [
    {'prototypes': np.ones((2, 4), np.float32)}, {'prototypes': np.ones(3, np.float32)}, {'prototypes': None},
    {'prototypes': np.ones((1, 3), np.float32)}, {'prototypes': np.full((2, 3), np.nan, np.float32)}, {'unseen': None},
    {'unseen': np.zeros(2)}, {'features_mean': np.ones(4, np.float32)}, {'features_directions': np.ones((5, 3), np.float32)},
    {'whitening': np.eye(3, dtype=np.float32)}])
def test_classes_whose_arrays_do_not_fit_each_other(tmp_path, change):
    path = tmp_path / 'classes.npz'
    scale = Scale(False, np.ones(3, np.float32), None, 1.0)
    NamedClasses(['a', 'b'], np.array([False, True]), np.ones((2, 3), np.float32), Space(scale), 0.5, scale, 'm').save(path)
    with np.load(path) as file:
        arrays = {name: array for name, array in {**file, **change}.items() if array is not None}
    np.savez(path, **arrays)
    with pytest.raises(InputError, match='classes.npz: damaged: its arrays do not fit'):
        NamedClasses.load(path)


@pytest.mark.parametrize('name', FILES)
def test_damaged_bytes(name, tmp_path, capfd):
    write, read = FILES[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    read(path)

    @QUICK
    @given(DAMAGE)
    def check(changes):
        raw = damaged(whole, changes)
        path.write_bytes(raw)
        tracemalloc.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                found = read(path)
        except InputError as error:
            assert str(error).count('\n') == 0 and name in str(error)
        else:
            arrays = found.values.values() if hasattr(found, 'values') else [] if found is None else [np.asarray(found)]
            for array in arrays:
                assert array.dtype.kind in 'biufUO' and (array.dtype.kind != 'f' or np.isfinite(array).all())
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 2 ** 27 + 300 * len(raw)
    check()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2 ** 70, 2 ** 70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=6)
SCALE = ScaleCard(False, None, 1.0)
# Name -> good contents, and a reader of them, which returns the contents that it read.
RECORDS = {
    'card': (as_table(Card(recipe='small', image_size=[8, 8], bgr=True, mean=[0.1, 0.2, 0.3], model='0' * 31 + '1')),
             lambda values: as_table(read_record(Card, values, 'file'))),
    'record': ({'recipe': {}, 'found': {}, 'device_num': 1, 'steps_per_epoch': 3, 'run': {}},
               lambda values: as_table(read_recorded(values, 'file'))),
    'run': (asdict(Run()), lambda values: asdict(read_record(Run, values, 'file'))),
    'threshold': ({'similarity': 0.5, 'model': 'x', 'searched': 9}, lambda values: as_table(
        read_record(KeptThreshold, values, 'file'))),
    'classes': (asdict(ClassesCard(['a'], 0.5, 'x', 'cosine', 0.0, SCALE, SCALE)),
                lambda values: asdict(read_record(ClassesCard, values, 'file'))),
    **{f'recipe of {dataset}': (json.loads(json.dumps(make_recipe(dataset))), lambda values: json.loads(json.dumps(
        read_recipe(values, 'file')))) for dataset in ('CUB', 'GBU', 'SOP', 'Market1501')}}


@pytest.mark.parametrize('name', RECORDS)
def test_edited_records(name):
    good, read = RECORDS[name]
    seen = SimpleNamespace(read=0)

    @QUICK
    @given(st.one_of(st.sampled_from(sorted(good)), st.text(max_size=8)), JSON)
    def check(entry, value):
        values = parse_json(json.dumps({**good, entry: value}), 'file', 'advice')
        try:
            found = read(values)
        except InputError as error:
            assert str(error).startswith('file') and str(error).count('\n') == 0
        else:
            seen.read += 1
            # What was taken is what stands there, whole numbers as floats where the type has these.
            assert isinstance(value, (list, dict, str)) or found.get(entry) in (
                value, float(value) if type(value) is int else value)
    check()
    read(good)

"""read_mat against files written by scipy and h5py, whole and spoilt."""
import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
import scipy.io

from src.common.errors import InputError
from src.datasets.mat_file import read_mat, read_names

VALUES = np.random.default_rng(0).normal(size=(30, 17))


def write_v73(path, name, array, **attributes):
    with h5py.File(path, 'w', userblock_size=512) as contents:
        contents.create_dataset(name, data=array).attrs.update(attributes)


@pytest.mark.parametrize('dtype', ['float32', 'float64', 'uint8', 'int32'])
@pytest.mark.parametrize('version', ['v5', 'v5 compressed', 'v7.3'])
def test_values_and_type_survive(tmp_path, version, dtype):
    path = tmp_path / 'a.mat'
    array = (100 * VALUES).astype(dtype)
    if version == 'v7.3':
        write_v73(path, 'a', array)
    else:
        scipy.io.savemat(path, {'a': array, 'other': np.ones(3)}, do_compression='c' in version)
    read = read_mat(path, 'a')
    assert read.dtype == array.dtype and read.shape == array.shape
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize('version', ['v5', 'v7.3'])
def test_name_without_ending(tmp_path, version):
    path = tmp_path / 'features'
    if version == 'v5':
        scipy.io.savemat(path, {'a': VALUES}, appendmat=False)
    else:
        write_v73(path, 'a', VALUES)
    np.testing.assert_array_equal(read_mat(str(path), 'a'), VALUES)


def refused(path, variable, *words):
    with pytest.raises(InputError) as caught:
        read_mat(path, variable)
    message = str(caught.value)
    assert '\n' not in message
    for word in (str(path), variable, *words):
        assert word in message, message


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path / 'no.mat', 'wanted', 'no such file')
    refused(tmp_path, 'wanted', 'no such file')


def test_missing_variable_lists_those_there(tmp_path):
    scipy.io.savemat(tmp_path / 'a.mat', {'first': VALUES, 'second': VALUES})
    refused(tmp_path / 'a.mat', 'wanted', 'first, second')
    write_v73(tmp_path / 'b.mat', 'third', VALUES)
    refused(tmp_path / 'b.mat', 'wanted', 'third')


@pytest.mark.parametrize('version', ['v5', 'v5 compressed', 'v7.3'])
def test_truncated_anywhere(tmp_path, version):
    whole = tmp_path / 'whole.mat'
    if version == 'v7.3':
        write_v73(whole, 'wanted', VALUES)
    else:
        scipy.io.savemat(whole, {'wanted': VALUES}, do_compression='c' in version)
    content = whole.read_bytes()
    path = tmp_path / 'cut.mat'
    for size in (*range(0, 700, 23), 124, 128, 132, len(content) // 2, len(content) - 9, len(content) - 1):
        path.write_bytes(content[:size])
        refused(path, 'wanted')


@pytest.mark.parametrize('content', [b'plain text, several lines\n' * 50, b'PK\x03\x04' + bytes(600), bytes(600),
                                     np.random.default_rng(0).bytes(4096)])
def test_not_a_matlab_file(tmp_path, content):
    path = tmp_path / 'a.mat'
    path.write_bytes(content)
    refused(path, 'wanted', 'not a MATLAB file')


def test_damaged_in_the_middle(tmp_path):
    path = tmp_path / 'a.mat'
    scipy.io.savemat(path, {'wanted': VALUES}, do_compression=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    refused(path, 'wanted', 'damaged')


@pytest.mark.parametrize('value', ['text', np.array([1, 'a'], object), {'field': 1.0}, VALUES + 1j,
                                   scipy.sparse.eye(4, format='csc')])
def test_not_numbers_v5(tmp_path, value):
    scipy.io.savemat(tmp_path / 'a.mat', {'wanted': value})
    refused(tmp_path / 'a.mat', 'wanted', 'not a full array of real numbers')


def test_not_numbers_v73(tmp_path):
    path = tmp_path / 'a.mat'
    with h5py.File(path, 'w') as contents:
        contents.create_group('group')
        contents['text'] = np.array([[104], [105]], np.uint16)
        contents['text'].attrs['MATLAB_class'] = np.bytes_('char')
        contents['complex'] = VALUES + 1j
        contents['string'] = 'abc'
    for name in ('group', 'text', 'complex', 'string'):
        refused(path, name, 'not a full array of real numbers')


def test_empty(tmp_path):
    scipy.io.savemat(tmp_path / 'a.mat', {'wanted': np.zeros((0, 5))})
    refused(tmp_path / 'a.mat', 'wanted', 'empty')
    write_v73(tmp_path / 'b.mat', 'wanted', np.array([0, 5], np.uint64), MATLAB_empty=np.uint8(1))
    refused(tmp_path / 'b.mat', 'wanted', 'empty')


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, bad):
    array = VALUES.copy()
    array[3, 4] = bad
    scipy.io.savemat(tmp_path / 'a.mat', {'wanted': array})
    refused(tmp_path / 'a.mat', 'wanted', 'NaN or infinite')
    write_v73(tmp_path / 'b.mat', 'wanted', array)
    refused(tmp_path / 'b.mat', 'wanted', 'NaN or infinite')


def test_a_file_that_declares_more_than_it_holds_is_refused_before_memory_is_reserved(tmp_path):
    with h5py.File(tmp_path / 'a.mat', 'w') as contents:
        contents.create_dataset('a', (25000, 25000), 'f8', chunks=(1000, 1000))
        contents.create_dataset('cells', (25000, 25000), h5py.ref_dtype, chunks=(1000, 1000))
    scipy.io.savemat(tmp_path / 'b.mat', {'a': np.zeros((4000, 5000))}, do_compression=True)
    tracemalloc.start()
    try:
        refused(tmp_path / 'a.mat', 'a', 'declares 5000000000 bytes')
        refused(tmp_path / 'b.mat', 'a', 'declares 160000048 bytes')
        with pytest.raises(InputError, match='declares'):
            read_names(tmp_path / 'a.mat', 'cells')
        assert tracemalloc.get_traced_memory()[1] < 2 ** 23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('compressed', [False, True])
def test_what_scipy_writes_is_read_as_scipy_reads_it(tmp_path, compressed):
    rng = np.random.default_rng(0)
    values = {'a': rng.normal(size=(3, 4, 2)), 'flags': rng.random((2, 5)) < 0.5, 'row': np.arange(7, dtype=np.int64),
              'small': np.int8([[-3]]), 'none': np.zeros((0, 3)), 'text': 'a name', 'rows': np.array(['ab', 'cd']),
              'names': np.array([['x'], ['Ä 用']], object), 'complex': np.ones((2, 2)) * 1j, 'table': {'field': 1.0}}
    scipy.io.savemat(tmp_path / 'a.mat', values, do_compression=compressed)
    told = scipy.io.loadmat(tmp_path / 'a.mat')
    for name in ('a', 'flags', 'row', 'small'):
        found = read_mat(tmp_path / 'a.mat', name)
        assert found.dtype == told[name].dtype and np.array_equal(found, told[name])
    assert read_names(tmp_path / 'a.mat', 'names') == ['x', 'Ä 用'] and read_names(tmp_path / 'a.mat', 'rows') == ['ab', 'cd']
    assert read_names(tmp_path / 'a.mat', 'nothing') is None
    with pytest.raises(InputError, match='a.mat: a holds no texts'):
        read_names(tmp_path / 'a.mat', 'a')
    for name in ('text', 'complex', 'table'):
        refused(tmp_path / 'a.mat', name, 'not a full array of real numbers')
    refused(tmp_path / 'a.mat', 'none', 'is empty')


def test_a_file_of_the_other_byte_order(tmp_path):
    def element(kind, raw):
        return struct.pack('>II', kind, len(raw)) + raw + bytes(-len(raw) % 8)
    matrix = (element(6, struct.pack('>II', 6, 0)) + element(5, struct.pack('>ii', 2, 3)) + element(1, b'a')
              + element(9, np.arange(6).astype('>f8').tobytes()))
    (tmp_path / 'a.mat').write_bytes(b'MATLAB 5.0 MAT-file'.ljust(124) + b'\x01\x00MI' + element(14, matrix))
    np.testing.assert_array_equal(read_mat(tmp_path / 'a.mat', 'a'), [[0, 2, 4], [1, 3, 5]])


def test_texts_of_version_73_as_matlab_and_h5py_write_them(tmp_path):
    with h5py.File(tmp_path / 'a.mat', 'w') as contents:
        contents['char'] = np.array([[ord(c) for c in row] for row in ('gnu', 'yak')], np.uint16).T
        contents['char'].attrs['MATLAB_class'] = np.bytes_('char')
        contents['variable'] = ['Bär', 'yak']
        contents['fixed'] = np.array(['gnu', 'yak'], 'S')
        contents['string'] = np.array([[3707764736, 2, 1, 1, 1, 1]], np.uint32)
        contents['string'].attrs['MATLAB_class'] = np.bytes_('string')
    assert read_names(tmp_path / 'a.mat', 'variable') == ['Bär', 'yak']
    assert read_names(tmp_path / 'a.mat', 'char') == read_names(tmp_path / 'a.mat', 'fixed') == ['gnu', 'yak']
    with pytest.raises(InputError, match='string holds no texts; save it as a cell array'):
        read_names(tmp_path / 'a.mat', 'string')


@pytest.mark.parametrize('compressed', [False, True])
def test_a_string_or_table_of_matlab_leaves_the_other_variables(tmp_path, compressed):
    """An opaque matrix as MATLAB writes it: flags, name, type system and class, without a shape."""
    def element(kind, raw):
        return struct.pack('<II', kind, len(raw)) + raw + bytes(-len(raw) % 8)
    body = element(6, struct.pack('<II', 17, 0)) + element(1, b'names') + element(1, b'MCOS') + element(1, b'string')
    whole = element(14, body)
    scipy.io.savemat(tmp_path / 'a.mat', {'a': VALUES})
    raw = (tmp_path / 'a.mat').read_bytes()
    if compressed:
        packed = zlib.compress(whole)
        whole = struct.pack('<II', 15, len(packed)) + packed
    (tmp_path / 'a.mat').write_bytes(raw[:128] + whole + raw[128:])
    np.testing.assert_array_equal(read_mat(tmp_path / 'a.mat', 'a'), VALUES)
    with pytest.raises(InputError, match='names holds no texts'):
        read_names(tmp_path / 'a.mat', 'names')
    refused(tmp_path / 'a.mat', 'b', 'the file holds: names, a')

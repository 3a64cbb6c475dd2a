"""Arrays out of the pickles of PyTorch (.pth) and Paddle (.pdparams), without either and without running anything.

A pickle is a program that may call whatever it names. Here it may name what builds tensors, arrays, numbers and
containers, and nothing else; it gets stand-ins, so that it cannot reach the real ones either.
"""
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, Dict, Tuple

import numpy as np

from src.common.errors import InputError

# By the name of PyTorch's storage class. bfloat16, which numpy lacks, is the upper half of a float32.
STORAGES = {'DoubleStorage': 'f8', 'FloatStorage': 'f4', 'HalfStorage': 'f2', 'BFloat16Storage': 'bfloat16',
            'LongStorage': 'i8', 'IntStorage': 'i4', 'ShortStorage': 'i2', 'CharStorage': 'i1', 'ByteStorage': 'u1',
            'BoolStorage': '?'}
# The legacy format: a magic number, the protocol, the machine's facts, the object, the keys, then the raw storages.
LEGACY = (0x1950a86a20f9469cfc6c, 1001)


class Refused(Exception):
    """The pickle names something that is no tensor, number or container."""


class _Dtype:
    """numpy.dtype in a pickle: a code, and a byte order that comes as state."""

    def __init__(self, code, *_):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in 'fiub':
            raise Refused(f'numpy.dtype({code!r})')

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """numpy.ndarray in a pickle; `value` is the array."""

    def __init__(self, *_):
        self.value = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, raw = state
        raw = raw.encode('latin1') if isinstance(raw, str) else raw  # of Python 2
        array = np.frombuffer(raw, dtype.dtype).reshape(shape, order='F' if fortran else 'C')
        # By the type: a dtype with the byte order of this machine spelt out is none that MindSpore 2.7 knows.
        self.value = array.astype(array.dtype.type, order='C')


def _from_buffer(raw, dtype, shape, order):
    array = _Array()
    array.__setstate__((1, shape, dtype, order == 'F', raw))
    return array


class _Tensor:
    """A torch.Tensor in a pickle: a view of a storage, which may be filled later."""

    def __init__(self, storage, offset, shape, stride, *_):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    @property
    def value(self):
        raw = self.storage
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride))
        elements = math.prod(self.shape)
        if min((self.offset, *self.shape, *self.stride)) < 0 or elements and last >= len(raw) or elements > len(raw):
            raise ValueError('a tensor reaches beyond its storage')
        strides = [step * raw.itemsize for step in self.stride]
        array = np.lib.stride_tricks.as_strided(raw[self.offset:], self.shape, strides)
        if raw.dtype.kind == 'V':  # bfloat16
            bits = np.ascontiguousarray(array).view(raw.dtype['bits']).astype(np.uint32) << 16
            return bits.view(np.float32).reshape(self.shape)
        return array.astype(raw.dtype.type, order='C')


class _Unpickler(pickle.Unpickler):
    """Names, in the pickle, only what is in the table; `storage` gives the array of a persistent id."""

    def __init__(self, file: BinaryIO, storage=None):
        # latin1: Python 2's arrays; every name here is ASCII.
        super().__init__(file, encoding='latin1')
        self.storage = storage

        def tensor(*args):
            return _Tensor(*args)

        # Functions of this unpickler alone: a pickle may set attributes of what it is given.
        self.table = {
            ('collections', 'OrderedDict'): OrderedDict,
            ('torch._utils', '_rebuild_tensor'): tensor,
            ('torch._utils', '_rebuild_tensor_v2'): tensor,
            ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
            ('torch', 'Size'): tuple,
            ('builtins', 'tuple'): tuple,
            ('_codecs', 'encode'): lambda text, *_: text.encode('latin1'),
            ('numpy', 'ndarray'): 'ndarray',
            ('numpy', 'dtype'): lambda *args: _Dtype(*args),
            **{(f'{package}.multiarray', '_reconstruct'): lambda *_: _Array()
               for package in ('numpy.core', 'numpy._core')},
            **{(f'{package}.numeric', '_frombuffer'): lambda *args: _from_buffer(*args)
               for package in ('numpy.core', 'numpy._core')},
            **{('torch', name): code for name, code in STORAGES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        module = {'__builtin__': 'builtins'}.get(module, module)
        if (module, name) not in self.table:
            raise Refused(f'{module}.{name}')
        return self.table[module, name]

    def persistent_load(self, pid: Any) -> Any:
        kind, code, key, _, elements, *view = pid
        if kind != 'storage' or self.storage is None:
            raise Refused(str(kind))
        array = self.storage(code, key, elements)
        if view and view[0] is not None:
            _, start, length = view[0]
            array = array[start:start + length]
        return array


def _dtype(code: str, order: str) -> np.dtype:
    if code not in STORAGES.values():
        raise Refused(f'a storage of {code}')
    if code == 'bfloat16':
        return np.dtype([('bits', order + 'u2')])
    return np.dtype(order + code)


def read_pth(path: Path) -> Dict[str, np.ndarray]:
    """The tensors of a state_dict that torch.save wrote, in the zip format or in the one before it.

    Raises:
        InputError: the file is damaged, or holds something else than named tensors.
    """
    with path.open('rb') as file:
        # By its beginning: one that is cut short has lost its end, by which zipfile knows it.
        return _arrays(path, _load_zip if file.read(2) == b'PK' else _load_legacy)


def _load_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith('data.pkl'))[:-len('data.pkl')]
        order = '<'
        if root + 'byteorder' in archive.namelist():
            order = {b'little': '<', b'big': '>'}[archive.read(root + 'byteorder')]
        storages: Dict[str, np.ndarray] = {}

        def storage(code, key, elements):
            if key not in storages:
                info = archive.getinfo(f'{root}data/{key}')
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError('PyTorch does not compress')
                storages[key] = np.frombuffer(archive.read(info), _dtype(code, order))
            return storages[key][:elements]
        with archive.open(root + 'data.pkl') as file:
            return _Unpickler(file, storage).load()  # type: ignore[arg-type]


def _load_legacy(path: Path) -> Any:
    size = path.stat().st_size
    with path.open('rb') as file:
        if tuple(_Unpickler(file).load() for _ in LEGACY) != LEGACY:
            raise ValueError('not the magic number')
        order = '<' if _Unpickler(file).load()['little_endian'] else '>'
        storages: Dict[str, np.ndarray] = {}

        def storage(code, key, elements):
            if key not in storages:
                dtype = _dtype(code, order)
                if not 0 <= elements * dtype.itemsize <= size:
                    raise ValueError('a storage larger than the file')
                storages[key] = np.empty(elements, dtype)
            return storages[key]
        found = _Unpickler(file, storage).load()
        for key in _Unpickler(file).load():
            elements = int.from_bytes(file.read(8), 'little')
            raw = file.read(storages[key].nbytes)
            if elements != len(storages[key]) or len(raw) != storages[key].nbytes:
                raise ValueError('cut short')
            storages[key][:] = np.frombuffer(raw, storages[key].dtype)
        return found


def read_pdparams(path: Path) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """The arrays of a state_dict that Paddle saved, and the names its parameters have in a static program, if told.

    Raises:
        InputError: the file is damaged, or holds something else than named arrays.
    """
    names: Dict[str, str] = {}

    def load(path):
        with path.open('rb') as file:
            found = dict(_Unpickler(file).load())
        names.update(found.pop('StructuredToParameterName@@', {}))
        # Paddle 2.1 and later: (name, array).
        return {key: value[1] if isinstance(value, tuple) and len(value) == 2 else value
                for key, value in found.items()}
    return _arrays(path, load), names


def _arrays(path, load) -> Dict[str, np.ndarray]:
    try:
        found = load(path)
        if not isinstance(found, dict):
            raise Refused(type(found).__name__)
        others = [f'{name} ({type(value).__name__})' for name, value in found.items()
                  if not isinstance(value, (_Tensor, _Array))]
        if not others:
            return {str(name): value.value for name, value in found.items()}
    except Refused as error:
        raise InputError(f'{path} holds {error}, which is no tensor, number or container, and could run a program: it '
                         'is not read; give a state_dict alone') from error
    except Exception as error:  # a damaged pickle raises anything
        raise InputError(f'{path} cannot be read as {path.suffix}: it is cut short, damaged, or holds something else '
                         'than named weights; give another file') from error
    raise InputError(f'{path} holds other things than tensors: {", ".join(others[:4])}; save the state_dict alone')

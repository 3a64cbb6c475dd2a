"""Arrays from the pickles of PyTorch (.pth) and Paddle (.pdparams), without either library and without running code.

A pickle is a program that may call any function it names. Here it may name only what builds tensors, arrays, numbers and
containers, and gets stand-ins for these, so that it cannot reach the real ones either.
"""
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from src.common.errors import InputError

Array = NDArray[Any]
# (type code, key, number of elements) -> the array of a PyTorch storage.
Storage = Callable[[str, str, int], Array]
# PyTorch's storage types. bfloat16, which numpy lacks, is the upper half of a float32.
STORAGES = {'DoubleStorage': 'f8', 'FloatStorage': 'f4', 'HalfStorage': 'f2', 'BFloat16Storage': 'bfloat16',
            'LongStorage': 'i8', 'IntStorage': 'i4', 'ShortStorage': 'i2', 'CharStorage': 'i1', 'ByteStorage': 'u1',
            'BoolStorage': '?'}
# The legacy format: a magic number, the protocol, the machine's byte order, the object, the keys, the raw storages.
LEGACY = (0x1950a86a20f9469cfc6c, 1001)


class Refused(Exception):
    """The pickle names something else than tensors, numbers and containers."""


class _Dtype:
    """numpy.dtype in a pickle: a code, and a byte order that comes as state."""

    def __init__(self, code: str, *_: Any):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in 'fiub':
            raise Refused(f'numpy.dtype({code!r})')

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """numpy.ndarray in a pickle; `value` is the array."""

    value: Array

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode('latin1') if isinstance(raw, str) else raw  # a text if Python 2 wrote it
        array = np.frombuffer(raw, dtype.dtype).reshape(shape, order='F' if fortran else 'C')
        # By type, not by dtype: MindSpore 2.7 does not know a dtype that spells out this machine's byte order.
        self.value = array.astype(array.dtype.type, order='C')


def _from_buffer(raw: bytes, dtype: _Dtype, shape: Tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == 'F', raw))
    return array


class _Tensor:
    """A torch.Tensor in a pickle: a view of a storage, which may be filled later."""

    def __init__(self, storage: Array, offset: int, shape: Tuple[int, ...], stride: Tuple[int, ...], *_: Any):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    @property
    def value(self) -> Array:
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
    """Refuses every name that is not in its table. storage: for PyTorch's persistent ids."""

    def __init__(self, file: Any, storage: Optional[Storage] = None):
        # latin1 for the arrays of Python 2; all names here are ASCII.
        super().__init__(file, encoding='latin1')
        self.storage = storage

        def tensor(*args: Any) -> _Tensor:
            return _Tensor(*args)

        # Functions made for this unpickler alone: a pickle may set attributes of the objects it gets.
        self.table: Dict[Tuple[str, str], Any] = {
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


def _dtype(code: str, order: str) -> 'np.dtype[Any]':
    if code not in STORAGES.values():
        raise Refused(f'a storage of {code}')
    if code == 'bfloat16':
        return np.dtype([('bits', order + 'u2')])
    return np.dtype(order + code)


def read_pth(path: Path) -> Dict[str, Array]:
    """Read the tensors of a state_dict that torch.save wrote, in the zip format or the older one.

    Raises:
        InputError: the file is damaged, or holds something else than named tensors.
    """
    with path.open('rb') as file:
        # By the first bytes: zipfile knows a file by its end, which one that is cut short has lost.
        return _arrays(path, _load_zip if file.read(2) == b'PK' else _load_legacy)


def _load_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith('data.pkl'))[:-len('data.pkl')]
        order = '<'
        if root + 'byteorder' in archive.namelist():
            order = {b'little': '<', b'big': '>'}[archive.read(root + 'byteorder')]
        storages: Dict[str, Array] = {}

        def storage(code: str, key: str, elements: int) -> Array:
            if key not in storages:
                info = archive.getinfo(f'{root}data/{key}')
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError('PyTorch does not compress')
                storages[key] = np.frombuffer(archive.read(info), _dtype(code, order))
            return storages[key][:elements]
        with archive.open(root + 'data.pkl') as file:
            return _Unpickler(file, storage).load()


def _load_legacy(path: Path) -> Any:
    size = path.stat().st_size
    with path.open('rb') as file:
        if tuple(_Unpickler(file).load() for _ in LEGACY) != LEGACY:
            raise ValueError('not the magic number')
        order = '<' if _Unpickler(file).load()['little_endian'] else '>'
        storages: Dict[str, Array] = {}

        def storage(code: str, key: str, elements: int) -> Array:
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


def read_pdparams(path: Path) -> Tuple[Dict[str, Array], Dict[str, str]]:
    """Read a state_dict that Paddle saved.

    Returns:
        its arrays by name, and name -> name in a static program, for the parameters whose name there is stored.

    Raises:
        InputError: the file is damaged, or holds something else than named arrays.
    """
    names: Dict[str, str] = {}

    def load(path: Path) -> Any:
        with path.open('rb') as file:
            found = dict(_Unpickler(file).load())
        names.update(found.pop('StructuredToParameterName@@', {}))
        # Paddle 2.1 and later store (name, array).
        return {key: value[1] if isinstance(value, tuple) and len(value) == 2 else value
                for key, value in found.items()}
    return _arrays(path, load), names


def _arrays(path: Path, load: Callable[[Path], Any]) -> Dict[str, Array]:
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

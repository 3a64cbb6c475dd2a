"""Arrays from the pickles of PyTorch and Paddle (.pdparams), without either library and without running code.

A pickle is a program that may call any function it names. Here it may name only what builds tensors, arrays, numbers and
containers, and gets stand-ins for these, so that it cannot reach the real ones either; whatever else it names (a training's
hyper-parameters, a program) gets one that holds nothing and is refused among the weights. A pickle takes a bounded number of
instructions, of constant cost each, and makes no more bytes than a small multiple of its file.
"""
import io
import math
import mmap
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterable, Optional, Tuple

import numpy as np

from src.common.arrays import Array
from src.common.errors import InputError

# (type code, key, number of elements) -> the array of a PyTorch storage.
Storage = Callable[[str, str, int], Array]
# PyTorch's storage types. bfloat16, which numpy lacks, is the upper half of a float32.
STORAGES = {'DoubleStorage': 'f8', 'FloatStorage': 'f4', 'HalfStorage': 'f2', 'BFloat16Storage': 'bfloat16',
            'LongStorage': 'i8', 'IntStorage': 'i4', 'ShortStorage': 'i2', 'CharStorage': 'i1', 'ByteStorage': 'u1',
            'BoolStorage': '?'}
# The legacy format: a magic number, the protocol, the machine's byte order, the object, the keys, the raw storages.
LEGACY = (0x1950a86a20f9469cfc6c, 1001)


# Where a checkpoint of a training keeps its weights, beside epoch, optimizer and so on.
WRAPPERS = ('state_dict', 'model_state_dict', 'model', 'network', 'net')
MOST_INSTRUCTIONS = 4 * 10 ** 6  # a checkpoint of 10,000 tensors with Adam's moments has a quarter of it
MOST_COPIES = 4                  # times the bytes of the file that its arrays may have together: weights may share storages


_Unbounded: Any = pickle._Unpickler  # Python's own, in Python


class Refused(Exception):
    """The pickle names something else than tensors, numbers and containers."""


class _Ignored:
    """Stands for an object of another type or for a function's result: takes any arguments, items and state, and keeps none."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def __setitem__(self, key: Any, item: Any) -> None:
        pass


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

    stored: Array

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode('latin1') if isinstance(raw, str) else raw  # a text if Python 2 wrote it
        self.stored = np.frombuffer(raw, dtype.dtype).reshape(shape, order='F' if fortran else 'C')

    @property
    def nbytes(self) -> int:
        return self.stored.nbytes

    @property
    def value(self) -> Array:
        # By type, not by dtype: MindSpore 2.7 does not know a dtype that spells out this machine's byte order.
        return self.stored.astype(self.stored.dtype.type, order='C')


def _from_buffer(raw: bytes, dtype: _Dtype, shape: Tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == 'F', raw))
    return array


class _Tensor:
    """A torch.Tensor in a pickle: a view of a storage, which may be filled later."""

    def __init__(self, storage: Array, offset: int, shape: Tuple[int, ...], stride: Tuple[int, ...], *more: Any):
        if len(more) > 2 and more[2]:
            raise Refused('a tensor whose sign or conjugate is to be computed')
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.storage.itemsize

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


class _Instructions(Dict[int, Callable[..., None]]):
    """The unpickler's instructions; raises a ValueError after MOST_INSTRUCTIONS of them."""

    count = 0

    def __getitem__(self, key: int) -> Callable[..., None]:
        self.count += 1
        if self.count > MOST_INSTRUCTIONS:
            raise ValueError('too many instructions')
        return super().__getitem__(key)


class _Unpickler(_Unbounded):
    """Gives stand-ins for the names in its table, and empty ones for all others. storage: for PyTorch's persistent ids.

    C's unpickler would reserve what a length or an index says before it reads on.
    """

    def __init__(self, file: BinaryIO, size: int, storage: Optional[Storage] = None):
        # latin1 for the arrays of Python 2; all names here are ASCII.
        super().__init__(file, encoding='latin1')
        self.storage = storage
        self.left = 2 ** 20 + MOST_COPIES * size
        self.dispatch = _Instructions(_Unbounded.dispatch)
        self.dispatch.update({pickle.SETITEM[0]: _Unpickler.load_setitem, pickle.SETITEMS[0]: _Unpickler.load_setitems,
                              pickle.DICT[0]: _Unpickler.load_dict})
        for code in (pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS, pickle.INST, pickle.OBJ):
            del self.dispatch[code[0]]

        # Functions made for this unpickler alone: a pickle may set attributes of the objects it gets.
        self.table: Dict[Tuple[str, str], Any] = {
            ('collections', 'OrderedDict'): lambda pairs=(): OrderedDict(
                (_key(key), value) for key, value in self._spend(pairs, 100)),
            **{('torch._utils', f'_rebuild_tensor{version}'): lambda *args: _Tensor(*args) for version in ('', '_v2')},
            ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
            ('torch', 'Size'): lambda items=(): tuple(self._spend(items, 8)),
            ('builtins', 'tuple'): lambda items=(): tuple(self._spend(items, 8)),
            ('_codecs', 'encode'): lambda text, *_: self._spend(text, 1).encode('latin1'),
            ('numpy', 'ndarray'): 'ndarray',
            ('numpy', 'dtype'): lambda *args: _Dtype(*args),
            **{(f'{package}.multiarray', '_reconstruct'): lambda *_: _Array()
               for package in ('numpy.core', 'numpy._core')},
            **{(f'{package}.numeric', '_frombuffer'): lambda *args: _from_buffer(*args)
               for package in ('numpy.core', 'numpy._core')},
            **{('torch', name): code for name, code in STORAGES.items()},
        }

    def _spend(self, items: Any, each: int) -> Any:
        """The items, whose copy has `each` bytes an item."""
        self.left -= each * len(items)
        if self.left < 0:
            raise ValueError('copies of copies')
        return items

    def load_setitem(self) -> None:
        _key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        _keys(self.stack)
        super().load_setitems()

    def load_dict(self) -> None:
        _keys(self.stack)
        super().load_dict()

    def find_class(self, module: str, name: str) -> Any:
        module = {'__builtin__': 'builtins'}.get(module, module)
        if (module, name) not in self.table:
            if not all(part.isidentifier() for part in f'{module}.{name}'.split('.')):
                raise ValueError('no name')
            self.table[module, name] = type(f'{module}.{name}', (_Ignored,), {})
        return self.table[module, name]

    def persistent_load(self, pid: Any) -> Any:
        kind, code, key, _, elements, *view = pid
        if kind != 'storage' or self.storage is None:
            raise Refused(repr(kind)[:40])
        if isinstance(code, type):
            raise Refused(code.__name__)
        array = self.storage(code, key, elements)
        if view and view[0] is not None:
            _, start, length = view[0]
            array = array[start:start + length]
        return array


def _key(key: Any) -> Any:
    """The key of a table. The hash of nested tuples may take for ever: they double at each level."""
    if isinstance(key, tuple):
        raise ValueError('a tuple as a key')
    return key


def _keys(pairs: Iterable[Any]) -> None:
    for key in list(pairs)[::2]:
        _key(key)


def _dtype(code: str, order: str) -> 'np.dtype[Any]':
    if code not in STORAGES.values():
        raise Refused(f'a storage of {code!r}')
    if code == 'bfloat16':
        return np.dtype([('bits', order + 'u2')])
    return np.dtype(order + code)


def is_pickled(path: Path) -> bool:
    """Whether a file begins as PyTorch's do."""
    with path.open('rb') as file:
        return file.read(2) in (b'PK', b'\x80\x02')


def read_pth(path: Path) -> Dict[str, Array]:
    """Read the tensors of a state_dict that torch.save wrote, in the zip format or the older one.

    It may be the file's only content, or lie in a checkpoint of a training under a name of WRAPPERS.

    Raises:
        InputError: the file is damaged, or holds something else than named tensors.
    """
    with path.open('rb') as file:
        # By the first bytes: zipfile knows a file by its end, which one that is cut short has lost.
        return _arrays(path, _load_zip if file.read(2) == b'PK' else _load_legacy)


def _load_zip(path: Path) -> Any:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        left = size

        def read(name: str) -> bytes:
            nonlocal left
            info = archive.getinfo(name)
            left -= info.file_size
            if info.compress_type != zipfile.ZIP_STORED or left < 0:
                raise ValueError('PyTorch does not compress')
            return archive.read(info)
        root = next(name for name in archive.namelist() if name.endswith('data.pkl'))[:-len('data.pkl')]
        order = '<'
        if root + 'byteorder' in archive.namelist():
            order = {b'little': '<', b'big': '>'}[read(root + 'byteorder')]
        storages: Dict[str, Array] = {}

        def storage(code: str, key: str, elements: int) -> Array:
            if key not in storages:
                storages[key] = np.frombuffer(read(f'{root}data/{key}'), _dtype(code, order))
            return storages[key][:elements]
        return _Unpickler(io.BytesIO(read(root + 'data.pkl')), size, storage).load()


def _load_legacy(path: Path) -> Any:
    size = left = path.stat().st_size
    with _mapped(path) as file:
        if tuple(_Unpickler(file, size).load() for _ in LEGACY) != LEGACY:
            raise ValueError('not the magic number')
        order = '<' if _Unpickler(file, size).load()['little_endian'] else '>'
        storages: Dict[str, Array] = {}

        def storage(code: str, key: str, elements: int) -> Array:
            nonlocal left
            if key not in storages:
                dtype = _dtype(code, order)
                left -= elements * dtype.itemsize
                if elements < 0 or left < 0:
                    raise ValueError('storages larger than the file')
                storages[key] = np.empty(elements, dtype)
            return storages[key]
        found = _Unpickler(file, size, storage).load()
        for key in _Unpickler(file, size).load():
            elements = int.from_bytes(file.read(8), 'little')
            raw = file.read(storages[key].nbytes)
            if elements != len(storages[key]) or len(raw) != storages[key].nbytes:
                raise ValueError('cut short')
            storages[key][:] = np.frombuffer(raw, storages[key].dtype)
        return found


def _mapped(path: Path) -> Any:
    """The file in memory: to read beyond its end reserves nothing. A ValueError if it is empty."""
    with path.open('rb') as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_pdparams(path: Path) -> Tuple[Dict[str, Array], Dict[str, str]]:
    """Read a state_dict that Paddle saved.

    Returns:
        its arrays by name, and name -> name in a static program, for the parameters whose name there is stored.

    Raises:
        InputError: the file is damaged, or holds something else than named arrays.
    """
    names: Dict[str, str] = {}

    def load(path: Path) -> Any:
        with _mapped(path) as file:
            found = _unwrapped(path, _Unpickler(file, path.stat().st_size).load())
        names.update({str(name): str(other) for name, other in dict(found.pop('StructuredToParameterName@@', {})).items()})
        # Paddle 2.1 and later store (name, array).
        return {key: value[1] if isinstance(value, tuple) and len(value) == 2 else value
                for key, value in found.items()}
    return _arrays(path, load), names


def _unwrapped(path: Path, found: Any) -> Dict[str, Any]:
    """The table of weights in what a file holds; of one entry if it holds no table."""
    while isinstance(found, dict):
        inside = next((found[name] for name in WRAPPERS if isinstance(found.get(name), dict)), None)
        if inside is None:
            return found
        same = [str(name) for name, value in found.items() if isinstance(value, dict) and value.keys() == inside.keys()]
        if inside and len(same) > 1:
            raise InputError(f'{path} holds several tables of the same weights: {", ".join(same)}; save the right one alone')
        found = inside
    return {'its only object': found}


def _arrays(path: Path, load: Callable[[Path], Any]) -> Dict[str, Array]:
    try:
        found = _unwrapped(path, load(path))
        others = [f'{name} ({type(value).__name__})' for name, value in found.items()
                  if not isinstance(value, (_Tensor, _Array))]
        if sum(value.nbytes for value in found.values() if isinstance(value, (_Tensor, _Array))) > (
                2 ** 20 + MOST_COPIES * path.stat().st_size):
            raise ValueError('arrays larger than the file')
        if not all(str(name).isprintable() for name in found):
            raise ValueError('no names')
        program = next((value for value in found.values() if isinstance(value, _Ignored) or isinstance(value, type)), None)
        if program is not None:
            raise Refused((program if isinstance(program, type) else type(program)).__name__)
        if not others:
            return {str(name): value.value for name, value in found.items()}
    except InputError:
        raise
    except Refused as error:
        raise InputError(f'{path} holds {error}, which is no tensor, number or container, and could run a program: it '
                         'is not read; give a state_dict alone') from error
    except Exception as error:  # a damaged pickle raises anything
        raise InputError(f'{path} cannot be read as {path.suffix}: it is cut short, damaged, or holds something else '
                         'than named weights; give another file') from error
    raise InputError(f'{path} holds other things than tensors: {", ".join(others[:4])}; save the state_dict alone')

"""Read one variable of a MATLAB file (version 5, as -v6 and -v7 write it, or 7.3): numbers, or strings in a cell array."""
import os
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Tuple, Union

import h5py
import numpy as np
from numpy.typing import NDArray

from src.common.arrays import Array
from src.common.errors import InputError
from src.datasets.mat_v5 import read_v5

File = Union[str, 'os.PathLike[str]']
# Bytes of values that any file may declare, or this multiple of its size: compression of real data gains less.
ALWAYS, EXPANSION = 2 ** 26, 200
# Largest value of an array between which float32 can hold the squares of its values and their sums.
SMALLEST, LARGEST = 1e-15, 1e15


class NoVariable(InputError):
    """The file has no variable of that name."""


@contextmanager
def _reading(path: File, variable: str) -> Iterator[None]:
    """Turn every failure to read a variable into an InputError."""
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such file; it must hold the variable {variable}')
    try:
        yield
    # Parsers report damage by whatever they run into: IndexError, TypeError, zlib.error, OSError...
    except Exception as error:
        raise InputError(f'{path}: cannot read {variable}, the file is truncated, damaged or not a MATLAB file; copy or '
                         f'download it again ({" ".join(str(error).split())})') from error


def _most(path: File) -> int:
    """Bytes of values that a file may declare."""
    return ALWAYS + EXPANSION * os.path.getsize(path)


def _stored(path: File, node: Any) -> Array:
    """Values of a dataset of version 7.3. Raises a ValueError, before memory is reserved, if it declares too many."""
    size = (node.size or 0) * node.dtype.itemsize
    if size > _most(path):
        raise ValueError(f'it declares {size} bytes of values, and the file has {os.path.getsize(path)}')
    return np.asarray(node[()])


def _read_v5(path: str, variable: str) -> Tuple[Any, List[str]]:
    """(value, []), or (None, names of the variables of the file)."""
    there, value, names = read_v5(path, variable, _most(path))
    return (value if isinstance(value, np.ndarray) else np.array(None), []) if there else (None, names)


def _read_v73(path: str, variable: str) -> Tuple[Any, List[str]]:
    """(value, []), or (None, names of the variables of the file)."""
    with h5py.File(path, 'r') as contents:
        if variable not in contents:
            return None, [name for name in contents if not name.startswith('#')]
        node = contents[variable]
        # MATLAB stores text as numbers, and an empty array as its shape.
        if not isinstance(node, h5py.Dataset) or node.attrs.get('MATLAB_class') in (b'char', b'cell'):
            return np.array(None), []
        return np.zeros(0) if node.attrs.get('MATLAB_empty', 0) else _stored(path, node), []


def read_mat(path: File, variable: str) -> Array:
    """Read a real numeric array.

    Version 7.3 (HDF5) files written by MATLAB store the axes in reverse order, those of other writers may not. The axes
    are therefore returned as stored; the caller, who knows the number of rows, orients the array.

    Returns:
        array in the stored integer or floating type with at least one element, all finite. Version 5 arrays have two or
        more axes.

    Raises:
        InputError: missing, truncated or foreign file; no such variable (NoVariable); not numeric, empty, NaN or infinite.
    """
    with _reading(path, variable):
        array, names = (_read_v73 if h5py.is_hdf5(path) else _read_v5)(str(path), variable)
    if array is None:
        raise NoVariable(f'{path}: no variable {variable}; the file holds: {", ".join(names) or "nothing"}')
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'biuf':
        raise InputError(f'{path}: {variable} is not a full array of real numbers; save it as one (full(x), no cell or struct)')
    if not array.size:
        raise InputError(f'{path}: {variable} is empty')
    if not np.isfinite(array).all():
        raise InputError(f'{path}: {variable} has NaN or infinite values')
    return array


def read_integers(path: File, variable: str) -> NDArray[np.int64]:
    """Read a vector of whole numbers, stored as a row or a column of integers or integral floats: (n,) int64.

    Raises:
        InputError: see read_mat; the array is not a vector or has a fraction.
    """
    stored = read_mat(path, variable)
    if stored.size != max(stored.shape, default=1):
        raise InputError(f'{path}: {variable} must be a vector, its shape is {stored.shape}')
    stored = stored.reshape(-1)
    with np.errstate(invalid='ignore'):
        numbers = stored.astype(np.int64)
    if (numbers != stored).any():
        raise InputError(f'{path}: {variable} must hold whole numbers, it has {stored[numbers != stored][0]}')
    return numbers


def as_float32(path: File, variable: str, array: Array) -> NDArray[np.float32]:
    """Copy an array of a file as C-ordered float32. Raises InputError if float32 cannot hold the squares of its values.

    The copy has native byte order: MindSpore 2.7 does not know the dtypes with explicit byte order that files have.
    """
    largest = max(float(array.max()), -float(array.min()))
    if largest > LARGEST or 0 < largest < SMALLEST:
        raise InputError(f'{path}: {variable} has values up to {largest:g}, too {"small" if largest < 1 else "large"} for '
                         'float32; rescale them')
    return array.astype(np.float32, order='C')


def read_names(path: File, variable: str) -> Optional[List[str]]:
    """Read the texts of a cell array, or of the rows of a matrix of characters; None if the file has no such variable.

    Raises:
        InputError: missing, truncated or foreign file, or another variable, such as MATLAB's `string`.
    """
    with _reading(path, variable):
        if h5py.is_hdf5(path):
            with h5py.File(path, 'r') as contents:
                there = variable in contents
                value = _texts_v73(path, contents, contents[variable]) if there else None
        else:
            there, value, _ = read_v5(str(path), variable, _most(path))
    if there and not isinstance(value, list):
        raise InputError(f'{path}: {variable} holds no texts; save it as a cell array of them (cellstr(x))')
    return value


def _texts_v73(path: File, contents: Any, node: Any) -> Optional[List[str]]:
    """Texts of a dataset of version 7.3, also as h5py writes them; None if it holds none."""
    if not isinstance(node, h5py.Dataset):
        return None
    if h5py.check_string_dtype(node.dtype):
        return [text.decode() for text in _stored(path, node).reshape(-1)]
    if node.attrs.get('MATLAB_class') == b'char':
        return [''.join(map(chr, letters)) for letters in np.atleast_2d(_stored(path, node).T)]
    if node.dtype.kind != 'O':
        return None
    return [''.join(map(chr, _stored(path, contents[cell]).reshape(-1))) for cell in _stored(path, node).reshape(-1)]

"""One variable of a MATLAB file, of version 5 (and older) or 7.3: numbers, or names in cells."""
import os

import h5py
import numpy as np
import scipy.io

from src.common.errors import InputError


class NoVariable(InputError):
    """The file has no variable of that name."""


def _read_v5(path, variable):
    contents = scipy.io.loadmat(path, appendmat=False, variable_names=[variable])
    if variable in contents:
        return contents[variable], None
    return None, [name for name, _, _ in scipy.io.whosmat(path, appendmat=False)]


def _read_v73(path, variable):
    with h5py.File(path, 'r') as contents:
        if variable not in contents:
            return None, [name for name in contents if not name.startswith('#')]
        node = contents[variable]
        # MATLAB stores text as numbers, and the shape of an empty array in place of its values.
        if not isinstance(node, h5py.Dataset) or node.attrs.get('MATLAB_class') in (b'char', b'cell'):
            return np.array(None), None
        if node.attrs.get('MATLAB_empty', 0):
            return np.zeros(0), None
        return node[()], None


def read_mat(path, variable):
    """Read one real numeric array from a MATLAB file.

    Version 7.3 (HDF5) stores the axes of a MATLAB array in reverse order and other writers do not, so the axes
    are returned as the reader finds them; the caller, who knows how many rows there must be, orients the array.

    Args:
        path: the file.
        variable (str): name of the variable.

    Returns:
        numpy array in the stored integer or floating type, at least one element, all finite. Version 5 arrays
        have two or more axes.

    Raises:
        InputError: missing, truncated or foreign file; no such variable (NoVariable); not numeric, empty, NaN or infinite.
    """
    path = str(path)
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such file; it must hold the variable {variable}')
    try:
        read = _read_v73 if h5py.is_hdf5(path) else _read_v5
        array, names = read(path, variable)
    # scipy reports damage by whatever its parser stumbles on: IndexError, TypeError, zlib.error, OSError...
    except Exception as error:
        reason = ' '.join(str(error).split())
        raise InputError(f'{path}: cannot read {variable}, the file is truncated, damaged or not a MATLAB file; '
                         f'copy or download it again ({reason})') from error
    if names is not None:
        raise NoVariable(f'{path}: no variable {variable}; the file holds: {", ".join(names) or "nothing"}')
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'biuf':
        raise InputError(f'{path}: {variable} is not an array of real numbers')
    if not array.size:
        raise InputError(f'{path}: {variable} is empty')
    if not np.isfinite(array).all():
        raise InputError(f'{path}: {variable} has NaN or infinite values')
    return array


def read_names(path, variable):
    """The strings of a cell array, or None where the file has no such variable or it holds something else.

    Returns:
        list of str or None.

    Raises:
        InputError: missing, truncated or foreign file.
    """
    path = str(path)
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such file; it must hold the variable {variable}')
    try:
        if not h5py.is_hdf5(path):
            cells = scipy.io.loadmat(path, appendmat=False, variable_names=[variable]).get(variable)
            if cells is None or cells.dtype.kind not in 'OU':
                return None
            return [str(np.asarray(cell).reshape(-1)[0]) if np.size(cell) else '' for cell in cells.reshape(-1)]
        with h5py.File(path, 'r') as contents:
            if variable not in contents or contents[variable].dtype.kind != 'O':
                return None
            return [''.join(map(chr, np.asarray(contents[cell]).reshape(-1))) for cell in contents[variable][()].reshape(-1)]
    except Exception as error:
        raise InputError(f'{path}: cannot read {variable}, the file is truncated, damaged or not a MATLAB file; '
                         f'copy or download it again ({" ".join(str(error).split())})') from error

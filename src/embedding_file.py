"""Files of embeddings, written and read in blocks: they may be far larger than the memory.

`X.npy` holds the embeddings alone, and `X.npy.txt` beside it one line a row: the path, then label and camera where they
are known, which is a list of images again. `X.npz` holds the arrays embeddings, paths and, where known, labels and
cameras.
"""
import os
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
from numpy.lib import format as npy

from src.datasets.any_images import read_any_list
from src.datasets.image_list import ImageList
from src.errors import InputError
from src.files import replacing

SUFFIXES = ('.npy', '.npz')
BLOCK_BYTES = 32 * 2 ** 20
PATHS_AT_ONCE = 4096
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def check_output(path):
    """Raise InputError unless an embedding file can have this name."""
    if not path.endswith(SUFFIXES):
        raise InputError(f'--output={path}: the name of an embedding file ends in {" or ".join(SUFFIXES)}')
    if os.path.isdir(path):
        raise InputError(f'--output={path}: is a folder; give the name of a file')


def write_embeddings(path, batches, images):
    """Write embeddings as they come; nothing is in place before all of them are written.

    Args:
        path (str): ending in .npy or .npz.
        batches (iterable): float32 arrays (n, D), as many rows together as there are images.
        images (ImageList): of the rows, in their order; labels may be None.

    Returns:
        int, the width D.

    Raises:
        InputError: the file cannot be written.
    """
    check_output(path)
    if path.endswith('.npz'):
        with replacing(path) as part, zipfile.ZipFile(part, 'w') as archive:
            return _write_archive(archive, batches, images)
    # A plain file, not a memory map: pages of a map count as memory of the process.
    with replacing(path) as part, replacing(path + '.txt') as list_part:
        with open(part, 'wb') as file:
            width = _write_array(file, batches, len(images))[1]
        with open(list_part, 'w', encoding='utf-8') as file:
            columns = [column.tolist() for column in (images.labels, images.cameras) if column is not None]
            file.writelines(' '.join(map(str, row)) + '\n' for row in zip(images.paths, *columns))
    return width


def _write_archive(archive, batches, images):
    with archive.open('embeddings.npy', 'w', force_zip64=True) as file:
        width = _write_array(file, batches, len(images))[1]
    longest = np.dtype(f'U{max(map(len, images.paths))}')
    arrays = {'paths': (np.array(images.paths[start:start + PATHS_AT_ONCE], longest)
                        for start in range(0, len(images), PATHS_AT_ONCE)),
              'labels': None if images.labels is None else [images.labels],
              'cameras': None if images.cameras is None else [images.cameras]}
    for name, blocks in arrays.items():
        if blocks is not None:
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
                _write_array(file, blocks, len(images))
    return width


def _write_array(file, blocks, count):
    """Write the blocks as one array of `count` rows; returns its shape."""
    shape = None
    for block in blocks:
        if shape is None:
            shape = (count, *block.shape[1:])
            npy.write_array_header_1_0(file, {'descr': npy.dtype_to_descr(block.dtype), 'fortran_order': False,
                                              'shape': shape})
        file.write(block.tobytes())
    return shape


class EmbeddingFile:
    """A file of embeddings, of which one block at a time is in memory.

    Args:
        path (str): written by write_embeddings, or any .npy or .npz of the same contents (compressed or not).

    Attributes: path, count, width, images (ImageList of `count` images, labels may be None).

    Raises:
        InputError: no such file, not of that kind, cut short, or its paths are missing or of another number.
    """

    def __init__(self, path):
        self.path = path
        if not path.endswith(SUFFIXES):
            raise InputError(f'{path}: not an embedding file of infer.py, which ends in {" or ".join(SUFFIXES)}')
        with self._open() as (file, shape, dtype):
            self.count, self.width = shape
            size = self.count * self.width * dtype.itemsize
            if path.endswith('.npy') and os.path.getsize(path) != file.tell() + size:
                raise EOFError
        self.images = self._read_images()
        if len(self.images) != self.count:
            raise InputError(f'{path}: {self.count} embeddings but {len(self.images)} paths; '
                             'write it anew with infer.py')

    @contextmanager
    def _open(self):
        """The file at its first row, the array's shape and its dtype; what cannot be read becomes an InputError."""
        try:
            with self._stream() as file:
                shape, fortran_order, dtype = HEADERS[npy.read_magic(file)](file)
                if len(shape) != 2 or 0 in shape or dtype.kind != 'f' or fortran_order:
                    raise InputError(f'{self.path}: expected floats in rows (N, D), found {dtype} of shape {shape}'
                                     f'{" in columns" if fortran_order else ""}')
                yield file, shape, dtype
        except OSError as error:
            raise InputError(f'{self.path}: cannot be read: {error.strerror or error}') from error
        except InputError:
            raise
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f'{self.path}: no embedding file, cut short or damaged; '
                             'write it anew with infer.py') from error

    @contextmanager
    def _stream(self):
        if self.path.endswith('.npy'):
            with open(self.path, 'rb') as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open('embeddings.npy') as file:
                yield file

    def _read_images(self):
        if self.path.endswith('.npy'):
            return read_any_list(self.path + '.txt')
        try:
            with np.load(self.path) as archive:
                paths, labels, cameras = (archive[name] if name in archive.files else None
                                          for name in ('paths', 'labels', 'cameras'))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f'{self.path}: damaged; write it anew') from error
        if paths is None or any(array is not None and array.shape != (self.count,)
                                for array in (paths, labels, cameras)):
            raise InputError(f'{self.path}: needs an array `paths` with one path a row; write it anew with infer.py')
        return ImageList(paths.tolist(), labels, cameras)

    def blocks(self):
        """The rows in order as (first row, float32 array (n, D)).

        Raises:
            InputError: cut short, damaged, or a row holds NaN or Inf.
        """
        with self._open() as (file, _, dtype):
            size = max(1, BLOCK_BYTES // (self.width * dtype.itemsize))
            for start in range(0, self.count, size):
                rows = min(size, self.count - start)
                data = file.read(rows * self.width * dtype.itemsize)
                if len(data) < rows * self.width * dtype.itemsize:
                    raise EOFError
                block = np.frombuffer(data, dtype).astype(np.float32, copy=False).reshape(rows, self.width)
                finite = np.isfinite(block).all(axis=1)
                if not finite.all():
                    row = start + int(np.argmin(finite))
                    raise InputError(f'{self.path}: row {row} ({self.images.paths[row]}) holds NaN or Inf; '
                                     'look at the network that wrote it')
                yield start, block

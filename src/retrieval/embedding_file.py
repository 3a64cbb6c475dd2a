"""Embedding files, written once and read in blocks: they may be far larger than memory.

`X.npy` holds the embeddings alone. `X.npy.txt` beside it has one line per row: the path, then label and camera if known, in
the format of image lists. `X.npz` holds the arrays embeddings and paths and, if known, labels and cameras.

A file that this project writes has a card, beside a .npy as `X.npy.json`, in an .npz as the array `card`:
    rows      number of rows
    width     values per row
    checksum  of 16 pieces of the .npy, which detects that another file of the same shape has replaced it
    model     identity of the embeddings (network, preprocessing and test-time augmentation), or null
    classes   {label: name}, or null
"""
import io
import json
import lzma
import os
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple

import numpy as np
from numpy.lib import format as npy

from src.accuracy.recall import nearest_neighbours
from src.common.arrays import Array
from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import parse_json, read_json, read_record
from src.datasets.image_list import ImageList
from src.datasets.images import read_any_list
from src.retrieval.gallery import Card, ClassId, Gallery, Neighbours, Part, classes_of, in_parts

SUFFIXES = ('.npy', '.npz')
BLOCK_BYTES = 32 * 2 ** 20
PATHS_AT_ONCE = 4096
PIECES, PIECE_BYTES = 16, 4096
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# Exceptions of numpy and zipfile for files that are no arrays, encrypted, damaged, or packed in an unsupported way.
DAMAGED = (ValueError, KeyError, EOFError, RuntimeError, SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error,
           lzma.LZMAError, tokenize.TokenError)
Names = Mapping[int, str]


@dataclass(frozen=True)
class FileCard:
    """The card of a file, see above.

    Raises:
        ValueError: a label is not an integer.
    """
    rows: int
    width: int
    checksum: Optional[int] = None
    model: Optional[str] = None
    classes: Optional[Dict[str, str]] = None

    def __post_init__(self) -> None:
        if not all(label.lstrip('-').isdigit() for label in self.classes or ()):
            raise ValueError('classes: a label is not a whole number')


def check_output(path: str, flag: str = '--output') -> None:
    """Raise InputError unless an embedding file can have this name. flag: the flag that gave it, for the error."""
    if not path.endswith(SUFFIXES):
        raise InputError(f'{flag}={path}: the name of an embedding file ends in {" or ".join(SUFFIXES)}')
    if os.path.isdir(path):
        raise InputError(f'{flag}={path}: is a folder; give the name of a file')


def write_embeddings(path: str, batches: Iterable[Array], images: ImageList, *, model: Optional[str] = None,
                     classes: Optional[Names] = None) -> int:
    """Write embeddings batch by batch; the file appears under its name only when it is complete.

    Args:
        path: ends in .npy or .npz.
        batches: float32 arrays (n, D), together one row per image.
        images: the images of the rows, in order; labels may be None.
        model: identity of the embeddings (src.retrieval.embedding.embedding_identity).
        classes: {label: name}.

    Returns:
        The width D.

    Raises:
        InputError: the file cannot be written, or an embedding holds NaN or Inf.
    """
    check_output(path)
    batches = _finite(path, batches)
    card = FileCard(len(images), 0, None, model, {str(label): name for label, name in classes.items()} if classes else None)
    if path.endswith('.npz'):
        with replacing(path) as part, zipfile.ZipFile(part, 'w') as archive:
            return _write_archive(archive, batches, images, card)
    # `replacing` blocks end from the inside out: the card is opened first and so renamed last.
    # Plain writes, not a memory map: pages of a map count as memory.
    with replacing(_card(path)) as card_part, replacing(path) as part, replacing(path + '.txt') as list_part:
        with open(part, 'wb') as file:
            width = _write_array(file, batches, len(images))[1]
        _write_list(list_part, images)
        with open(part, 'rb') as file:
            card = replace(card, width=width, checksum=_checksum(file, os.path.getsize(part)))
        card_part.write_text(json.dumps(asdict(card)) + '\n', encoding='utf-8')
    return width


def _card(path: str) -> str:
    return path + '.json'


def _write_list(path: Path, images: ImageList) -> None:
    columns = [column.tolist() for column in (images.labels, images.cameras) if column is not None]
    with open(path, 'w', encoding='utf-8') as file:
        file.writelines(' '.join(map(str, row)) + '\n' for row in zip(images.paths, *columns))


def _finite(path: str, batches: Iterable[Array]) -> Iterator[Array]:
    for batch in batches:
        if not np.isfinite(batch).all():
            raise InputError(f'{path}: a new embedding holds NaN or Inf; check the network that wrote it')
        yield batch


def _checksum(file: IO[bytes], end: int) -> int:
    """Checksum of PIECES evenly spaced pieces between the header and `end`, the end of the rows."""
    crc, begin = 0, len(_header(np.dtype(np.float32), (1, 1)))
    for start in np.linspace(begin, max(begin, end - PIECE_BYTES), PIECES).astype(int).tolist():
        file.seek(start)
        crc = zlib.crc32(file.read(max(0, min(PIECE_BYTES, end - start))), crc)
    return crc


def _header(dtype: 'np.dtype[Any]', shape: Tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {'descr': npy.dtype_to_descr(dtype), 'fortran_order': False, 'shape': shape})
    return file.getvalue()


def _write_archive(archive: zipfile.ZipFile, batches: Iterable[Array], images: ImageList, card: FileCard) -> int:
    with archive.open('embeddings.npy', 'w', force_zip64=True) as file:
        width = _write_array(file, batches, len(images))[1]
    longest = np.dtype(f'U{max(map(len, images.paths))}')
    arrays: Dict[str, Iterable[Array]] = {'paths': (np.array(images.paths[start:start + PATHS_AT_ONCE], longest)
                                                    for start in range(0, len(images), PATHS_AT_ONCE))}
    arrays.update({name: [column] for name, column in (('labels', images.labels), ('cameras', images.cameras))
                   if column is not None})
    for name, blocks in arrays.items():
        with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
            _write_array(file, blocks, len(images))
    with archive.open('card.npy', 'w') as file:
        npy.write_array(file, np.array(json.dumps(asdict(replace(card, width=width)))))
    return width


def _write_array(file: IO[bytes], blocks: Iterable[Array], count: int) -> Tuple[int, ...]:
    """Write blocks as one array of `count` rows; returns its shape."""
    shape: Tuple[int, ...] = ()
    for block in blocks:
        if not shape:
            shape = (count, *block.shape[1:])
            file.write(_header(block.dtype, shape))
        file.write(block.tobytes())
    return shape


class EmbeddingFile(Gallery):
    """An embedding file, of which one block at a time is in memory.

    Args:
        path: written by write_embeddings, or any .npy or .npz with the same contents (compressed or not).

    Attributes: path; count and width; images (ImageList of `count` images, labels may be None); classes as given to
        write_embeddings, or None.

    Raises:
        InputError: no such file, no embedding file, cut short, no paths or another number of them, or a card that describes
            another file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        if not path.endswith(SUFFIXES):
            raise InputError(f'{path}: not an embedding file of infer.py, which ends in {" or ".join(SUFFIXES)}')
        card = None
        with self._open() as (file, shape, dtype):
            self.count, self.width = shape
            self.dtype, self.row_bytes, self.offset = dtype, self.width * dtype.itemsize, file.tell()
            if path.endswith('.npy'):
                if os.path.getsize(path) != self.offset + self.count * self.row_bytes:
                    raise EOFError
                card = self._read_card(file)
        if path.endswith('.npy'):
            self.images = read_any_list(path + '.txt')
        else:
            self.images, card = self._read_archive()
        if len(self.images) != self.count:
            raise InputError(f'{path}: {self.count} embeddings but {len(self.images)} paths; write it anew with infer.py')
        self.classes = {int(label): name for label, name in card.classes.items()} if card and card.classes else None
        self._model = card.model if card else None

    @property
    def card(self) -> Card:
        return Card.of(self.images, self._model, bool(self.classes))

    def _read_card(self, file: IO[bytes]) -> Optional[FileCard]:
        """The card, checked against the file; None if there is none."""
        path = _card(self.path)
        if not os.path.isfile(path):
            return None
        advice = f'write {self.path} anew with infer.py'
        card = read_record(FileCard, read_json(path, advice), path, advice)
        if (card.rows, card.width) != (self.count, self.width) or card.checksum != _checksum(
                file, self.offset + self.count * self.row_bytes):
            raise InputError(f'{path}: describes another file than {self.path}; remove it if the embeddings and their '
                             'list are right, or write them anew')
        return card

    @contextmanager
    def _open(self) -> Iterator[Tuple[IO[bytes], Tuple[int, int], 'np.dtype[Any]']]:
        """The file at its first row, the array's shape and its dtype; raises InputError if the file cannot be read."""
        try:
            with (open(self.path, 'rb') if self.path.endswith('.npy')
                  else zipfile.ZipFile(self.path).open('embeddings.npy')) as file:
                shape, fortran_order, dtype = HEADERS[npy.read_magic(file)](file)
                if len(shape) != 2 or 0 in shape or dtype.kind != 'f' or fortran_order:
                    raise InputError(f'{self.path}: expected floats in rows (N, D), found {dtype} of shape {shape}'
                                     f'{" in columns" if fortran_order else ""}')
                yield file, shape, dtype
        except OSError as error:
            raise InputError(f'{self.path}: cannot be read: {error.strerror or error}') from error
        except InputError:
            raise
        except DAMAGED as error:
            raise InputError(f'{self.path}: no embedding file, cut short or damaged; '
                             'write it anew with infer.py') from error

    def _read_archive(self) -> Tuple[ImageList, Optional[FileCard]]:
        """The images and the card in an .npz."""
        try:
            with np.load(self.path) as archive:
                paths, labels, cameras, card = (archive[name] if name in archive.files else None
                                                for name in ('paths', 'labels', 'cameras', 'card'))
        except (OSError, *DAMAGED) as error:
            raise InputError(f'{self.path}: damaged; write it anew') from error
        if paths is None or any(array is not None and (array.shape != (self.count,) or array.dtype.kind not in kinds)
                                for array, kinds in ((paths, 'U'), (labels, 'iu'), (cameras, 'iu'))):
            raise InputError(f'{self.path}: needs an array `paths` with one path per row, and `labels` and `cameras`, if any, '
                             'with a whole number each; write it anew with infer.py')
        advice = 'write it anew with infer.py'
        read = None if card is None else read_record(FileCard, parse_json(str(card), self.path, advice), self.path, advice)
        if read and (read.rows, read.width) != (self.count, self.width):
            raise InputError(f'{self.path}: its array `card` describes another file; {advice}')
        return ImageList(paths.tolist(), labels, cameras), read

    def blocks(self) -> Iterator[Tuple[int, Array]]:
        """Yield the embeddings in order: (number of the block's first image, float32 (n, D)).

        Raises:
            InputError: cut short, damaged, or a row holds NaN or Inf.
        """
        with self._open() as (file, _, dtype):
            size = max(1, BLOCK_BYTES // self.row_bytes)
            for start in range(0, self.count, size):
                rows = min(size, self.count - start)
                data = file.read(rows * self.row_bytes)
                if len(data) < rows * self.row_bytes:
                    raise EOFError
                block = np.frombuffer(data, dtype).astype(np.float32, copy=False).reshape(rows, self.width)
                finite = np.isfinite(block).all(axis=1)
                if not finite.all():
                    number = start + int(np.argmin(finite))
                    raise InputError(f'{self.path}: row {number} ({self.images.paths[number]}) holds NaN or Inf; '
                                     'check the network that wrote it')
                yield start, block

    def parts(self, where: Optional[str] = None) -> Iterator[Part]:
        self.size(where)
        return in_parts(self.images, self.classes, (block for _, block in self.blocks()))

    def size(self, where: Optional[str] = None) -> int:
        if where:
            raise InputError(f'--where: {self.path} is an embedding file, which has no filters; load it into Milvus, infer.py '
                             f'--gallery={self.path} --output=NAME.db, and search that')
        return self.count

    def class_sizes(self) -> Dict[ClassId, int]:
        classes = classes_of(self.images, self.classes)
        found: Any = ((), ()) if classes is None else np.unique(classes, return_counts=True)
        return {one: int(count) for one, count in zip(*found)}

    def search(self, queries: Array, k: int, where: Optional[str] = None) -> Neighbours:
        """See Gallery; exact, and of equal similarities the lower row comes first. Memory: one block of the file and (N, k)."""
        self.size(where)
        numbers, best = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        for start, block in self.blocks():
            more, similarities = nearest_neighbours(queries, block, min(k, len(block)))
            numbers, best = np.hstack([numbers, more + start]), np.hstack([best, similarities])
            order = np.argsort(-best, axis=1, kind='stable')[:, :k]
            numbers, best = np.take_along_axis(numbers, order, 1), np.take_along_axis(best, order, 1)
        return Neighbours(numbers, best, self.images, classes_of(self.images, self.classes))

    def vectors(self, images: ImageList, rows: Array) -> Array:
        return self.take(rows)

    def take(self, numbers: Array) -> Array:
        """The embeddings (n, D) float32 of the images with these numbers: 0..count-1, ascending. Reads the whole file."""
        parts = []
        for start, block in self.blocks():
            low, high = np.searchsorted(numbers, (start, start + len(block))).tolist()
            parts.append(block[numbers[low:high] - start])
        return np.concatenate(parts)

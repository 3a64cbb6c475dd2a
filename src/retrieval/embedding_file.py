"""Embedding files, written once and read in blocks: they may be far larger than memory.

`X.npy` holds the embeddings alone. `X.npy.txt` beside it has one line per row: the path, then label and camera if known, in
the format of image lists. `X.npz` holds the arrays embeddings and paths and, if known, labels and cameras.

A file that this project writes has a card, beside a .npy as `X.npy.json`, in an .npz as the array `card`:
    rows      number of rows
    width     values per row
    checksum  of 16 pieces of the .npy, which detects that another file of the same shape has replaced it
    names     checksum of the file names in the .txt, which detects that its lines have another order; folders and labels may
              be edited
    model     identity of the embeddings (network, preprocessing and test-time augmentation), or null
    classes   {label: name}, or null
"""
import json
import lzma
import os
import re
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple, Union

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
ADVICE = 'write it again with infer.py'
PIECES, PIECE_BYTES = 16, 4096
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# Exceptions of numpy and zipfile for files that are no arrays, encrypted, damaged, or packed in an unsupported way.
DAMAGED = (ValueError, KeyError, EOFError, RuntimeError, SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error,
           lzma.LZMAError, tokenize.TokenError)


@dataclass(frozen=True)
class FileCard:
    """The card of a file, see above. Raises ValueError: a label is not an integer."""
    rows: int
    width: int
    checksum: Optional[int] = None
    model: Optional[str] = None
    classes: Optional[Dict[str, str]] = None
    names: Optional[int] = None

    def __post_init__(self) -> None:
        if not all(re.fullmatch('-?[0-9]+', label) for label in self.classes or ()):
            raise ValueError('classes: a label is not a whole number')


def check_output(path: str, flag: str = '--output') -> None:
    """Raise InputError unless an embedding file can be written under this name. flag: the flag that gave it, for the error."""
    if not path.endswith(SUFFIXES):
        raise InputError(f'{flag}={path}: the name of an embedding file ends in {" or ".join(SUFFIXES)}')
    if os.path.isdir(path):
        raise InputError(f'{flag}={path}: is a folder; give the name of a file')
    files = [path, f'{path}.txt', f'{path}.json'] if path.endswith('.npy') else [path]
    foreign = [one for one in files if os.path.exists(one) and os.path.getsize(one)]
    if foreign and not _has_card(path):
        raise InputError(f'{flag}={path}: {foreign[0]} exists, and was not written by this project; give another name')


def _has_card(path: str) -> bool:
    """Whether a file was written by write_embeddings."""
    try:
        if path.endswith('.npy'):
            return b'"checksum"' in Path(path + '.json').read_bytes()
        with zipfile.ZipFile(path) as archive:
            return 'card.npy' in archive.namelist()
    except (OSError, *DAMAGED):
        return False


def write_embeddings(path: str, batches: Iterable[Array], images: ImageList, *, model: Optional[str] = None,
                     classes: Optional[Mapping[int, str]] = None) -> int:
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
    named = {str(label): name for label, name in classes.items()} if classes else None
    if path.endswith('.npz'):
        with replacing(path) as part, zipfile.ZipFile(part, 'w') as archive:
            with archive.open('embeddings.npy', 'w', force_zip64=True) as file:
                width = _write_array(file, batches, len(images))
            text = _as_json(FileCard(len(images), width, None, model, named))
            columns = {'paths': images.paths, 'labels': images.labels, 'cameras': images.cameras, 'card': text}
            for name, column in columns.items():
                if column is not None:
                    with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
                        npy.write_array(file, np.asarray(column))
        return width
    # `replacing` blocks end from the inside out: the card is opened first and so renamed last.
    # Plain writes, not a memory map: pages of a map count as memory.
    with replacing(path + '.json') as card_part, replacing(path) as part, replacing(path + '.txt') as list_part:
        numbers = [column.tolist() for column in (images.labels, images.cameras) if column is not None]
        with open(list_part, 'w', encoding='utf-8', errors='surrogateescape') as lines:
            lines.writelines(' '.join(map(str, row)) + '\n' for row in zip(images.paths, *numbers))
        _check_list(path, list_part, images)  # before hours of embedding
        with open(part, 'wb') as file:
            width = _write_array(file, batches, len(images))
        card = FileCard(len(images), width, _checksum(part, os.path.getsize(part)), model, named, _checksum_of_names(images))
        card_part.write_text(_as_json(card) + '\n', encoding='utf-8')
    return width


def _check_list(path: str, file: Path, images: ImageList) -> None:
    """Raise InputError if a list does not give the paths and labels it was written from, as with line breaks in paths."""
    odd = None
    try:
        read = read_any_list(str(file))
        pairs = zip(map(os.path.abspath, read.paths), map(os.path.abspath, images.paths))
        odd = next((mine for theirs, mine in pairs if mine != theirs), None)
        if not odd and len(read) == len(images) and all(np.array_equal(getattr(read, name), getattr(images, name))
                                                        for name in ('labels', 'cameras')):
            return
    except InputError:
        pass
    raise InputError(f'--output={path}: some of its paths{f", such as {odd!r}," * bool(odd)} cannot be lines of a list; rename '
                     'the files, or write an .npz')


def _as_json(card: FileCard) -> str:
    return json.dumps(asdict(card))


def _finite(path: str, batches: Iterable[Array]) -> Iterator[Array]:
    for batch in batches:
        if not np.isfinite(batch).all():
            raise InputError(f'{path}: a new embedding holds NaN or Inf; check the network that wrote it')
        yield batch


def _checksum(path: Union[str, Path], size: int) -> int:
    """Checksum of PIECES evenly spaced pieces of a file."""
    crc = 0
    with open(path, 'rb') as file:
        for start in np.linspace(0, max(0, size - PIECE_BYTES), PIECES).astype(int).tolist():
            file.seek(start)
            crc = zlib.crc32(file.read(PIECE_BYTES), crc)
    return crc


def _checksum_of_names(images: ImageList) -> int:
    return zlib.crc32('\n'.join(map(os.path.basename, images.paths)).encode('utf-8', 'surrogateescape'))


def _write_array(file: IO[bytes], blocks: Iterable[Array], count: int) -> int:
    """Write blocks as one array of `count` rows; returns its width."""
    width = 0
    for block in blocks:
        if not width:
            width = block.shape[1]
            npy.write_array_header_1_0(file, {'descr': npy.dtype_to_descr(block.dtype), 'fortran_order': False,
                                              'shape': (count, width)})
        file.write(block.tobytes())
    return width


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
            raise InputError(f'{path}: not an embedding file, which ends in {" or ".join(SUFFIXES)}; write one with infer.py '
                             '--dataset_path=IMAGES --output=gallery.npy')
        with self._open() as (file, shape, dtype):
            (self.count, self.width), self.row_bytes = shape, shape[1] * dtype.itemsize
            if path.endswith('.npy') and os.path.getsize(path) != file.tell() + self.count * self.row_bytes:
                raise EOFError
        self.images, card = self._read_files() if path.endswith('.npy') else self._read_archive()
        if len(self.images) != self.count:
            raise InputError(f'{path}: {self.count} embeddings but {len(self.images)} paths; {ADVICE}')
        if card and ((card.rows, card.width) != (self.count, self.width)
                     or path.endswith('.npy') and card.checksum != _checksum(path, os.path.getsize(path))):
            raise InputError(f'{path}{".json" * path.endswith(".npy")}: describes another file than {path}; remove it if the '
                             'embeddings and their list are right, or write them again')
        if card and card.names not in (None, _checksum_of_names(self.images)):
            raise InputError(f'{path}.txt: lists other images than were embedded, or in another order; write it again with '
                             f'infer.py, or remove {path}.json if it is right')
        self.classes = {int(label): name for label, name in card.classes.items()} if card and card.classes else None
        self._model = card.model if card else None

    @property
    def card(self) -> Card:
        return Card.of(self.images, self._model, bool(self.classes))

    def _read_files(self) -> Tuple[ImageList, Optional[FileCard]]:
        """The images and the card beside a .npy; no card where there is none."""
        path = self.path + '.json'
        card = read_record(FileCard, read_json(path, ADVICE), path, ADVICE) if os.path.isfile(path) else None
        return read_any_list(self.path + '.txt'), card

    @contextmanager
    def _open(self) -> Iterator[Tuple[IO[bytes], Tuple[int, int], 'np.dtype[Any]']]:
        """The file at its first row, the array's shape and its dtype; raises InputError if the file cannot be read."""
        try:
            with (open(self.path, 'rb') if self.path.endswith('.npy')
                  else zipfile.ZipFile(self.path).open('embeddings.npy')) as file:
                shape, fortran_order, dtype = HEADERS[npy.read_magic(file)](file)
                if len(shape) != 2 or 0 in shape or dtype.kind != 'f' or fortran_order:
                    raise InputError(f'{self.path}: expected floats in rows (N, D), found {dtype} of shape {shape}'
                                     f'{" in columns" if fortran_order else ""}; save np.ascontiguousarray(x, np.float32)')
                yield file, shape, dtype
        except OSError as error:
            raise InputError(f'{self.path}: cannot be read: {error.strerror or error}') from error
        except InputError:
            raise
        except KeyError as error:
            raise InputError(f'{self.path}: holds no array called embeddings; save it under this name, and their paths as '
                             '`paths`') from error
        except DAMAGED as error:
            raise InputError(f'{self.path}: no embedding file, cut short or damaged; {ADVICE}') from error

    def _read_archive(self) -> Tuple[ImageList, Optional[FileCard]]:
        """The images and the card in an .npz."""
        try:
            with np.load(self.path) as archive:
                paths, labels, cameras, card = (archive[name] if name in archive.files else None
                                                for name in ('paths', 'labels', 'cameras', 'card'))
        except (OSError, *DAMAGED) as error:
            raise InputError(f'{self.path}: damaged, or an array of objects; save texts and whole numbers, or {ADVICE}'
                             ) from error
        if paths is None or any(array is not None and (array.shape != (self.count,) or array.dtype.kind not in kinds)
                                for array, kinds in ((paths, 'U'), (labels, 'iu'), (cameras, 'iu'))):
            raise InputError(f'{self.path}: needs an array `paths` with one path per row, and `labels` and `cameras`, if any, '
                             f'with a whole number each; {ADVICE}')
        read = None if card is None else read_record(FileCard, parse_json(str(card), self.path, ADVICE), self.path, ADVICE)
        labels, cameras = (None if array is None else array.astype(np.int64) for array in (labels, cameras))
        return ImageList(paths.tolist(), labels, cameras), read

    def blocks(self) -> Iterator[Tuple[int, Array]]:
        """Yield the embeddings in order: (number of the block's first image, float32 (n, D)).

        Raises:
            InputError: cut short, damaged, a row holds NaN, Inf or values whose squares do, or all rows of a block are zero.
        """
        with self._open() as (file, _, dtype):
            size = max(1, BLOCK_BYTES // self.row_bytes)
            for start in range(0, self.count, size):
                rows = min(size, self.count - start)
                data = file.read(rows * self.row_bytes)
                if len(data) < rows * self.row_bytes:
                    raise EOFError
                with np.errstate(over='ignore'):
                    block = np.frombuffer(data, dtype).astype(np.float32, copy=False).reshape(rows, self.width)
                with np.errstate(over='ignore'):
                    squares = np.einsum('nd,nd->n', block, block)
                if not np.isfinite(squares).all():
                    number = start + int(np.argmin(np.isfinite(squares)))
                    raise InputError(f'{self.path}: row {number} ({self.images.paths[number]}) holds NaN, Inf or values too '
                                     'large for float32; check the network that wrote it')
                if not block.any():
                    raise InputError(f'{self.path}: rows {start} to {start + rows - 1} are zero; {ADVICE}')
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
        found = nearest_neighbours(queries, (block for _, block in self.blocks()), k)
        return Neighbours(*found, self.images, classes_of(self.images, self.classes))

    def vectors(self, images: ImageList, rows: Array) -> Array:
        """See Gallery; reads the whole file."""
        parts = []
        for start, block in self.blocks():
            low, high = np.searchsorted(rows, (start, start + len(block))).tolist()
            parts.append(block[rows[low:high] - start])
        return np.concatenate(parts)

"""Embedding files, written and read in blocks: they may be far larger than memory.

`X.npy` holds the embeddings alone. `X.npy.txt` beside it has one line per row: the path, then label and camera if known, in
the format of image lists. `X.npz` holds the arrays embeddings and paths and, if known, labels and cameras.

Beside a .npy that this project writes lies its note `X.npy.json`, which decides what is in the gallery:
    rows      number of valid rows of the .npy, and of valid lines of the list; what follows is left of an unfinished append
    width     values per row
    identity  a hash of the rows; an append hashes the identity before it together with the appended rows
    history   [identity, rows] of every state from the first to the present one
    pieces    checksum of 16 pieces of the file, which detects that another file of the same shape has replaced it
    removed   row numbers that are no longer in the gallery; their bytes stay until the gallery is written anew
    model     identity of the embeddings (network, preprocessing and test-time augmentation), or null
    classes   {label: name}, or null
An append writes rows behind the last valid one and renames the new note into place last: a process killed before that leaves
the gallery as it was. Without a note the whole file counts.
"""
import fcntl
import hashlib
import io
import json
import os
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Collection, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import numpy as np
from numpy.lib import format as npy

from src.common.arrays import Array
from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import read_json, read_record
from src.datasets.image_list import ImageList
from src.datasets.images import read_any_list

SUFFIXES = ('.npy', '.npz')
BLOCK_BYTES = 32 * 2 ** 20
PATHS_AT_ONCE = 4096
PIECES, PIECE_BYTES = 16, 4096
ROWS_MAPPED = 2048
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
Names = Mapping[int, str]
Opened = Tuple[IO[bytes], Tuple[int, int], 'np.dtype[Any]']   # a file at its first row, shape and dtype of its array


@dataclass(frozen=True)
class Note:
    """The note beside a .npy, see above.

    Raises:
        ValueError: rows or width are not positive, a removed row is out of range, or a label is not an integer.
    """
    rows: int
    width: int
    identity: str
    history: List[Tuple[str, int]]
    pieces: int
    removed: List[int] = field(default_factory=list)
    model: Optional[str] = None
    classes: Optional[Dict[str, str]] = None

    def __post_init__(self) -> None:
        if self.rows < 1 or self.width < 1 or not all(0 <= row < self.rows for row in self.removed):
            raise ValueError('rows, width or removed are out of range')
        if not all(label.lstrip('-').isdigit() for label in self.classes or ()):
            raise ValueError('classes: a label is not a whole number')


def _as_text(classes: Optional[Names]) -> Optional[Dict[str, str]]:
    return None if classes is None else {str(label): name for label, name in classes.items()}


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
        model: identity of the embeddings (src.retrieval.embedding.embedding_identity); stored for a .npy only.
        classes: {label: name}; stored for a .npy only.

    Returns:
        The width D.

    Raises:
        InputError: the file cannot be written, or an embedding holds NaN or Inf.
    """
    check_output(path)
    batches = _finite(path, batches)
    if path.endswith('.npz'):
        with replacing(path) as part, zipfile.ZipFile(part, 'w') as archive:
            return _write_archive(archive, batches, images)
    digest = hashlib.blake2b(digest_size=16)
    # `replacing` blocks end from the inside out: the note is opened first and so renamed last.
    # Plain writes, not a memory map: pages of a map count as memory.
    with replacing(_note(path)) as note_part, replacing(path) as part, replacing(path + '.txt') as list_part:
        with open(part, 'wb') as file:
            width = _write_array(file, _hashed(batches, digest), len(images))[1]
        _write_list(list_part, [images])
        identity = digest.hexdigest()
        with open(part, 'rb') as file:
            _write_note(note_part, Note(len(images), width, identity, [(identity, len(images))],
                                        _pieces(file, os.path.getsize(part)), model=model, classes=_as_text(classes)))
    return width


def append_embeddings(path: str, batches: Iterable[Array], images: ImageList, *, model: Optional[str] = None,
                      classes: Optional[Names] = None) -> int:
    """Append rows to a gallery in place; a process killed before the end leaves the gallery as it was.

    Args:
        path: an existing .npy.
        batches, images: as for write_embeddings; labels and cameras must be known exactly if the gallery has them.
        model: as for write_embeddings; must equal the gallery's if both are known.
        classes: as for write_embeddings. If the gallery has class names too, the new images get the labels that their names
            have there; new names get the next free labels.

    Returns:
        The number of images now in the gallery.

    Raises:
        InputError: an .npz, another width or model, labels on one side only, labels that cannot be matched by name, NaN or
            Inf, or another process is changing the gallery.
    """
    with _changing(path, 'add to') as (file, old, note):
        _check_alike(old, note.model, images, model)
        if images.labels is not None and (classes or note.classes):
            images, named = _same_names(path, images, classes, note.classes)
            note = replace(note, classes=named)
        digest = hashlib.blake2b(note.identity.encode(), digest_size=16)
        batches = _finite(path, (np.asarray(batch, old.dtype) for batch in batches))
        _append_rows(file, old, _hashed(batches, digest), len(images))
        with replacing(path + '.txt') as part:
            _write_list(part, [old.everything, images])
        rows, identity = note.rows + len(images), digest.hexdigest()
        note = replace(note, rows=rows, identity=identity, history=[*note.history, (identity, rows)],
                       pieces=_pieces(file, old.offset + rows * old.row_bytes), model=note.model or model)
        with replacing(_note(path)) as part:
            _write_note(part, note)
        # Only other programs need it: numpy reads as many rows as the header says.
        file.seek(0)
        file.write(_header(old.dtype, (rows, old.width)))
    return rows - len(note.removed)


def remove_embeddings(path: str, paths: Collection[str]) -> int:
    """Remove images from a gallery: its note marks their rows, which stay in the file.

    Args:
        path: an existing .npy.
        paths: the images, as written in the gallery's list.

    Returns:
        The number of images now in the gallery.

    Raises:
        InputError: an .npz, an image that the gallery does not have, or no image would be left.
    """
    with _changing(path, 'remove from') as (_, old, note):
        wanted = set(paths)
        absent = sorted(wanted - set(old.images.paths))
        if absent:
            raise InputError(f'{path}: has no image {absent[0]} ({len(absent)} of {len(wanted)} are not in it); give '
                             f'paths as in {path}.txt')
        if wanted.issuperset(old.images.paths):
            raise InputError(f'{path}: no image would be left; delete the file instead')
        gone = {row for row, one in enumerate(old.everything.paths) if one in wanted}
        note = replace(note, removed=sorted(gone.union(note.removed)))
        with replacing(_note(path)) as part:
            _write_note(part, note)
    return note.rows - len(note.removed)


@contextmanager
def _changing(path: str, what: str) -> Iterator[Tuple[IO[bytes], 'EmbeddingFile', Note]]:
    """A .npy opened for writing and locked, its EmbeddingFile, and its note. what: the change, for an error."""
    if not path.endswith('.npy'):
        raise InputError(f'{path}: only a .npy can be changed in place; write an .npy with infer.py to {what} it')
    try:
        file = open(path, 'r+b')
    except OSError as error:
        raise InputError(f'{path}: cannot be changed: {error.strerror}') from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f'{path}: another process is changing it; try again when it has ended') from error
        old = EmbeddingFile(path)
        if old.offset != len(_header(old.dtype, (old.count, old.width))):
            raise InputError(f'{path}: its header has no room to grow; write it anew with infer.py')
        note = old.note
        if note is None:
            note = Note(old.count, old.width, old.identity, [(old.identity, old.count)],
                        _pieces(file, old.offset + old.count * old.row_bytes))
            with replacing(_note(path)) as part:
                _write_note(part, note)
        try:
            yield file, old, note
        except OSError as error:
            raise InputError(f'{path}: cannot be changed: {error.strerror}') from error


def _check_alike(old: 'EmbeddingFile', old_model: Optional[str], images: ImageList, model: Optional[str]) -> None:
    """Raise InputError if images or embeddings of another kind would be appended to a gallery."""
    if old_model and model and old_model != model:
        raise InputError(f'{old.path}: was written with another network or other preprocessing than these embeddings; use the '
                         'network and flags it was written with, or write it anew')
    for what in ('labels', 'cameras'):
        has, given = getattr(old.everything, what) is not None, getattr(images, what) is not None
        if has != given:
            raise InputError(f'{old.path}: holds {"" if has else "no "}{what}, the new images {"do" if given else "none"}; '
                             'give a list like that of the gallery')


def _append_rows(file: IO[bytes], old: 'EmbeddingFile', batches: Iterable[Array], count: int) -> None:
    """Write `count` rows behind the last valid one and flush them to disk; if that fails, the file is as before."""
    end = old.offset + old.rows * old.row_bytes
    file.truncate(end)
    file.seek(0, os.SEEK_END)
    written = 0
    try:
        for rows in batches:
            if rows.ndim != 2 or rows.shape[1] != old.width:
                raise InputError(f'{old.path}: embeddings of {old.width} values, the new ones have {rows.shape[-1]}; '
                                 'write both with the same network')
            file.write(rows.data)
            written += len(rows)
        if written != count:
            raise ValueError(f'{written} embeddings for {count} images')
    except BaseException:
        file.truncate(end)
        raise
    file.flush()
    os.fsync(file.fileno())


def _same_names(path: str, images: ImageList, classes: Optional[Names], known: Optional[Dict[str, str]]
                ) -> Tuple[ImageList, Dict[str, str]]:
    """Relabel images as a gallery labels their class names; returns them and the gallery's classes with new ones added."""
    if not known:
        raise InputError(f'{path}: knows its classes by number, the new images are in folders, whose classes have names; '
                         f'give a list with the numbers of {path}.txt')
    own: List[int] = [] if images.labels is None else images.labels.tolist()
    if not classes:
        strange = sorted(set(map(str, own)) - set(known))
        if strange:
            raise InputError(f'{path}: has no class of number {strange[0]}; give the numbers that its classes have in '
                             f'{path}.json, or a folder with one folder per class')
        return images, known
    label_of = {name: int(label) for label, name in known.items()}
    free = max(label_of.values()) + 1
    for label in sorted(set(own)):
        if classes[label] not in label_of:
            label_of[classes[label]], free = free, free + 1
    labels = np.array([label_of[classes[label]] for label in own], np.int64)
    return replace(images, labels=labels), {str(label): name for name, label in label_of.items()}


def _note(path: str) -> str:
    return path + '.json'


def _write_note(path: Path, note: Note) -> None:
    path.write_text(json.dumps(asdict(note)) + '\n', encoding='utf-8')


def _write_list(path: Path, lists: Iterable[ImageList]) -> None:
    with open(path, 'w', encoding='utf-8') as file:
        for images in lists:
            columns = [column.tolist() for column in (images.labels, images.cameras) if column is not None]
            file.writelines(' '.join(map(str, row)) + '\n' for row in zip(images.paths, *columns))


def _finite(path: str, batches: Iterable[Array]) -> Iterator[Array]:
    for batch in batches:
        if not np.isfinite(batch).all():
            raise InputError(f'{path}: a new embedding holds NaN or Inf; check the network that wrote it')
        yield batch


def _hashed(batches: Iterable[Array], digest: hashlib.blake2b) -> Iterator[Array]:
    for batch in batches:
        batch = np.ascontiguousarray(batch)
        digest.update(batch.data)
        yield batch


def _pieces(file: IO[bytes], end: int) -> int:
    """Checksum of PIECES evenly spaced pieces between the header and `end`, the end of the valid rows."""
    crc, begin = 0, len(_header(np.dtype(np.float32), (1, 1)))
    for start in np.linspace(begin, max(begin, end - PIECE_BYTES), PIECES).astype(int).tolist():
        file.seek(start)
        crc = zlib.crc32(file.read(max(0, min(PIECE_BYTES, end - start))), crc)
    return crc


def _header(dtype: 'np.dtype[Any]', shape: Tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {'descr': npy.dtype_to_descr(dtype), 'fortran_order': False, 'shape': shape})
    return file.getvalue()


def _write_archive(archive: zipfile.ZipFile, batches: Iterable[Array], images: ImageList) -> int:
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


class EmbeddingFile:
    """An embedding file, of which one block at a time is in memory.

    Args:
        path: written by write_embeddings, or any .npy or .npz with the same contents (compressed or not).

    Attributes: path; count and width; images (ImageList of `count` images, labels may be None); model and classes as
        given to write_embeddings, or None; identity; everything (ImageList of all rows, including removed ones).

    Raises:
        InputError: no such file, no embedding file, cut short, no paths or another number of them, or a note that describes
            another file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        if not path.endswith(SUFFIXES):
            raise InputError(f'{path}: not an embedding file of infer.py, which ends in {" or ".join(SUFFIXES)}')
        with self._open() as (file, shape, dtype):
            self.rows, self.width = shape
            self.dtype, self.row_bytes, self.offset = dtype, self.width * dtype.itemsize, file.tell()
            self.note: Optional[Note] = None
            if path.endswith('.npy'):
                self.note = self._read_note(file)
                self.rows = self.note.rows if self.note else self.rows
                size = self.offset + self.rows * self.row_bytes
                if os.path.getsize(path) < size or not self.note and os.path.getsize(path) != size:
                    raise EOFError
        note, rows = self.note, self.rows
        self.model: Optional[str] = note.model if note else None
        self.classes = {int(label): name for label, name in note.classes.items()} if note and note.classes else None
        self.everything = self._read_images()
        if len(self.everything) < rows or not note and len(self.everything) != rows:
            raise InputError(f'{path}: {rows} embeddings but {len(self.everything)} paths; write it anew with infer.py')
        self.kept = np.delete(np.arange(rows), note.removed if note else [])
        if len(self.everything) > rows:
            self.everything = self.everything.select(slice(rows))
        self.images = self.everything.select(self.kept) if len(self.kept) < rows else self.everything
        self.count = len(self.kept)

    def _read_note(self, file: IO[bytes]) -> Optional[Note]:
        """The note, checked against the file; None if there is none."""
        path = _note(self.path)
        if not os.path.isfile(path):
            return None
        advice = f'write {self.path} anew with infer.py'
        note = read_record(Note, read_json(path, advice), path, advice)
        size = self.offset + note.rows * self.row_bytes
        if note.width == self.width and os.path.getsize(self.path) < size:
            raise EOFError
        if note.width != self.width or note.pieces != _pieces(file, size):
            raise InputError(f'{path}: describes another file than {self.path}; remove it if the embeddings and their '
                             'list are right, or write them anew')
        return note

    @cached_property
    def identity(self) -> str:
        """The hash of the rows: from the note, or else computed, which reads the whole file once."""
        if self.note:
            return self.note.identity
        digest = hashlib.blake2b(digest_size=16)
        for _, block in self.blocks():
            digest.update(block.astype(self.dtype, copy=False).data)
        return digest.hexdigest()

    def rows_of(self, identity: str) -> int:
        """The number of leading rows that had this identity before later appends; 0 if none had."""
        history = self.note.history if self.note else [(self.identity, self.rows)]
        return dict(history).get(identity, 0)

    @contextmanager
    def _open(self) -> Iterator[Opened]:
        """The file at its first row, the array's shape and its dtype; raises InputError if the file cannot be read."""
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
    def _stream(self) -> Iterator[IO[bytes]]:
        if self.path.endswith('.npy'):
            with open(self.path, 'rb') as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open('embeddings.npy') as member:
                yield member

    def _read_images(self) -> ImageList:
        if self.path.endswith('.npy'):
            return read_any_list(self.path + '.txt')
        try:
            with np.load(self.path) as archive:
                paths, labels, cameras = (archive[name] if name in archive.files else None
                                          for name in ('paths', 'labels', 'cameras'))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f'{self.path}: damaged; write it anew') from error
        if paths is None or any(array is not None and array.shape != (self.rows,)
                                for array in (paths, labels, cameras)):
            raise InputError(f'{self.path}: needs an array `paths` with one path per row; write it anew with infer.py')
        return ImageList(paths.tolist(), labels, cameras)

    def blocks(self, first: int = 0) -> Iterator[Tuple[int, Array]]:
        """Yield the embeddings in order, from image `first` on: (number of the block's first image, float32 (n, D)).

        Raises:
            InputError: cut short, damaged, or a row holds NaN or Inf.
        """
        with self._open() as (file, _, dtype):
            size = max(1, BLOCK_BYTES // self.row_bytes)
            whole = len(self.kept) == self.rows
            begin = int(self.kept[first]) if first < self.count else self.rows
            if begin:
                file.seek(begin * self.row_bytes, os.SEEK_CUR)
            for start in range(begin, self.rows, size):
                rows = min(size, self.rows - start)
                data = file.read(rows * self.row_bytes)
                if len(data) < rows * self.row_bytes:
                    raise EOFError
                block = np.frombuffer(data, dtype).astype(np.float32, copy=False).reshape(rows, self.width)
                number = start
                if not whole:
                    number, stop = np.searchsorted(self.kept, (start, start + rows)).tolist()
                    if number == stop:
                        continue
                    block = block[self.kept[number:stop] - start]
                self._check_finite(block, np.arange(number, number + len(block)))
                yield number, block

    def take(self, numbers: Array) -> Array:
        """The embeddings (n, D) float32 of the images with these numbers: 0..count-1, ascending.

        Reads an .npz from beginning to end.

        Raises:
            InputError: cut short, or a row holds NaN or Inf.
        """
        if self.path.endswith('.npz'):
            parts = []
            for start, block in self.blocks():
                low, high = np.searchsorted(numbers, (start, start + len(block))).tolist()
                parts.append(block[numbers[low:high] - start])
            return np.concatenate(parts)
        taken = np.empty((len(numbers), self.width), np.float32)
        with self._open():
            for start in range(0, len(numbers), ROWS_MAPPED):
                # A new map each time: the pages that a map has read count as memory until it is closed.
                rows = np.memmap(self.path, self.dtype, 'r', self.offset, (self.rows, self.width))
                some = slice(start, start + ROWS_MAPPED)
                taken[some] = rows[self.kept[numbers[some]]]
                del rows
        self._check_finite(taken, numbers)
        return taken

    def _check_finite(self, block: Array, numbers: Array) -> None:
        """Raise InputError if a row of a block holds NaN or Inf. numbers: of the images of its rows."""
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            number = int(numbers[int(np.argmin(finite))])
            raise InputError(f'{self.path}: row {self.kept[number]} ({self.images.paths[number]}) holds NaN or Inf; '
                             'check the network that wrote it')


def centroids_of(gallery: EmbeddingFile, path: str) -> int:
    """Write a gallery of the mean embedding of each class of a labelled gallery.

    As in CTL (arXiv 2104.13643), the embeddings are averaged before they are normalised. The path of a centroid is that of
    the image of its class that is nearest by cosine, so that results can be drawn.

    Memory: twice (classes, D) float64. The gallery is read twice, in blocks.

    Args:
        gallery: with labels.
        path: of the new embedding file, .npy or .npz; its labels are the classes, ascending.

    Returns:
        The number of classes.

    Raises:
        InputError: no labels, NaN or Inf, or the file cannot be written.
    """
    check_output(path, '--centroids')
    if gallery.images.labels is None:
        raise InputError(f'{gallery.path}: has no labels, which centroids need; write it from a list with labels or a folder '
                         'with one folder per class')
    labels, codes = np.unique(gallery.images.labels, return_inverse=True)
    sums = np.zeros((len(labels), gallery.width))
    for start, block in gallery.blocks():
        own = codes[start:start + len(block)]
        order = np.argsort(own, kind='stable')
        first = np.flatnonzero(np.diff(own[order], prepend=-1))
        sums[own[order][first]] += np.add.reduceat(block[order], first, axis=0, dtype=np.float64)
    means = (sums / np.bincount(codes)[:, None]).astype(np.float32)
    best, nearest = np.full(len(labels), -np.inf), np.zeros(len(labels), np.int64)
    for start, block in gallery.blocks():
        own = codes[start:start + len(block)]
        lengths = np.linalg.norm(block.astype(np.float64), axis=1)
        cosines = np.einsum('nd,nd->n', block, means[own]) / np.where(lengths > 0, lengths, 1)
        order = np.lexsort((-np.arange(len(own)), cosines))  # of equal cosines the first image is assigned last
        new_best, new_nearest = np.full(len(labels), -np.inf), np.zeros(len(labels), np.int64)
        new_best[own[order]], new_nearest[own[order]] = cosines[order], order + start
        better = new_best > best
        best, nearest = np.where(better, new_best, best), np.where(better, new_nearest, nearest)
    names = gallery.classes
    write_embeddings(path, [means], ImageList([gallery.images.paths[i] for i in nearest.tolist()], labels), model=gallery.model,
                     classes=names and {label: names[label] for label in labels.tolist() if label in names})
    return len(labels)

"""Files of embeddings, written and read in blocks: they may be far larger than the memory.

`X.npy` holds the embeddings alone, and `X.npy.txt` beside it one line a row: the path, then label and camera where they
are known, which is a list of images again. `X.npz` holds the arrays embeddings, paths and, where known, labels and
cameras.

Beside a .npy of this project lies `X.npy.json`, its note, which decides what is in the gallery:
    rows      how many rows of the .npy count, and lines of the list; what follows them an unfinished append has left
    width     values of a row
    identity  a name for these rows, chained: that of the rows before an append and the appended rows make the new one
    history   [identity, rows] of every state from the first to the present one
    pieces    checksum of 16 pieces of the file, so that another file of the same shape in its place is noticed
    removed   rows that are no longer in the gallery; write the gallery anew (write_embeddings of .blocks()) to be rid of
              their bytes
    model     identity of the embeddings: their network and how images were given to it; or null
    classes   {label: name}, or null
Rows are appended beyond the end and the note is renamed into place last: whoever is killed in between leaves the
gallery as it was. Without a note the file counts as it is.
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
from typing import Collection, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import numpy as np
from numpy.lib import format as npy

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


@dataclass(frozen=True)
class Note:
    """The note beside a .npy, as described above.

    Raises:
        ValueError: rows or width are not positive, a removed row is out of range, or a label is no number.
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
            raise ValueError('classes: a label is no whole number')


def _as_text(classes: Optional[Mapping[int, str]]) -> Optional[Dict[str, str]]:
    return None if classes is None else {str(label): name for label, name in classes.items()}


def check_output(path, flag='--output'):
    """Raise InputError unless an embedding file can have this name."""
    if not path.endswith(SUFFIXES):
        raise InputError(f'{flag}={path}: the name of an embedding file ends in {" or ".join(SUFFIXES)}')
    if os.path.isdir(path):
        raise InputError(f'{flag}={path}: is a folder; give the name of a file')


def write_embeddings(path: str, batches: Iterable[np.ndarray], images: ImageList, *, model: Optional[str] = None,
                     classes: Optional[Dict[int, str]] = None) -> int:
    """Write embeddings as they come; nothing is in place before all of them are written.

    Args:
        path: ending in .npy or .npz.
        batches: float32 arrays (n, D), as many rows together as there are images.
        images: of the rows, in their order; labels may be None.
        model: identity of the embeddings (src.retrieval.embedding.embedding_identity), kept beside a .npy.
        classes: {label: name}, kept beside a .npy.

    Returns:
        The width D.

    Raises:
        InputError: the file cannot be written, or an embedding is NaN or Inf.
    """
    check_output(path)
    batches = _checked(path, batches)
    if path.endswith('.npz'):
        with replacing(path) as part, zipfile.ZipFile(part, 'w') as archive:
            return _write_archive(archive, batches, images)
    digest = hashlib.blake2b(digest_size=16)
    # The note first, and so last into place. A plain file, not a memory map: pages of a map count as memory.
    with replacing(_note(path)) as note_part, replacing(path) as part, replacing(path + '.txt') as list_part:
        with open(part, 'wb') as file:
            width = _write_array(file, _hashed(batches, digest), len(images))[1]
        _write_list(list_part, [images])
        identity = digest.hexdigest()
        with open(part, 'rb') as file:
            _write_note(note_part, Note(len(images), width, identity, [(identity, len(images))],
                                        _pieces(file, os.path.getsize(part)), model=model, classes=_as_text(classes)))
    return width


def append_embeddings(path: str, batches: Iterable[np.ndarray], images: ImageList, *, model: Optional[str] = None,
                      classes: Optional[Dict[int, str]] = None) -> int:
    """Add rows to a gallery without writing it anew; a process killed on the way leaves the gallery as it was.

    Args:
        path: an existing .npy.
        batches, images: as for write_embeddings; labels and cameras must be known where the gallery has them.
        model: as for write_embeddings; must be the gallery's where both are known.
        classes: as for write_embeddings. Where the gallery has names too the new images get the labels that their names
            have there, and names that it does not have the next free labels.

    Returns:
        The number of images in the gallery now.

    Raises:
        InputError: an .npz, another width or model, labels on one side alone or of which nobody knows whether they mean
            the same, NaN or Inf, another process appending.
    """
    with _changing(path, 'add to') as (file, old, note):
        if note.model and model and note.model != model:
            raise InputError(f'{path}: was written with another network than these embeddings, or with images given to it in '
                             'another way; use the network and flags it was written with, or write it anew')
        for what in ('labels', 'cameras'):
            if (getattr(old.everything, what) is None) != (getattr(images, what) is None):
                raise InputError(f'{path}: holds {"no " if getattr(old.everything, what) is None else ""}{what}, the '
                                 f'new images {"none" if getattr(images, what) is None else "do"}; give a list like '
                                 'that of the gallery')
        if images.labels is not None and (classes or note.classes):
            images, named = _same_names(path, images, classes, note.classes)
            note = replace(note, classes=named)
        digest = hashlib.blake2b(note.identity.encode(), digest_size=16)
        start = note.rows
        file.truncate(old.offset + start * old.row_bytes)
        file.seek(0, os.SEEK_END)
        count = 0
        try:
            # In the gallery's type: a float16 may not hold what a float32 did.
            for rows in _checked(path, (np.ascontiguousarray(batch, old.dtype) for batch in batches)):
                if rows.ndim != 2 or rows.shape[1] != old.width:
                    raise InputError(f'{path}: embeddings of {old.width} values, the new ones have {rows.shape[-1]}; '
                                     'write both with the same network')
                digest.update(rows.data)
                file.write(rows.data)
                count += len(rows)
            if count != len(images):
                raise ValueError(f'{count} embeddings for {len(images)} images')
        except BaseException:
            file.truncate(old.offset + start * old.row_bytes)
            raise
        file.flush()
        os.fsync(file.fileno())
        with replacing(path + '.txt') as part:
            _write_list(part, [old.everything, images])
        rows, identity = start + count, digest.hexdigest()
        note = replace(note, rows=rows, identity=identity, history=[*note.history, (identity, rows)],
                       pieces=_pieces(file, old.offset + rows * old.row_bytes), model=note.model or model)
        with replacing(_note(path)) as part:
            _write_note(part, note)
        # For other programs alone: numpy reads as many rows as the header says.
        file.seek(0)
        file.write(_header(old.dtype, (rows, old.width)))
    return rows - len(note.removed)


def remove_embeddings(path: str, paths: Collection[str]) -> int:
    """Take images out of a gallery: their rows are marked in its note and stay in the file.

    Args:
        path: an existing .npy.
        paths: of the images, as the gallery's list has them.

    Returns:
        The number of images in the gallery now.

    Raises:
        InputError: an .npz, an image that the gallery does not have, or nothing would be left.
    """
    with _changing(path, 'remove from') as (_, old, note):
        wanted = set(paths)
        absent = sorted(wanted - set(old.images.paths))
        if absent:
            raise InputError(f'{path}: has no image {absent[0]} ({len(absent)} of {len(wanted)} are not in it); give '
                             f'paths as in {path}.txt')
        if wanted.issuperset(old.images.paths):
            raise InputError(f'{path}: no image would be left; remove the file')
        gone = {row for row, one in enumerate(old.everything.paths) if one in wanted}
        note = replace(note, removed=sorted(gone.union(note.removed)))
        with replacing(_note(path)) as part:
            _write_note(part, note)
    return note.rows - len(note.removed)


@contextmanager
def _changing(path, what):
    """A .npy open for change and locked, the EmbeddingFile as it was, and its note."""
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


def _same_names(path, images, classes, known):
    """Images with the labels that their classes' names have in a gallery, and the gallery's classes with the new ones."""
    if not known:
        raise InputError(f'{path}: knows its classes by number, the new images are in folders, whose classes have names; '
                         f'give a list with the numbers of {path}.txt')
    if not classes:
        strange = sorted({str(label) for label in images.labels.tolist()} - set(known))
        if strange:
            raise InputError(f'{path}: has no class of number {strange[0]}; give the numbers that its classes have in '
                             f'{path}.json, or a folder with one folder a class')
        return images, known
    label_of = {name: int(label) for label, name in known.items()}
    free = max(label_of.values()) + 1
    for name in (classes[label] for label in np.unique(images.labels).tolist()):
        if name not in label_of:
            label_of[name], free = free, free + 1
    labels = np.array([label_of[classes[label]] for label in images.labels.tolist()], np.int64)
    return ImageList(images.paths, labels, images.cameras), {str(label): name for name, label in label_of.items()}


def _note(path):
    return path + '.json'


def _write_note(path, note):
    path.write_text(json.dumps(asdict(note)) + '\n', encoding='utf-8')


def _write_list(path, lists):
    with open(path, 'w', encoding='utf-8') as file:
        for images in lists:
            columns = [column.tolist() for column in (images.labels, images.cameras) if column is not None]
            file.writelines(' '.join(map(str, row)) + '\n' for row in zip(images.paths, *columns))


def _checked(path, batches):
    for batch in batches:
        if not np.isfinite(batch).all():
            raise InputError(f'{path}: a new embedding holds NaN or Inf; look at the network that wrote it')
        yield batch


def _hashed(batches, digest):
    for batch in batches:
        batch = np.ascontiguousarray(batch)
        digest.update(batch.data)
        yield batch


def _pieces(file, end):
    """Checksum of PIECES pieces, evenly spaced from behind the header to the end of the rows that count."""
    crc, begin = 0, len(_header(np.dtype(np.float32), (1, 1)))
    for start in np.linspace(begin, max(begin, end - PIECE_BYTES), PIECES).astype(int).tolist():
        file.seek(start)
        crc = zlib.crc32(file.read(max(0, min(PIECE_BYTES, end - start))), crc)
    return crc


def _header(dtype, shape):
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {'descr': npy.dtype_to_descr(dtype), 'fortran_order': False, 'shape': shape})
    return file.getvalue()


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
            file.write(_header(block.dtype, shape))
        file.write(block.tobytes())
    return shape


class EmbeddingFile:
    """A file of embeddings, of which one block at a time is in memory.

    Args:
        path: written by write_embeddings, or any .npy or .npz of the same contents (compressed or not).

    Attributes: path; count and width; images (ImageList of `count` images, labels may be None); model and classes as
        given to write_embeddings, or None; identity; everything (ImageList of all rows, those removed too).

    Raises:
        InputError: no such file, not of that kind, cut short, its paths missing or of another number, or its note is
            that of another file.
    """

    def __init__(self, path: str):
        self.path = path
        if not path.endswith(SUFFIXES):
            raise InputError(f'{path}: not an embedding file of infer.py, which ends in {" or ".join(SUFFIXES)}')
        with self._open() as (file, shape, dtype):
            rows, self.width = shape
            self.dtype, self.row_bytes = dtype, shape[1] * dtype.itemsize
            self.note: Optional[Note] = None
            if path.endswith('.npy'):
                self.offset = file.tell()
                self.note = self._read_note(file)
                rows = self.note.rows if self.note else rows
                size = self.offset + rows * self.row_bytes
                if os.path.getsize(path) < size or not self.note and os.path.getsize(path) != size:
                    raise EOFError
        note = self.note
        self.rows = rows
        self.model: Optional[str] = note.model if note else None
        self.classes = {int(label): name for label, name in note.classes.items()} if note and note.classes else None
        self.everything = self._read_images()
        if len(self.everything) < rows or not self.note and len(self.everything) != rows:
            raise InputError(f'{path}: {rows} embeddings but {len(self.everything)} paths; write it anew with infer.py')
        self.kept = np.delete(np.arange(rows), note.removed if note else [])
        if len(self.everything) > rows:
            self.everything = _select(self.everything, np.arange(rows))
        self.images = _select(self.everything, self.kept) if len(self.kept) < rows else self.everything
        self.count = len(self.kept)

    def _read_note(self, file):
        """The note, None where there is none; it is checked against the file."""
        note = _note(self.path)
        if not os.path.isfile(note):
            return None
        advice = f'write {self.path} anew with infer.py'
        values = read_record(Note, read_json(note, advice), note, advice)
        size = self.offset + values.rows * self.row_bytes
        if values.width == self.width and os.path.getsize(self.path) < size:
            raise EOFError
        if values.width != self.width or values.pieces != _pieces(file, size):
            raise InputError(f'{note}: describes another file than {self.path}; remove it if the embeddings and their '
                             'list are right, or write them anew')
        return values

    @cached_property
    def identity(self) -> str:
        """A name for the rows; without a note made from all of them, which reads the file once."""
        if self.note:
            return self.note.identity
        digest = hashlib.blake2b(digest_size=16)
        for _, block in self.blocks():
            digest.update(block.astype(self.dtype, copy=False).data)
        return digest.hexdigest()

    def rows_of(self, identity: str) -> int:
        """How many of the first rows of the file are those that had this identity, 0 when none are."""
        history = self.note.history if self.note else [(self.identity, self.rows)]
        return dict(history).get(identity, 0)

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
        if paths is None or any(array is not None and array.shape != (self.rows,)
                                for array in (paths, labels, cameras)):
            raise InputError(f'{self.path}: needs an array `paths` with one path a row; write it anew with infer.py')
        return ImageList(paths.tolist(), labels, cameras)

    def blocks(self, first: int = 0) -> Iterator[Tuple[int, np.ndarray]]:
        """The images from number `first` on, in order, as (number of the first of the block, float32 array (n, D)).

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
                self._check_finite(block, number)
                yield number, block

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """The embeddings (n, D) float32 of some images, by their numbers 0..count-1, ascending.

        An .npz is read through for it.

        Raises:
            InputError: cut short, or a row holds NaN or Inf.
        """
        if self.path.endswith('.npz'):
            return np.concatenate([block[numbers[slice(*np.searchsorted(numbers, (start, start + len(block))))] - start]
                                   for start, block in self.blocks()])
        block = np.empty((len(numbers), self.width), np.float32)
        with self._open():
            for start in range(0, len(numbers), ROWS_MAPPED):
                # Mapped anew: the pages around those that were read count as memory until then.
                rows = np.memmap(self.path, self.dtype, 'r', self.offset, (self.rows, self.width))
                some = slice(start, start + ROWS_MAPPED)
                block[some] = rows[self.kept[numbers[some]]]
                del rows
        self._check_finite(block, numbers)
        return block

    def _check_finite(self, block, numbers):
        """numbers: those of the rows of the block, or that of the first."""
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            bad = int(np.argmin(finite))
            number = numbers + bad if np.isscalar(numbers) else int(numbers[bad])
            raise InputError(f'{self.path}: row {self.kept[number]} ({self.images.paths[number]}) holds NaN or Inf; '
                             'look at the network that wrote it')


def _select(images, rows):
    return ImageList([images.paths[row] for row in rows.tolist()],
                     *(None if column is None else column[rows] for column in (images.labels, images.cameras)))


def centroids_of(gallery: EmbeddingFile, path: str) -> int:
    """Write the mean embedding of every class of a labelled gallery as a gallery of its own.

    As in CTL (arXiv 2104.13643) the mean is that of the embeddings as they are, before they are normalised. A
    centroid's path is that of the class's image nearest to it by cosine, so that results can be drawn.

    Memory: twice (classes, D) float64; the gallery is read twice, in blocks.

    Args:
        gallery: with labels.
        path: of the new embedding file, .npy or .npz; its labels are the classes, ascending.

    Returns:
        The number of classes.

    Raises:
        InputError: no labels, NaN or Inf, or the file cannot be written.
    """
    check_output(path)
    if gallery.images.labels is None:
        raise InputError(f'{gallery.path}: has no labels, of which there could be centroids; write it from a list with '
                         'labels or a folder with one folder a class')
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
        order = np.lexsort((-np.arange(len(own)), cosines))  # of equal ones the first is written last
        new_best, new_nearest = np.full(len(labels), -np.inf), np.zeros(len(labels), np.int64)
        new_best[own[order]], new_nearest[own[order]] = cosines[order], order + start
        better = new_best > best
        best, nearest = np.where(better, new_best, best), np.where(better, new_nearest, nearest)
    classes = gallery.classes and {int(label): gallery.classes[label] for label in labels.tolist()
                                   if label in gallery.classes}
    write_embeddings(path, [means], ImageList([gallery.images.paths[i] for i in nearest.tolist()], labels),
                     model=gallery.model, classes=classes)
    return len(labels)

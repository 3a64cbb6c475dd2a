"""Lists of images on disk, with their labels and cameras."""
import os
import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.common.errors import InputError
from src.datasets.tables import UTF_8, as_name, read_lines, read_rows

Ids = NDArray[np.int64]
EBAY_HEADER = ['image_id', 'class_id', 'super_class_id', 'path']
INTEGER = re.compile('-?[0-9]+')
CSV_COLUMNS = ('path', 'label', 'camera', 'split', 'is_query', 'is_gallery')
CSV_SPLITS = ('train', 'test', 'val', 'validation')
# What other tools call columns of a CSV, and what they write into a column for the parts of the data.
OTHER_NAMES = {**dict.fromkeys(('class', 'class_id', 'category', 'target', 'pid', 'person', 'identity'), 'label'),
               **dict.fromkeys(('cam', 'camid', 'cam_id'), 'camera')}
PARTS_OF_DATA = {*CSV_SPLITS, 'query', 'gallery', 'dev', 'valid'}
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff')
# Columns of an ImageList, one value per image.
COLUMNS = ('labels', 'cameras', 'super_labels', 'is_query', 'is_gallery')


@dataclass(frozen=True)
class ImageList:
    """N images in the order of their list. Columns missing from the list are None.

    Attributes:
        paths: N absolute file names.
        labels: int64 (N,), class ids as written in the list, or positions in class_names.
        cameras: int64 (N,).
        super_labels: int64 (N,), super-class ids of an Ebay list.
        class_names: names of the classes, of folders or of a list's labels.
        is_query, is_gallery: bool (N,), which parts of a test an image belongs to; it may belong to both.
        source: the list or folder, '' for none.
        left_out: {reason: number of images} of the list or folder that were left out.
    """
    paths: List[str]
    labels: Optional[Ids]
    cameras: Optional[Ids] = None
    super_labels: Optional[Ids] = None
    class_names: Optional[Tuple[str, ...]] = None
    is_query: Optional[NDArray[np.bool_]] = None
    is_gallery: Optional[NDArray[np.bool_]] = None
    source: str = ''
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> Optional[Dict[int, str]]:
        """{label: name of the class}; None if the classes have no names."""
        return None if self.class_names is None else dict(enumerate(self.class_names))

    @property
    def known_labels(self) -> Ids:
        """labels (N,). Raises InputError naming the first path if they are None."""
        return self._known(self.labels, 'class')

    @property
    def known_cameras(self) -> Ids:
        """cameras (N,). Raises InputError naming the first path if they are None."""
        return self._known(self.cameras, 'camera')

    @property
    def classes(self) -> Optional[NDArray[Any]]:
        """The classes as text (N,): names of folders, else `class 7`; None without labels."""
        if self.labels is None:
            return None
        names = self.class_names
        return np.array([names[label] if names else f'class {label}' for label in self.labels.tolist()], object)

    def _known(self, column: Optional[Ids], what: str) -> Ids:
        if column is None:
            raise InputError(f'{self.paths[0]}: its {what} is not known; give a list or folders that tell the {what} of each '
                             'image')
        return column

    def select(self, rows: Union[slice, NDArray[Any], Sequence[int]]) -> 'ImageList':
        """Select images by a bool mask (N,), row numbers or a slice; class_names stay complete."""
        rows = np.arange(len(self))[rows]
        columns = {name: getattr(self, name)[rows] for name in COLUMNS if getattr(self, name) is not None}
        return replace(self, paths=[self.paths[row] for row in rows], **columns)

    def part(self, name: str) -> 'ImageList':
        """Rows of a part of a test, 'query' or 'gallery'; all rows if the list does not mark its parts.

        Raises InputError if the part is empty.
        """
        rows = {'query': self.is_query, 'gallery': self.is_gallery}.get(name)
        if rows is None:
            return self
        if not rows.any():
            raise InputError(f'{self.source}: lists no image whose is_{name} is true')
        return self.select(rows)

    def leaving_out(self, why: str, count: int) -> 'ImageList':
        """Copy of this list with more images counted in left_out."""
        more = {why: self.left_out.get(why, 0) + count} if count else {}
        return replace(self, left_out={**self.left_out, **more})


def read_image_list(file: str, *, part: Optional[str] = None, encoding: str = UTF_8, need_labels: bool = True) -> ImageList:
    """Read a list of images; its format is recognised from its first line.

    `image_id class_id super_class_id path` is the header of a Stanford Online Products (Ebay) file. A header with a column
    `path`, separated by commas, semicolons or tabs, is that of a CSV (`_read_csv`). Without a header, lines are `path label
    camera` if the last two words are integers, or if two words follow the ending of an image, else `path label`; if no labels
    are needed and the first line ends like an image, `path` alone. Paths may contain spaces and are relative to the
    folder of the list. Blank lines are skipped.

    Labels are all integers, or all names; names are numbered in sorted order and become class_names.

    Args:
        part: 'train' or 'test': of a CSV with the column split, the rows of this part. None for all rows.
        encoding: of the file.

    Raises:
        InputError: no such file, not text, empty, a line of another format, or an invalid label or camera; names file and
            line.
    """
    lines = read_lines(file, encoding)
    is_table = lines and lines[0][1].split() != EBAY_HEADER
    delimiter = next((one for one in ',;\t' if is_table and 'path' in _header(lines[0][1], one)), '')
    if delimiter and (len(_header(lines[0][1], delimiter)) > 1 or file.lower().endswith('.csv')):
        images = _read_csv(file, read_rows(file, encoding, delimiter), part)
    elif file.lower().endswith('.csv'):
        raise InputError(f'{file}: its first line names no column `path`; expected a header of {", ".join(CSV_COLUMNS)}')
    else:
        images = _read_lines(file, lines, need_labels)
    if need_labels and images.labels is None:
        raise InputError(f'{file}: has no column `label`; give one, or rename the column that holds the classes')
    source = os.path.abspath(file)
    return replace(images, paths=[os.path.join(os.path.dirname(source), path) for path in images.paths], source=source)


def _header(line: str, delimiter: str) -> List[str]:
    return [cell.strip().strip('"').lower() for cell in line.split(delimiter)]


def _read_lines(file: str, lines: List[Tuple[int, str]], need_labels: bool) -> ImageList:
    """Read a list without a header; paths stay as written."""
    first = lines[0][1] if lines else ''
    if first.split() == EBAY_HEADER:
        expected, lines = EBAY_HEADER, lines[1:]
    elif not need_labels and is_image(first):
        for number, line in lines:
            if is_image(line.rsplit(None, 1)[0]) and not is_image(line):
                raise InputError(f'{file}:{number}: expected a path alone, as in line {lines[0][0]}, found {_shown(line)}')
        return ImageList([line for _, line in lines], None)
    else:
        expected = ['path', 'label', *['camera'] * _has_camera(first)]
    if not lines:
        raise InputError(f'{file}: lists no image; expected lines of `{" ".join(expected)}`')
    # A path may hold blanks: it is what the other words leave.
    split = str.split if expected == EBAY_HEADER else str.rsplit
    rows = [split(line, None, len(expected) - 1) for _, line in lines]
    for (number, line), row in zip(lines, rows):
        if len(row) != len(expected):
            raise InputError(f'{file}:{number}: expected `{" ".join(expected)}`, found {_shown(line)}')
    numbers = [number for number, _ in lines]
    if expected == EBAY_HEADER:
        _, classes, supers, paths = zip(*rows)
        return ImageList(list(paths), _integers(file, numbers, classes, 'class'), None,
                         _integers(file, numbers, supers, 'super-class'))
    paths, words, *beside = zip(*rows)
    labels, names = _read_labels(file, numbers, words)
    return ImageList(list(paths), labels, _integers(file, numbers, beside[0], 'camera') if beside else None, None, names)


def _read_csv(file: str, rows: List[Tuple[int, List[str]]], part: Optional[str]) -> ImageList:
    """Read a CSV: `path` and any of label, camera, split (train, test; val and validation are the test of a file without test),
    is_query and is_gallery (true, false, 1, 0, or empty for false). Other columns have no effect.
    """
    header = [name.lower() for name in rows[0][1]]
    missing = [one for one in CSV_COLUMNS if one not in header]
    for name in header:
        near = [OTHER_NAMES[name]] if OTHER_NAMES.get(name) in missing else get_close_matches(name, missing, 1, 0.8)
        if near or name in CSV_COLUMNS and header.count(name) > 1:
            raise InputError(f'{file}:{rows[0][0]}: column {name}: ' + (f'did you mean {near[0]}?' if near else 'comes twice'))
    rows = rows[1:]
    for number, cells in rows:
        if len(cells) != len(header):
            raise InputError(f'{file}:{number}: has {len(cells)} cells, the header {len(header)}; put quotes around commas')
    told = {'split', 'is_query', 'is_gallery'} & {*header}
    for name, column in zip(header, zip(*(cells for _, cells in rows))):
        if not told and name not in CSV_COLUMNS and PARTS_OF_DATA.issuperset(map(str.lower, column)):
            raise InputError(f'{file}: column {name}: {column[0]} seems to be a part of the data, but this column has no '
                             'effect; call it split (train, test), or is_query and is_gallery (true, false)')
    left_out = 0
    if 'split' in header and part:
        at = header.index('split')
        for number, cells in rows:
            if cells[at].lower() not in CSV_SPLITS:
                raise InputError(f'{file}:{number}: split {_shown(cells[at])}: expected {", ".join(CSV_SPLITS)}')
        found = {cells[at].lower() for _, cells in rows}
        wanted = {part} if part == 'train' or 'test' in found else set(CSV_SPLITS[2:])
        left_out = len(rows)
        rows = [(number, cells) for number, cells in rows if cells[at].lower() in wanted]
        left_out -= len(rows)
    if not rows:
        raise InputError(f'{file}: lists no image' + f' whose split is {part}' * bool(part and 'split' in header))
    numbers = [number for number, _ in rows]
    columns = {name: [cells[header.index(name)] for _, cells in rows] for name in CSV_COLUMNS if name in header}
    for number, path in zip(numbers, columns['path']):
        if not path:
            raise InputError(f'{file}:{number}: has no path')
    labels, names = _read_labels(file, numbers, columns['label']) if 'label' in columns else (None, None)
    cameras = _integers(file, numbers, columns['camera'], 'camera') if 'camera' in columns else None
    is_query, is_gallery = (_booleans(file, numbers, columns[name], name) if name in columns else None
                            for name in ('is_query', 'is_gallery'))
    return ImageList(columns['path'], labels, cameras, class_names=names, is_query=is_query, is_gallery=is_gallery).leaving_out(
        f'whose split is not {part}', left_out)


def _read_labels(file: str, numbers: Sequence[int], words: Sequence[str]) -> Tuple[Ids, Optional[Tuple[str, ...]]]:
    """Labels (N,) and, if they are names, the sorted names; labels are then positions in them."""
    if INTEGER.fullmatch(words[0]):
        return _integers(file, numbers, words, 'label'), None
    words = [as_name(word) for word in words]
    for number, word in zip(numbers, words):
        if INTEGER.fullmatch(word):
            raise InputError(f'{file}:{number}: label {_shown(word)}, but line {numbers[0]} has {_shown(words[0])}; give names '
                             'in all lines, or whole numbers; if that line is a header or a comment, remove it')
        if not word or _is_odd_number(word):
            raise InputError(f'{file}:{number}: label {_shown(word)}: expected a name or a whole number')
    names = tuple(sorted(set(words)))
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[word] for word in words], np.int64), names


def _is_odd_number(word: str) -> bool:
    """Whether a word is a number but not a plain integer: 1.5, 1_000, nan."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _integers(file: str, numbers: Sequence[int], words: Sequence[str], what: str) -> Ids:
    """Parse words to (N,) int64. numbers: line numbers. what: name of the column; 'label' and 'class' may be negative."""
    values = np.empty(len(words), np.int64)
    for row, (number, word) in enumerate(zip(numbers, words)):
        try:
            if not INTEGER.fullmatch(word) or what not in ('label', 'class') and word[0] == '-':
                raise ValueError
            values[row] = int(word)
        except (ValueError, OverflowError):
            raise InputError(f'{file}:{number}: {what} {_shown(word)}: expected a whole number' + (
                ', or names in all lines' if what == 'label' else '')) from None
    return values


def _booleans(file: str, numbers: Sequence[int], words: Sequence[str], what: str) -> NDArray[np.bool_]:
    known = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False, '': False}
    for number, word in zip(numbers, words):
        if word.lower() not in known:
            raise InputError(f'{file}:{number}: {what} {_shown(word)}: expected true or false')
    return np.array([known[word.lower()] for word in words])


def _shown(text: str) -> str:
    """Text of a file in an error: quoted and short."""
    return repr(text if len(text) < 100 else text[:97] + '...')


def read_image_folder(root: str) -> ImageList:
    """Read a folder with one sub-folder per class: all images below it, at any depth, in sorted order.

    The label is the position of the sub-folder among all sub-folders (empty ones count, those of `is_system` do not), so two
    folders with the same sub-folders agree on labels. Files that are not named like images are counted in left_out. Raises
    InputError if there is no such folder, no sub-folder or no image.
    """
    if not os.path.isdir(root):
        raise InputError(f'{root}: no such folder; expected one sub-folder of images per class')
    root = os.path.abspath(root)
    folders = sub_folders(root)
    classes = sorted({*map(as_name, folders)})
    numbers = {name: number for number, name in enumerate(classes)}
    paths: List[str] = []
    labels: List[int] = []
    others = len(list_images(root))
    for name in folders:
        found = _files_below(os.path.join(root, name), (os.path.realpath(root),))
        images = [path for path in found if is_image(path)]
        paths += images
        labels += [numbers[as_name(name)]] * len(images)
        others += len(found) - len(images)
    if not paths:
        raise InputError(f'{root}: holds no image; expected one sub-folder per class, images ending in '
                         f'{" ".join(IMAGE_SUFFIXES)}')
    return ImageList(paths, np.array(labels, np.int64), class_names=tuple(classes), source=root).leaving_out(
        'files that are not named like images, or lie beside the folders of the classes', others)


def sub_folders(root: str) -> List[str]:
    """Names of the folders in a folder, sorted, without those of `is_system`."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not is_system(entry.name))


def is_system(name: str) -> bool:
    """Whether a file or folder belongs to a system, not to the user: hidden, @eaDir of NAS boxes, __MACOSX of archives."""
    return name.startswith(('.', '@')) or name in ('__MACOSX', 'Thumbs.db', 'desktop.ini')


def is_image(name: str) -> bool:
    """Whether a file is named like an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def holds_images(folder: str) -> bool:
    """Whether a folder holds an image, at any depth."""
    return any(map(is_image, _files_below(folder)))


def _files_below(folder: str, above: Tuple[str, ...] = ()) -> List[str]:
    """Files at any depth, those of a folder before those of its sub-folders, each sorted by name."""
    here = os.path.realpath(folder)
    if here in above:  # a link to a folder above
        return []
    names = sorted(name for name in os.listdir(folder) if not is_system(name))
    paths = [os.path.join(folder, name) for name in names]
    files = [path for path in paths if not os.path.isdir(path)]
    return files + [path for inner in paths if os.path.isdir(inner) for path in _files_below(inner, (*above, here))]


def list_images(folder: str) -> List[str]:
    """Paths of the image files directly in a folder, sorted by name."""
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if is_image(name) and not is_system(name)]


def without_junk(images: ImageList) -> ImageList:
    """Remove images of label -1, which marks junk (Market1501); they are counted in left_out.

    Raises:
        InputError: a label below -1, or no other image.
    """
    if images.labels is None or images.class_names is not None or images.labels.min() >= 0:
        return images
    if images.labels.min() < -1:
        raise InputError(f'{images.source}: label {images.labels.min()}: labels are names, or whole numbers from 0 on; -1 '
                         'marks junk, which is left out')
    kept = images.labels >= 0
    if not kept.any():
        raise InputError(f'{images.source}: all images are of label -1, junk')
    return images.select(kept).leaving_out('of label -1, junk', int((~kept).sum()))


def check_images(images: ImageList) -> None:
    """Raise InputError naming the first image of the list that is missing on disk, and how many are."""
    missing = [path for path in images.paths if not os.path.isfile(path)]
    if missing:
        first = missing[0] if len(missing[0]) < 300 else f'{missing[0][:300]}...'
        advice = 'write its paths with /' if '\\' in first else 'check the list and the folder its paths are relative to'
        raise InputError(f'{first}: no such image ({len(missing)} of {len(images)} images in {images.source} are missing); '
                         + advice)


def remap_labels(labels: ArrayLike) -> Ids:
    """Map class ids (N,) of any value to int64 (N,) of 0..C-1, in increasing order of the ids."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64).reshape(-1)


def class_list(images: ImageList) -> List[str]:
    """Names, or numbers, of the classes of a labelled list, in the order of remap_labels."""
    labels = np.unique(images.known_labels).tolist()
    return [images.class_names[label] for label in labels] if images.class_names else list(map(str, labels))


def in_one_numbering(query: ImageList, gallery: ImageList) -> Tuple[ImageList, ImageList]:
    """Give lists a common numbering of labels, since each list or folder numbers its class names separately.

    Raises InputError if only one of them names its classes, or one has no labels.
    """
    if query.class_names == gallery.class_names:
        return query, gallery
    mine, theirs = query.class_names, gallery.class_names
    if mine is None or theirs is None:
        raise InputError('--query and --gallery: one is a folder or a list whose classes have names, the other a list whose '
                         'classes have numbers; give two of a kind')
    names = tuple(sorted({*mine, *theirs}))
    return (replace(query, labels=np.searchsorted(names, mine)[query.known_labels], class_names=names),
            replace(gallery, labels=np.searchsorted(names, theirs)[gallery.known_labels], class_names=names))


def _has_camera(line: str) -> bool:
    words = line.rsplit(None, 2)
    if len(words) == 3 and INTEGER.fullmatch(words[1]) and INTEGER.fullmatch(words[2]):
        return True
    return len(words) == 3 and is_image(words[0]) and not is_image(words[1])

"""Lists of images on disk: the class that each file shows and the camera that took it."""
import os
from dataclasses import dataclass, replace
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.common.errors import InputError

Ids = NDArray[np.int64]
EBAY_HEADER = ['image_id', 'class_id', 'super_class_id', 'path']
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff')


@dataclass(frozen=True)
class ImageList:
    """N images in the order of their list. A column that the list does not have is None.

    Attributes:
        paths: N absolute file names.
        labels: int64 (N,), class ids as written in the list, or positions of the images' folders in class_names.
        cameras: int64 (N,).
        super_labels: int64 (N,), super-class ids of an Ebay list.
        class_names: names of the class folders.
        turns: int64 (N,), quarter turns to the left by which each picture is turned after decoding.
    """
    paths: List[str]
    labels: Optional[Ids]
    cameras: Optional[Ids] = None
    super_labels: Optional[Ids] = None
    class_names: Optional[Tuple[str, ...]] = None
    turns: Optional[Ids] = None

    def __len__(self) -> int:
        return len(self.paths)

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
        """The images of a bool mask (N,), of row numbers or of a slice; class_names stay complete."""
        rows = np.arange(len(self))[rows]
        labels, cameras, super_labels, turns = (
            None if column is None else column[rows]
            for column in (self.labels, self.cameras, self.super_labels, self.turns))
        return ImageList([self.paths[row] for row in rows], labels, cameras, super_labels, self.class_names, turns)


def read_image_list(file: str, root: Optional[str] = None) -> ImageList:
    """Read a list of images; its format is recognised from its first line.

    `image_id class_id super_class_id path` is the header of a Stanford Online Products (Ebay) file. Without it, lines are
    `path label camera` if the last two words are integers, else `path label`. Paths may contain spaces and are relative to
    `root` (default: the folder of the list). Blank lines are skipped.

    Raises InputError naming file and line: no such file, empty, a line of another format, a label or camera that is no
    integer.
    """
    root = os.path.abspath(os.path.dirname(os.path.abspath(file)) if root is None else root)
    rows = numbered_lines(file)
    if rows and rows[0][1].split() == EBAY_HEADER:
        expected, integers, split = ' '.join(EBAY_HEADER), 2, _split_ebay
        rows = rows[1:]
    elif rows and _has_camera(rows[0][1]):
        expected, integers, split = 'path label camera', 2, _split_camera
    else:
        expected, integers, split = 'path label', 1, _split_label
    if not rows:
        raise InputError(f'{file}: lists no image; expected lines of `{expected}`')
    paths: List[str] = []
    numbers = np.empty((len(rows), integers), np.int64)
    for row, (number, line) in enumerate(rows):
        try:
            path, *words = split(line)
            numbers[row] = [int(word) for word in words]
        except (ValueError, OverflowError):
            raise InputError(f'{file}:{number}: expected `{expected}` with integer ids, found {line!r}') from None
        paths.append(os.path.join(root, path))
    beside = numbers[:, 1].copy() if integers > 1 else None
    ebay = split is _split_ebay
    return ImageList(paths, numbers[:, 0].copy(), None if ebay else beside, beside if ebay else None)


def read_image_folder(root: str) -> ImageList:
    """Read a folder with one sub-folder a class, images directly inside it, both in sorted order.

    The label is the position of the sub-folder among all sub-folders (empty ones count, hidden ones do not), so two folders
    with the same sub-folders agree on labels. Raises InputError if there is no such folder, no sub-folder or no image.
    """
    if not os.path.isdir(root):
        raise InputError(f'{root}: no such folder; expected one sub-folder of images a class')
    root = os.path.abspath(root)
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith('.'))
    paths: List[str] = []
    labels: List[int] = []
    for label, name in enumerate(classes):
        images = list_images(os.path.join(root, name))
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise InputError(f'{root}: holds no image; expected one sub-folder a class, images ending in '
                         f'{" ".join(IMAGE_SUFFIXES)}')
    return ImageList(paths, np.array(labels, np.int64), class_names=tuple(classes))


def list_images(folder: str) -> List[str]:
    """Paths of the image files directly in a folder, sorted by name."""
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')]


def check_images(images: ImageList) -> None:
    """Raise InputError naming the first image of the list that is missing on disk, and how many are."""
    missing = [path for path in images.paths if not os.path.isfile(path)]
    if missing:
        raise InputError(f'{missing[0]}: no such image ({len(missing)} of {len(images)} listed images are missing); '
                         'check the list and the folder its paths are relative to')


def remap_labels(labels: ArrayLike) -> Ids:
    """Class ids (N,) of any value -> int64 (N,) of 0..C-1, in increasing order of the ids."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64).reshape(-1)


def with_turned_classes(images: ImageList) -> ImageList:
    """A labelled list followed by its images turned by 90, 180 and 270 degrees, each turn with classes of its own.

    The same pictures give four times the classes (Santoro et al., arXiv 1605.06065, for Omniglot).
    """
    count, labels = len(images), remap_labels(images.known_labels)
    whole = images.select(np.tile(np.arange(count), 4))
    return replace(whole, labels=np.concatenate([labels + turn * (labels.max() + 1) for turn in range(4)]),
                   class_names=None, turns=np.repeat(np.arange(4), count))


def in_one_numbering(query: ImageList, gallery: ImageList) -> Tuple[ImageList, ImageList]:
    """The lists with one numbering of labels: two folders number their classes separately.

    Raises InputError if only one of them names its classes, or one has no labels.
    """
    if query.class_names == gallery.class_names:
        return query, gallery
    mine, theirs = query.class_names, gallery.class_names
    if mine is None or theirs is None:
        raise InputError('--query and --gallery: one is a folder, whose classes have names, the other a list, whose classes '
                         'have numbers; give two folders or two lists')
    names = tuple(sorted({*mine, *theirs}))
    return (replace(query, labels=np.searchsorted(names, mine)[query.known_labels], class_names=names),
            replace(gallery, labels=np.searchsorted(names, theirs)[gallery.known_labels], class_names=names))


def numbered_lines(file: str) -> List[Tuple[int, str]]:
    """The non-blank lines of a text file, stripped, each with its number from 1. Raises InputError if unreadable."""
    try:
        # utf-8-sig: lists saved on Windows start with a byte-order mark.
        with open(file, encoding='utf-8-sig') as lines:
            return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    except OSError as error:
        raise InputError(f'{file}: cannot be read as a list of images: {error.strerror}') from None
    except UnicodeDecodeError:
        raise InputError(f'{file}: is no text file; expected a list of images') from None


def _is_integer(word: str) -> bool:
    try:
        int(word)
    except ValueError:
        return False
    return True


def _has_camera(line: str) -> bool:
    words = line.rsplit(None, 2)
    return len(words) == 3 and _is_integer(words[1]) and _is_integer(words[2])


def _split_ebay(line: str) -> Tuple[str, ...]:
    _, label, super_class, path = line.split(None, 3)
    return path, label, super_class


def _split_camera(line: str) -> Tuple[str, ...]:
    path, label, camera = line.rsplit(None, 2)
    return path, label, camera


def _split_label(line: str) -> Tuple[str, ...]:
    path, label = line.rsplit(None, 1)
    return path, label

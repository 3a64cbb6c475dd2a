"""Find images that occur several times in a test, so that none is found as the answer to itself."""
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from src.datasets.image_list import Ids, ImageList

TAIL = 4096  # bytes at the end of a file that are compared before its whole content


def picture_numbers(lists: Sequence[ImageList]) -> List[Ids]:
    """Number the pictures of lists: rows of equal numbers show the same picture.

    The same file, whatever its path, is the same picture; so are files of equal content. A whole file is read only if its
    size and end equal those of another file.

    Returns:
        (N,) int64 for each list, by first appearance.
    """
    files = [[_file(path) for path in images.paths] for images in lists]
    same = _by_content({file: path for own, images in zip(files, lists) for file, path in zip(own, images.paths)})
    files = [[same.get(file, file) for file in own] for own in files]
    number: Dict[Tuple[object, ...], int] = {}
    return [np.array([number.setdefault(file, len(number)) for file in own], np.int64) for own in files]


def of_several_classes(numbers: NDArray[np.int64], labels: NDArray[np.int64]) -> int:
    """Number of pictures with different labels in different rows; numbers and labels (N,)."""
    pairs = np.unique(np.stack([numbers, labels], 1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def _file(path: str) -> Tuple[object, ...]:
    try:
        known = os.stat(path)
    except OSError:  # not on disk, in a test
        return (path,)
    return known.st_dev, known.st_ino


def _by_content(paths: Dict[Tuple[object, ...], str]) -> Dict[Tuple[object, ...], Tuple[object, ...]]:
    """File -> key of its content, for files that share size and end with another file."""
    sizes = {file: os.path.getsize(path) if os.path.isfile(path) else -1 for file, path in paths.items()}
    keys: Dict[Tuple[object, ...], Tuple[object, ...]] = {file: (size,) for file, size in sizes.items()}
    for whole in (False, True):
        counts = Counter(keys.values())
        keys = {file: (*key, _content(paths[file], whole)) for file, key in keys.items() if counts[key] > 1 and sizes[file] > 0}
    return keys


def _content(path: str, whole: bool) -> bytes:
    if whole:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    with open(path, 'rb') as file:
        file.seek(max(0, os.path.getsize(path) - TAIL))
        return file.read()

"""Open the images of a user: an image, a list, Stanford Online Products, or a folder."""
import os
from typing import Dict, Optional

from src.common.errors import InputError
from src.datasets.image_list import (
    IMAGE_SUFFIXES,
    ImageList,
    check_images,
    list_images,
    numbered_lines,
    read_image_folder,
    read_image_list,
)

# Number of first lines of the full list of Stanford Online Products that make each subset (README of the published
# implementation).
SUBSET_ROWS: Dict[str, Dict[str, Optional[int]]] = {
    'train': {'full': None, 'half': 29437, 'tiny': 1012}, 'test': {'full': None, 'half': 30003, 'tiny': 1048}}


def open_images(path: str, split: str, *, subset: str = 'full', flag: str = '--dataset_path',
                need_labels: bool = True) -> ImageList:
    """The images of a file or folder, all of them present on disk.

    Args:
        path: a list file of read_image_list; a folder of Stanford Online Products, with or without prepared lists; or a
            folder, or its sub-folder called `split`, with one sub-folder of images a class. If no labels are needed also an
            image, a list of one path a line, and a folder with images directly in it.
        split: 'train' or 'test'.
        subset: 'full', 'half' or 'tiny', of Stanford Online Products.
        flag: the flag that gave the path, for errors.
        need_labels: if False, labels are None where nothing tells the classes.

    Raises:
        InputError: nothing of that kind is there, an image is missing, or (no labels needed) a folder holds images
            beside class folders.
    """
    if not path:
        raise InputError(f'{flag} is missing: a list or a folder of images')
    if not os.path.exists(path):
        raise InputError(f'{flag}={path}: no such folder or list')
    if os.path.isfile(path):
        if not _is_image(path):
            images = read_image_list(path) if need_labels else read_any_list(path)
        elif need_labels:
            raise InputError(f'{flag}={path}: an image alone has no class; expected a list or a folder of images')
        else:
            images = ImageList([os.path.abspath(path)], None)
    elif _has_sop_lists(path):
        images = _read_sop(path, split, subset, flag)
    else:
        own = os.path.join(path, split)
        folder = own if os.path.isdir(own) else path
        images = read_image_folder(folder) if need_labels else _read_any_folder(folder)
    check_images(images)
    return images


def read_any_list(file: str) -> ImageList:
    """Read a list with one path a line, or one of the labelled formats of read_image_list.

    It is the former, and its labels are None, if its first line ends like the name of an image (IMAGE_SUFFIXES). Paths are
    relative to the folder of the list. Raises InputError as read_image_list.
    """
    rows = numbered_lines(file)
    if not rows or not _is_image(rows[0][1]):
        return read_image_list(file)
    root = os.path.dirname(os.path.abspath(file))
    return ImageList([os.path.join(root, line) for _, line in rows], None)


def _read_any_folder(root: str) -> ImageList:
    inside = list_images(os.path.abspath(root))
    if not inside:
        return read_image_folder(root)
    classes = [entry.path for entry in os.scandir(root) if entry.is_dir() and list_images(entry.path)]
    if classes:
        raise InputError(f'{root}: holds images beside folders of images ({os.path.basename(min(classes))}); '
                         'give one of them, or a list')
    return ImageList(inside, None)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _sop_list(root: str, split: str, subset: str) -> str:
    """The prepared list: train.txt, train_half.txt, test_tiny.txt ..."""
    return os.path.join(root, f'{split}.txt' if subset == 'full' else f'{split}_{subset}.txt')


def _has_sop_lists(root: str) -> bool:
    return any(os.path.isfile(file) for split in SUBSET_ROWS
               for file in [os.path.join(root, f'Ebay_{split}.txt'),
                            *(_sop_list(root, split, subset) for subset in SUBSET_ROWS[split])])


def _read_sop(root: str, split: str, subset: str, flag: str) -> ImageList:
    """The prepared list if it exists, else the first rows of the Ebay file."""
    prepared, source = _sop_list(root, split, subset), os.path.join(root, f'Ebay_{split}.txt')
    if os.path.isfile(prepared):
        return read_image_list(prepared)
    if not os.path.isfile(source):
        raise InputError(f'{root}: holds neither {os.path.basename(prepared)} nor Ebay_{split}.txt; '
                         f'{flag} must be the Stanford_Online_Products folder')
    return read_image_list(source).select(slice(SUBSET_ROWS[split][subset]))

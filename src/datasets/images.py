"""Open the user's images: an image, a list, Stanford Online Products, or a folder."""
import os
from typing import Dict, Optional

from src.common.errors import InputError
from src.datasets.image_list import (
    ImageList,
    check_images,
    holds_images,
    is_image,
    list_images,
    read_image_folder,
    read_image_list,
    sub_folders,
    without_junk,
)
from src.datasets.tables import UTF_8

# Names of sub-folders that are parts of a dataset, in small letters.
PARTS = ('train', 'training', 'test', 'testing', 'val', 'valid', 'validation')
# Number of first lines of the full list of Stanford Online Products that make each subset (README of the published
# implementation).
SUBSET_ROWS: Dict[str, Dict[str, Optional[int]]] = {
    'train': {'full': None, 'half': 29437, 'tiny': 1012}, 'test': {'full': None, 'half': 30003, 'tiny': 1048}}


def open_images(path: str, split: str, *, subset: str = 'full', flag: str = '--dataset_path',
                need_labels: bool = True, encoding: str = UTF_8) -> ImageList:
    """Open the images of a file or folder; all must be on disk.

    Args:
        path: a list file of read_image_list; a folder of Stanford Online Products, with or without prepared lists; or a
            folder, or its sub-folder called `split`, with one sub-folder of images per class. If no labels are needed, also
            an image, a list of one path per line, and a folder with images directly in it.
        split: 'train' or 'test'.
        subset: 'full', 'half' or 'tiny', of Stanford Online Products.
        flag: the flag that gave the path, for errors.
        need_labels: if False, labels are None if the classes are unknown.
        encoding: of lists.

    Raises:
        InputError: no such images, an image is missing, a folder holds images beside class folders (if no labels are needed),
            or a folder holds classes beside folders of train and test.
    """
    if not path:
        raise InputError(f'{flag} is missing: a list or a folder of images')
    if not os.path.exists(path):
        raise InputError(f'{flag}={path}: no such folder or list')
    if not os.path.isfile(path) and not os.path.isdir(path):
        raise InputError(f'{flag}={path}: is neither a file nor a folder; write the list to a file')
    if os.path.isfile(path):
        if not is_image(path):
            images = read_image_list(path, part=split, encoding=encoding, need_labels=need_labels)
        elif need_labels:
            raise InputError(f'{flag}={path}: an image alone has no class; expected a list or a folder of images')
        else:
            images = ImageList([os.path.abspath(path)], None)
    elif is_sop(path):
        images = _read_sop(path, split, subset, flag, encoding)
    else:
        folder = _part_of(path, split, flag, need_labels)
        images = read_image_folder(folder) if need_labels else _read_any_folder(folder)
    images = without_junk(images)
    check_images(images)
    return images


def read_any_list(file: str, encoding: str = UTF_8) -> ImageList:
    """Read a list without needing labels, as read_image_list; images need not be on disk."""
    return read_image_list(file, need_labels=False, encoding=encoding)


def _part_of(path: str, split: str, flag: str, need_labels: bool) -> str:
    """Folder of the classes: the sub-folder called `split`, or the folder itself if `split` may be the name of a class."""
    parts = sorted((name for name in sub_folders(path) if name.lower() in PARTS), key=lambda name: PARTS.index(name.lower()))
    if not parts:
        return path
    divided = [name for name in parts if sub_folders(os.path.join(path, name))]
    others = [name for name in sub_folders(path) if name not in parts and holds_images(os.path.join(path, name))]
    if not divided and (others or need_labels):
        return path
    # Beside train and test, another folder is not a class, but e.g. the output of a training.
    if others and not {'train', 'test'} <= set(divided):
        raise InputError(f'{flag}={path}: holds {others[0]} beside {parts[0]}; is {parts[0]} a class or a part of the data? '
                         'Move one of them, or give a list')
    if split not in parts:
        raise InputError(f'{flag}={path}: holds {" and ".join(parts)}, but no {split}; give the folder of its classes')
    return os.path.join(path, split)


def _read_any_folder(root: str) -> ImageList:
    inside = list_images(os.path.abspath(root))
    if not inside:
        return read_image_folder(root)
    classes = [name for name in sub_folders(root) if list_images(os.path.join(root, name))]
    if classes:
        raise InputError(f'{root}: holds images beside folders of images ({classes[0]}); give one of them, or a list')
    return ImageList(inside, None, source=os.path.abspath(root))


def _sop_list(root: str, split: str, subset: str) -> str:
    """Path of the prepared list: train.txt, train_half.txt, test_tiny.txt ..."""
    return os.path.join(root, f'{split}.txt' if subset == 'full' else f'{split}_{subset}.txt')


def is_sop(root: str) -> bool:
    """Whether a folder is one of Stanford Online Products, with or without prepared lists."""
    return any(os.path.isfile(file) for split in SUBSET_ROWS
               for file in [os.path.join(root, f'Ebay_{split}.txt'),
                            *(_sop_list(root, split, subset) for subset in SUBSET_ROWS[split])])


def reads_list(path: str) -> bool:
    """Whether opening a file or folder reads a list."""
    return os.path.isfile(path) and not is_image(path) or is_sop(path)


def _read_sop(root: str, split: str, subset: str, flag: str, encoding: str) -> ImageList:
    """Read the prepared list if it exists, else the first rows of the Ebay file."""
    prepared, source = _sop_list(root, split, subset), os.path.join(root, f'Ebay_{split}.txt')
    if os.path.isfile(prepared):
        return read_image_list(prepared, encoding=encoding)
    if not os.path.isfile(source):
        raise InputError(f'{root}: holds neither {os.path.basename(prepared)} nor Ebay_{split}.txt; '
                         f'{flag} must be the Stanford_Online_Products folder')
    return read_image_list(source, encoding=encoding).select(slice(SUBSET_ROWS[split][subset]))

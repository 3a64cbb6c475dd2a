"""Images to embed: lists and folders as in training, and also without class labels."""
import os

from src.datasets.image_list import (
    IMAGE_SUFFIXES,
    ImageList,
    check_images,
    list_images,
    numbered_lines,
    read_image_folder,
    read_image_list,
)
from src.datasets.sop import has_lists, load_sop
from src.errors import InputError


def read_images(path, subset='full'):
    """The images of whatever a user has, all of them on disk.

    Args:
        path (str): an image; a list as read_any_list takes it; a folder of Stanford Online Products (its test list);
            or a folder, or its sub-folder `test`, with images in it or with one sub-folder of images a class.
        subset (str): 'full', 'half' or 'tiny', of Stanford Online Products.

    Returns:
        ImageList; labels None where nothing tells the classes.

    Raises:
        InputError: none of these is there, a folder holds images beside class folders, or an image is missing.
    """
    if not os.path.exists(path):
        raise InputError(f'{path}: no such image, list or folder; check --dataset_path or --query')
    if os.path.isfile(path):
        images = ImageList([os.path.abspath(path)], None) if _is_image(path) else read_any_list(path)
    elif has_lists(path):
        images = load_sop(path, 'test', subset)
    else:
        own = os.path.join(path, 'test')
        images = _read_any_folder(own if os.path.isdir(own) else path)
    check_images(images)
    return images


def read_any_list(file):
    """Read a list with one path a line, or one of the labelled formats of read_image_list.

    It is the former when its first line ends like the name of an image (IMAGE_SUFFIXES). Paths are relative to the
    folder of the list. Returns an ImageList, labels None in the former case. Raises InputError as read_image_list.
    """
    rows = numbered_lines(file)
    if not rows or not _is_image(rows[0][1]):
        return read_image_list(file)
    root = os.path.dirname(os.path.abspath(file))
    return ImageList([os.path.join(root, line) for _, line in rows], None)


def _read_any_folder(root):
    inside = list_images(os.path.abspath(root))
    if not inside:
        return read_image_folder(root)
    classes = [entry.path for entry in os.scandir(root) if entry.is_dir() and list_images(entry.path)]
    if classes:
        raise InputError(f'{root}: holds images beside folders of images ({os.path.basename(min(classes))}); '
                         'give one of them, or a list')
    return ImageList(inside, None)


def _is_image(name):
    return name.lower().endswith(IMAGE_SUFFIXES)

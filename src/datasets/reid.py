"""Person re-identification: DukeMTMC-reID and Market1501 as published, and plain `path label camera` lists."""
import os
import re

import numpy as np

from src.datasets.image_list import ImageList, list_images, read_image_list
from src.errors import InputError

SPLIT_FOLDERS = {'train': 'bounding_box_train', 'query': 'query', 'gallery': 'bounding_box_test'}
DATASET_FOLDERS = {'dukemtmc-reid': ('DukeMTMC-reID',),
                   'market1501': ('market1501', 'Market1501', 'Market-1501-v15.09.15')}
# 0005_c2_f0046985.jpg (Duke), 0002_c1s1_000451_03.jpg and -1_c1s1_000401_03.jpg (Market)
FILE_NAME = re.compile(r'(-?\d+)_c(\d+)')
JUNK = -1

# Published (identities, images, cameras). Market1501's gallery counts the background, person 0, as one identity;
# junk is left out.
EXPECTED = {'dukemtmc-reid': {'train': (702, 16522, 8), 'query': (702, 2228, 8), 'gallery': (1110, 17661, 8)},
            'market1501': {'train': (751, 12936, 6), 'query': (750, 3368, 6), 'gallery': (751, 15913, 6)}}


def load_reid(name, root):
    """Read 'dukemtmc-reid' or 'market1501' (any case) below `root`, or `root` itself when it is the dataset's folder.

    Returns (train, query, gallery) ImageLists, sorted by file name, junk detections (person -1) dropped. Raises
    InputError when a folder is absent or empty or an image's name does not begin with `person_cCAMERA`.
    """
    folder = _dataset_folder(name.lower(), root)
    return tuple(_read_folder(os.path.join(folder, split)) for split in SPLIT_FOLDERS.values())


def load_reid_lists(*files):
    """Read `path label camera` files. Returns a tuple of ImageLists; InputError without cameras."""
    lists = tuple(read_image_list(file) for file in files)
    for file, images in zip(files, lists):
        if images.cameras is None:
            raise InputError(f'{file}: names no camera; re-identification needs lines of `path label camera`')
    return lists


def reid_statistics(train, query, gallery):
    """{'train' | 'query' | 'gallery': (identities, images, cameras)}, to print beside and compare with EXPECTED."""
    return {split: (len(np.unique(images.labels)), len(images), len(np.unique(images.cameras)))
            for split, images in zip(SPLIT_FOLDERS, (train, query, gallery))}


def _dataset_folder(name, root):
    candidates = [os.path.join(root, folder) for folder in DATASET_FOLDERS[name]] + [root]
    for folder in candidates:
        if os.path.isdir(os.path.join(folder, SPLIT_FOLDERS['train'])):
            return folder
    raise InputError(f'{root}: holds no {DATASET_FOLDERS[name][0]}/{SPLIT_FOLDERS["train"]}; '
                     f'expected {DATASET_FOLDERS[name][0]}/{{{",".join(SPLIT_FOLDERS.values())}}}/*.jpg')


def _read_folder(folder):
    if not os.path.isdir(folder):
        raise InputError(f'{folder}: no such folder; expected the images of the published dataset')
    paths, people, cameras = [], [], []
    for path in list_images(os.path.abspath(folder)):
        match = FILE_NAME.match(os.path.basename(path))
        if not match:
            raise InputError(f'{path}: name is not like 0005_c2_f0046985.jpg (person_cCAMERA...); rename or remove it')
        if int(match.group(1)) != JUNK:
            paths.append(path)
            people.append(int(match.group(1)))
            cameras.append(int(match.group(2)))
    if not paths:
        raise InputError(f'{folder}: holds no image of a person; expected the images of the published dataset')
    return ImageList(paths, np.array(people, np.int64), np.array(cameras, np.int64))

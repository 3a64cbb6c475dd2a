"""Re-identification: published datasets by name, one type per file, and the user's own `path label camera` lists."""
import os
import re
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from src.common.errors import InputError
from src.common.registry import loader
from src.datasets import REID_DATASETS
from src.datasets.image_list import (
    ImageList,
    check_images,
    in_one_numbering,
    list_images,
    read_image_list,
    without_junk,
)
from src.datasets.tables import UTF_8

Counts = Dict[str, Tuple[int, int, int]]
_dataset_type = loader('src.datasets', REID_DATASETS, '--dataset')


class ReidImages(NamedTuple):
    """Images of a dataset, with labels (persons) and cameras; train is None for lists when not training."""
    train: Optional[ImageList]
    query: ImageList
    gallery: ImageList


class ReidFolders:
    """A published dataset: three folders of images whose file names tell person and camera.

    A subtype repeats its published statistics in the docstring and sets:
        folders: possible names of the dataset's folder below data_path, the usual one first.
        file_name: compiled pattern whose groups are person and camera; images of person -1 are junk and left out.
        file_example: a file name, for errors.
        expected: {'train' | 'query' | 'gallery': (identities, images, cameras)} as published.
        splits: names of its sub-folders, if they differ from these.
    """

    folders: Tuple[str, ...] = ()
    file_name: 're.Pattern[str]' = re.compile('')
    file_example = ''
    expected: Counts = {}
    splits = {'train': 'bounding_box_train', 'query': 'query', 'gallery': 'bounding_box_test'}

    @classmethod
    def read(cls, data_path: Optional[str], lists: Dict[str, Optional[str]], training: bool, encoding: str) -> ReidImages:
        """Read all three parts, each sorted by file name; see open_reid."""
        if not data_path:
            raise InputError(f'--data_path is missing: the folder that holds {cls.folders[0]}')
        folder = cls._find(data_path)
        return ReidImages(*(cls._read_folder(os.path.join(folder, cls.splits[split])) for split in ReidImages._fields))

    @classmethod
    def _find(cls, data_path: str) -> str:
        for folder in [os.path.join(data_path, name) for name in cls.folders] + [data_path]:
            if os.path.isdir(os.path.join(folder, cls.splits['train'])):
                return folder
        raise InputError(f'{data_path}: holds no {cls.folders[0]}/{cls.splits["train"]}; '
                         f'expected {cls.folders[0]}/{{{",".join(cls.splits.values())}}}/*.jpg')

    @classmethod
    def _read_folder(cls, folder: str) -> ImageList:
        if not os.path.isdir(folder):
            raise InputError(f'{folder}: no such folder; expected the images of the published dataset')
        paths: List[str] = []
        people: List[int] = []
        cameras: List[int] = []
        for path in list_images(os.path.abspath(folder)):
            match = cls.file_name.match(os.path.basename(path))
            if not match:
                raise InputError(f'{path}: name is not like {cls.file_example} (person, camera); rename or remove it')
            paths.append(path)
            people.append(int(match.group(1)))
            cameras.append(int(match.group(2)))
        if not paths:
            raise InputError(f'{folder}: holds no image; expected the images of the published dataset')
        return without_junk(ImageList(paths, np.array(people, np.int64), np.array(cameras, np.int64), source=folder))


class ReidLists:
    """Three lists with labels and cameras, without expected statistics.

    One CSV may be all three: its columns split, is_query and is_gallery tell its parts. The training list needs no cameras.
    If neither queries nor gallery have cameras, the queries get camera 0 and the gallery camera 1, so that no answer is
    excluded for its camera.
    """

    expected: Counts = {}

    @classmethod
    def read(cls, data_path: Optional[str], lists: Dict[str, Optional[str]], training: bool, encoding: str) -> ReidImages:
        """Read all three parts, train None when not training; see open_reid."""
        parts = []
        for flag in ('train_list', 'query', 'gallery') if training else ('query', 'gallery'):
            file = lists.get(flag)
            if not file:
                raise InputError(f'--{flag} is missing: a list of `path label camera` lines')
            images = without_junk(read_image_list(file, part='train' if flag == 'train_list' else 'test', encoding=encoding))
            check_images(images)
            parts.append(images.part(flag))
        *train, query, gallery = parts
        query, gallery = in_one_numbering(query, gallery)
        if query.cameras is None and gallery.cameras is None:
            query, gallery = (replace(images, cameras=np.full(len(images), camera))
                              for camera, images in enumerate((query, gallery)))
        for images in (query, gallery):
            if images.cameras is None:
                raise InputError(f'{images.source}: names no cameras, unlike the other list of --query and --gallery; name '
                                 'them in both or in none')
        return ReidImages(train[0] if train else None, query, gallery)


def reid_dataset(name: str, lists: Optional[Dict[str, Optional[str]]] = None) -> Any:
    """Type of a name of REID_DATASETS; ReidLists if any list is given, whatever the name."""
    return _dataset_type('lists' if any((lists or {}).values()) else name)


def open_reid(name: str, data_path: Optional[str] = None, *, lists: Optional[Dict[str, Optional[str]]] = None,
              training: bool = True, encoding: str = UTF_8) -> ReidImages:
    """Open training, query and gallery images, sorted by file name or in the order of their list.

    Args:
        name: a key of REID_DATASETS.
        data_path: folder that holds the dataset's folder, or that folder itself.
        lists: {'train_list' | 'query' | 'gallery': file or None}; if any is given, the name does not count.
        training: False needs no training list.
        encoding: of the lists.

    Raises:
        InputError: a folder or list is not given, missing, empty or malformed.
    """
    return reid_dataset(name, lists).read(data_path, lists or {}, training, encoding)


def statistics(images: ReidImages) -> Counts:
    """{'train' | 'query' | 'gallery': (identities, images, cameras)} of the parts that exist."""
    return {split: (len(np.unique(part.known_labels)), len(part), 0 if part.cameras is None else len(np.unique(part.cameras)))
            for split, part in zip(images._fields, images) if part is not None}


def statistics_lines(dataset: Any, found: Counts) -> List[str]:
    """Lines to print: the counts of `statistics`, beside the published ones of the dataset's type if it has them."""
    lines = []
    for split, numbers in found.items():
        line = '{:7} {:6} identities {:6} images {:3} cameras'.format(split, *numbers)
        expected = dataset.expected.get(split)
        if expected:
            line += ' (as published)' if numbers == expected else ' (published: {}, {}, {})'.format(*expected)
        lines.append(line)
    return lines

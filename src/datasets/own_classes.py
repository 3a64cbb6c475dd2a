"""Own images and classes in the layout of the benchmark (src.datasets.gbu), for train.py --dataset=GBU and other code.

    python -m src.datasets.own_classes FEATURES CLASSES UNSEEN FOLDER [--seed=1]

FEATURES: an embedding file of infer.py whose labels are folder names or class ids; CLASSES: a CSV with one row a class,
its name first (the folder's name, or the id), then numbers; UNSEEN: a text file with the name of an unseen class a line.
"""
import argparse
import csv
import os
from typing import List, Tuple

import numpy as np
import scipy.io

from src.common.arrays import unit_rows
from src.common.errors import InputError
from src.common.files import replacing
from src.common.values import natural
from src.datasets.gbu import CLASS_SHARE, SEEN_SHARE
from src.datasets.splits import held_out
from src.retrieval.embedding_file import EmbeddingFile


def read_classes(path: str) -> Tuple[List[str], np.ndarray]:
    """Names and semantics (C, A) float32 of a CSV; a first row whose second column is no number is a header.

    Raises:
        InputError: no such file, a row of another length, a value that is no finite number, or a name twice.
    """
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: cannot be read: {error}') from error
    names: list = []
    numbers: list = []
    for i, row in enumerate(rows):
        try:
            values = [float(cell) for cell in row[1:]]
        except ValueError as error:
            if i == 0:
                continue
            raise InputError(f'{path}: class {row[0]}: {error}') from error
        if not values or not np.isfinite(values).all() or (numbers and len(values) != len(numbers[0])):
            raise InputError(f'{path}: class {row[0]}: expected {len(numbers[0]) if numbers else "at least one"} finite '
                             f'numbers behind the name, it has {len(values)}')
        names.append(row[0].strip())
        numbers.append(values)
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise InputError(f'{path}: ' + (f'class {twice[0]} comes twice' if twice else 'no class in it'))
    return names, np.array(numbers, np.float32)


def write_benchmark(features: str, classes: str, unseen: str, folder: str, seed: int = 1) -> str:
    """Write FOLDER/res101.mat and FOLDER/att_splits.mat; the splits are drawn by the seed.

    All images of the unseen classes are the unseen test, SEEN_SHARE of each seen class's the seen test; CLASS_SHARE of the
    seen classes are the val classes.

    Returns:
        str, one line that says what was written.

    Raises:
        InputError: a bad file, a class that is not in the CSV, no seen or no unseen class with images.
    """
    file = EmbeddingFile(features)
    names, semantics = read_classes(classes)
    number = {name: i for i, name in enumerate(names)}
    folders = [os.path.basename(os.path.dirname(path)) for path in file.images.paths]
    labels = file.images.labels
    own = folders if labels is None or set(folders) <= set(number) else [str(label) for label in labels]
    strange = [name for name in own if name not in number]
    if strange:
        raise InputError(f'{classes}: no class {strange[0]}, which an image of {features} is of; name classes as the folders '
                         'of the images, or by the ids of the list')
    image_class = np.array([number[name] for name in own])
    try:
        with open(unseen, encoding='utf-8') as lines:
            unseen_names = [line.strip() for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{unseen}: cannot be read: {error}') from error
    for name in unseen_names:
        if name not in number:
            raise InputError(f'{unseen}: class {name} is not in {classes}')
    is_unseen = np.isin(image_class, [number[name] for name in unseen_names])
    if is_unseen.all() or not is_unseen.any():
        raise InputError(f'{unseen}: {"all" if is_unseen.all() else "none"} of the images are of these classes')
    if len(np.unique(image_class[~is_unseen])) < 2:
        raise InputError(f'{unseen}: leaves images of one class to learn from; at least two, one of them to choose on')
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(image_class))
    seen_test = np.zeros(len(image_class), bool)
    for one in np.unique(image_class[~is_unseen]):
        mine = order[image_class[order] == one]
        seen_test[mine[:round(len(mine) * SEEN_SHARE)]] = True
    trainval = ~is_unseen & ~seen_test
    if not seen_test.any():
        raise InputError(f'{features}: seen classes have too few images for a test of them: at least three each')
    val = np.zeros(len(image_class), bool)
    val[trainval] = held_out(image_class[trainval], CLASS_SHARE, seed, 'classes')

    def places(mask):
        return (np.flatnonzero(mask) + 1).astype(np.float64)[:, None]
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    images = np.empty((len(own), 1), object)
    images[:, 0] = file.images.paths
    rows = np.concatenate([block for _, block in file.blocks()])
    for name, arrays in (
            ('res101.mat', {'features': rows.T, 'labels': image_class[:, None] + 1.0, 'image_files': images}),
            ('att_splits.mat', {'att': unit_rows(semantics).T, 'original_att': semantics.T, 'allclasses_names': cells,
                                'trainval_loc': places(trainval), 'test_seen_loc': places(seen_test),
                                'test_unseen_loc': places(is_unseen), 'train_loc': places(trainval & ~val),
                                'val_loc': places(val)})):
        with replacing(os.path.join(folder, name)) as temporary:
            scipy.io.savemat(temporary, arrays)
    return (f'{folder}: {len(np.unique(image_class[~is_unseen]))} seen and {len(np.unique(image_class[is_unseen]))} unseen '
            f'classes, {trainval.sum()} images to train on, {seen_test.sum()} and {is_unseen.sum()} to test')


def main(args=None):
    parser = argparse.ArgumentParser(description='Write own embeddings and classes in the layout of the benchmark.')
    for name in ('features', 'classes', 'unseen', 'folder'):
        parser.add_argument(name)
    parser.add_argument('--seed', type=natural, default=1)
    given = parser.parse_args(args)
    try:
        print(write_benchmark(given.features, given.classes, given.unseen, given.folder, given.seed))
    except InputError as error:
        parser.exit(2, f'{error}\n')


if __name__ == '__main__':
    main()

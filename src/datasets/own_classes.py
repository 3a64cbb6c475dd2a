"""Write own images and classes in the layout of the benchmark (src.datasets.gbu), for train.py --dataset=GBU.

    python -m src.datasets.own_classes FEATURES CLASSES UNSEEN FOLDER [--seed=1]

FEATURES: an embedding file of infer.py whose labels are folder names or class ids. CLASSES: a CSV with one row per class,
its name first (the folder name or the id), then numbers. UNSEEN: a text file with one name of an unseen class per line.
"""
import argparse
import csv
import io
import os
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np
import scipy.io
from numpy.typing import NDArray

from src.common.arrays import Array, unit_rows
from src.common.errors import InputError
from src.common.files import replacing
from src.common.run import run
from src.common.values import natural
from src.datasets.gbu import CLASS_SHARE, SEEN_SHARE
from src.datasets.image_list import ImageList
from src.datasets.splits import held_out, held_out_of_each_class
from src.retrieval.embedding_file import EmbeddingFile


def _read_text(path: str) -> str:
    """Text of a file, without the byte-order mark that Windows writes."""
    try:
        return Path(path).read_bytes().decode('utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: cannot be read: {error}') from error


def read_classes(path: str) -> Tuple[List[str], NDArray[np.float32]]:
    """Read names and semantics (C, A) of a CSV. A first row whose second column is not a number is a header.

    Raises:
        InputError: no such file, no class, rows of different lengths, a value that is not a finite number, or a repeated name.
    """
    names: List[str] = []
    numbers: List[List[float]] = []
    rows = [row for row in csv.reader(io.StringIO(_read_text(path), newline='')) if any(cell.strip() for cell in row)]
    for i, row in enumerate(rows):
        try:
            values = [float(cell) for cell in row[1:]]
        except ValueError as error:
            if i == 0:
                continue
            raise InputError(f'{path}: class {row[0]}: {error}') from error
        if not values or not np.isfinite(values).all() or (numbers and len(values) != len(numbers[0])):
            raise InputError(f'{path}: class {row[0]}: expected {len(numbers[0]) if numbers else "at least one"} finite '
                             f'numbers after the name, it has {len(values)}')
        names.append(row[0].strip())
        numbers.append(values)
        if names.count(names[-1]) > 1:
            raise InputError(f'{path}: class {names[-1]} comes twice')
    if not names:
        raise InputError(f'{path}: no class in it')
    return names, np.array(numbers, np.float32)


def _class_names(images: ImageList, known: Sequence[str]) -> List[str]:
    """Class name of each image: its folder if all folders are known classes or no image has a label, else its label."""
    folders = [os.path.basename(os.path.dirname(path)) for path in images.paths]
    return folders if images.labels is None or set(folders) <= set(known) else [str(label) for label in images.labels]


def _column(values: Sequence[str]) -> Array:
    """A cell array (n, 1) of strings."""
    cells = np.empty((len(values), 1), object)
    cells[:, 0] = values
    return cells


def write_benchmark(features: str, classes: str, unseen: str, folder: str, seed: int = 1) -> str:
    """Write FOLDER/res101.mat and FOLDER/att_splits.mat; the splits are drawn by the seed.

    The unseen test has all images of the unseen classes, the seen test SEEN_SHARE of the images of each seen class.
    CLASS_SHARE of the seen classes are the val classes.

    Returns:
        one line with the counts of what was written.

    Raises:
        InputError: a bad file, a class that is not in the CSV, too few seen or unseen classes or images.
    """
    file = EmbeddingFile(features)
    names, semantics = read_classes(classes)
    number = {name: i for i, name in enumerate(names)}
    image_names = _class_names(file.images, names)
    unseen_names = [line.strip() for line in _read_text(unseen).splitlines() if line.strip()]
    unknown = sorted({*image_names, *unseen_names} - set(names))
    if unknown and unknown[0] in unseen_names:
        raise InputError(f'{unseen}: class {unknown[0]} is not in {classes}')
    if unknown:
        raise InputError(f'{classes}: no class {unknown[0]}, which has an image in {features}; name classes like the folders '
                         'of the images, or by their ids in the list')
    of_image = np.array([number[name] for name in image_names])
    is_unseen = np.isin(of_image, [number[name] for name in unseen_names])
    counts = [len(np.unique(of_image[mask])) for mask in (~is_unseen, is_unseen)]
    if not all(counts):
        raise InputError(f'{unseen}: {"none" if counts[0] else "all"} of the images are of these classes')
    if counts[0] < 2:
        raise InputError(f'{unseen}: leaves images of one class to learn from; at least two are needed, one of them for '
                         'validation')
    seen_test = held_out_of_each_class(of_image, SEEN_SHARE, seed) & ~is_unseen
    if not seen_test.any():
        raise InputError(f'{features}: too few images for a test of the seen classes: at least three each are needed')
    trainval = ~is_unseen & ~seen_test
    val = np.zeros(len(of_image), bool)
    val[trainval] = held_out(of_image[trainval], CLASS_SHARE, seed, 'classes')
    parts = {'trainval_loc': trainval, 'test_seen_loc': seen_test, 'test_unseen_loc': is_unseen, 'train_loc': trainval & ~val,
             'val_loc': val}
    rows = np.concatenate([block for _, block in file.blocks()])
    for name, arrays in (
            ('res101.mat', {'features': rows.T, 'labels': of_image[:, None] + 1.0, 'image_files': _column(file.images.paths)}),
            ('att_splits.mat', {'att': unit_rows(semantics).T, 'original_att': semantics.T, 'allclasses_names': _column(names),
                                **{part: np.flatnonzero(mask)[:, None] + 1.0 for part, mask in parts.items()}})):
        with replacing(os.path.join(folder, name)) as temporary:
            scipy.io.savemat(temporary, arrays)
    return (f'{folder}: {counts[0]} seen and {counts[1]} unseen classes, {trainval.sum()} images to train on, '
            f'{seen_test.sum()} and {is_unseen.sum()} to test')


def main(args: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description='Write own embeddings and classes in the layout of the benchmark.')
    for name in ('features', 'classes', 'unseen', 'folder'):
        parser.add_argument(name)
    parser.add_argument('--seed', type=natural, default=1)
    print(write_benchmark(**vars(parser.parse_args(args))))


if __name__ == '__main__':
    run(main)

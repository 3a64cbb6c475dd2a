"""Write own images and classes in the layout of the benchmark (src.datasets.gbu), for train.py --dataset=GBU.

    python -m src.datasets.own_classes FEATURES CLASSES UNSEEN FOLDER --by=folder|label [--seed=1] [--encoding=utf-8]

FEATURES: an embedding file of infer.py. CLASSES: a CSV with one row per class, its name first, then numbers. UNSEEN: a text
file with one name of an unseen class per line. --by gives the source of an image's class name: its folder, or its label in
FEATURES (the name of the label if it has one, else its number).
"""
import os
from typing import List, Optional, Sequence, Tuple

import numpy as np
import scipy.io
from numpy.typing import NDArray

from src.common.arrays import Array, unit_rows
from src.common.errors import InputError
from src.common.files import check_replaceable, replacing
from src.common.run import run
from src.common.values import Parser, natural
from src.datasets.gbu import CLASS_SHARE, IMAGE_MODEL, SEEN_SHARE
from src.datasets.mat_file import as_float32
from src.datasets.splits import held_out, held_out_of_each_class
from src.datasets.tables import UTF_8, as_name, plain_number, read_lines, read_rows
from src.datasets.zero_shot_data import describe_equal_classes
from src.retrieval.embedding_file import EmbeddingFile

HEADERS = ('', 'name', 'class', 'class_name', 'label', 'category')


def read_classes(path: str, encoding: str = UTF_8) -> Tuple[List[str], NDArray[np.float32]]:
    """Read names and semantics (C, A) of a CSV. A first row without any number after its name is a header; before one
    column alone it must begin with one of HEADERS, as it could be a class with a bad number.

    Raises:
        InputError: no such file, no class, rows of different lengths, a value that is not a finite number, or a name that is
            empty, repeated or not printable; names file and line.
    """
    names: List[str] = []
    numbers: List[List[float]] = []
    for i, (line, (name, *cells)) in enumerate(read_rows(path, encoding)):
        where = f'{path}:{line}: class {name!r}'
        values = [_number(cell) for cell in cells]
        if i == 0 and set(values) == {None} and (len(values) > 1 or name.lower() in HEADERS):
            continue
        if not name or not name.isprintable():
            raise InputError(f'{where}: a name must be printable and not empty')
        name = as_name(name)
        if name in names:
            raise InputError(f'{where}: comes twice')
        if not values or (numbers and len(values) != len(numbers[0])):
            raise InputError(f'{where}: expected {len(numbers[0]) if numbers else "at least one"} numbers after the name, '
                             f'it has {len(values)}')
        bad = [cell for cell, value in zip(cells, values) if value is None]
        if bad:
            raise InputError(f'{where}: {bad[0]!r}: expected a finite number')
        names.append(name)
        numbers.append([value for value in values if value is not None])
    if not names:
        raise InputError(f'{path}: names no class')
    return names, as_float32(path, 'the table', np.array(numbers))


def _number(cell: str) -> Optional[float]:
    """Number in a cell, None if it is no plain number within float32."""
    try:
        value = float(plain_number(cell, float))
    except ValueError:
        return None
    return value if abs(value) <= float(np.finfo(np.float32).max) else None


def _class_names(file: EmbeddingFile, by: str) -> List[str]:
    """Class name of each image."""
    if by == 'folder':
        return [as_name(os.path.basename(os.path.dirname(path))) for path in file.images.paths]
    if file.images.labels is None:
        raise InputError(f'{file.path}: has no labels; give --by=folder, or write it from a list with labels')
    names = file.classes or {}
    return [names.get(label, str(label)) for label in file.images.labels.tolist()]


def _column(values: Sequence[str]) -> Array:
    """A cell array (n, 1) of strings."""
    cells = np.empty((len(values), 1), object)
    cells[:, 0] = values
    return cells


def write_benchmark(features: str, classes: str, unseen: str, folder: str, by: str, *, seed: int = 1,
                    encoding: str = UTF_8) -> str:
    """Write FOLDER/res101.mat and FOLDER/att_splits.mat; the splits are drawn by the seed.

    The unseen test has all images of the unseen classes, the seen test SEEN_SHARE of the images of each seen class.
    CLASS_SHARE of the seen classes are the val classes. An unseen class without images is still a possible answer.

    Args:
        by: 'folder' or 'label', the source of an image's class name. encoding: of the two text files.

    Returns:
        one line with the counts of the written data, and the classes described by equal numbers.

    Raises:
        InputError: a bad file, a class that is not in the CSV, too few seen or unseen classes or images.
    """
    splits = os.path.join(folder, 'att_splits.mat')
    check_replaceable(splits, [b'unseen_classes'], 'FOLDER')
    check_replaceable(os.path.join(folder, 'res101.mat'), [b''] if os.path.isfile(splits) else [], 'FOLDER')
    file = EmbeddingFile(features)
    names, semantics = read_classes(classes, encoding)
    number = {name: i for i, name in enumerate(names)}
    image_names = _class_names(file, by)
    unseen_names = [as_name(line) for _, line in read_lines(unseen, encoding)]
    for name in unseen_names:
        if name not in number:
            raise InputError(f'{unseen}: class {name} is not in {classes}')
    for name, path in zip(image_names, file.images.paths):
        if name not in number:
            raise InputError(f'{classes}: no class {name}, the {by} of {path} in {features}; name it so there, or give '
                             f'--by={"label" if by == "folder" else "folder"}')
    of_image = np.array([number[name] for name in image_names])
    is_unseen = np.isin(of_image, [number[name] for name in unseen_names])
    counts = [len(np.unique(of_image[mask])) for mask in (~is_unseen, is_unseen)]
    if not all(counts):
        raise InputError(f'{unseen}: {"none" if counts[0] else "all"} of the images are of these classes')
    if counts[0] < 2:
        raise InputError(f'{unseen}: leaves images of one class for training; at least two are needed, one of them for '
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
            ('res101.mat', {'features': rows.T, 'labels': of_image[:, None] + 1.0, 'image_files': _column(file.images.paths),
                            **({IMAGE_MODEL: _column([file.model])} if file.model else {})}),
            ('att_splits.mat', {'att': unit_rows(semantics).T, 'original_att': semantics.T, 'allclasses_names': _column(names),
                                'unseen_classes': np.array([[number[name] + 1.0] for name in unseen_names]),
                                **{part: np.flatnonzero(mask)[:, None] + 1.0 for part, mask in parts.items()}})):
        with replacing(os.path.join(folder, name)) as temporary:
            scipy.io.savemat(temporary, arrays)
    return (f'{folder}: {counts[0]} seen and {len(set(unseen_names))} unseen classes, {trainval.sum()} images to train on, '
            f'{seen_test.sum()} and {is_unseen.sum()} to test'
            + describe_equal_classes(names, semantics))


def main(args: Optional[Sequence[str]] = None) -> None:
    parser = Parser(prog='python -m src.datasets.own_classes',
                    description='Write your own images and classes in the layout of the benchmark, for train.py --dataset=GBU.')
    for name, purpose in (('features', 'embedding file of infer.py'),
                          ('classes', 'CSV with one row per class: its name, then numbers that describe it'),
                          ('unseen', 'text file with the name of one unseen class per line'),
                          ('folder', 'folder to write, for --data_path')):
        parser.add_argument(name, help=purpose)
    parser.add_argument('--by', choices=('folder', 'label'), required=True, help='source of the class name of an image')
    parser.add_argument('--seed', type=natural, default=1, help='seed that divides the seen images and classes; default: 1')
    parser.add_argument('--encoding', default=UTF_8, help='encoding of CLASSES and UNSEEN')
    print(write_benchmark(**vars(parser.parse_args(args))))


if __name__ == '__main__':
    run(main)

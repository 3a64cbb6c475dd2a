"""AwA and CUB for zero-shot learning: MATLAB files -> arrays.

File layout and features as published with L. Zhang, T. Xiang, S. Gong, Learning a Deep Embedding Model for Zero-Shot
Learning, CVPR 2017: https://www.robots.ox.ac.uk/~lz/DEM_cvpr2017/data.zip .
"""
from pathlib import Path
from typing import Dict, NamedTuple, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from src.common.arrays import Array
from src.common.errors import InputError
from src.common.registry import check_choice
from src.datasets.mat_file import File, as_float32, read_integers, read_mat
from src.datasets.zero_shot_data import EvalPart, ZeroShotData


class Files(NamedTuple):
    """Files of a dataset, relative to its folder. Each holds the variable of its own name.

    att, word: semantics of the training images and of the unseen classes.
    """
    folder: str
    train_features: str
    test_features: str
    test_labels: str
    test_class_ids: str
    att: Tuple[str, str]
    word: Tuple[str, str]


FILES = {
    'AwA': Files('AwA_data', 'train_googlenet_bn.mat', 'test_googlenet_bn.mat', 'test_labels.mat', 'testclasses_id.mat',
                 att=('attribute/Z_s_con.mat', 'attribute/pca_te_con_10x85.mat'),
                 word=('wordvector/train_word.mat', 'wordvector/test_vectors.mat')),
    'CUB': Files('CUB_data', 'train_cub_googlenet_bn.mat', 'test_cub_googlenet_bn.mat', 'test_labels_cub.mat',
                 'testclasses_id.mat', att=('train_attr.mat', 'test_proto.mat'),
                 word=('wordvector/train_word.mat', 'wordvector/test_vectors.mat')),
}
# Largest ratio of the root mean squares of training and test data.
LARGEST_RATIO = 10
# Semantics of each mode, in the order of the network's inputs.
SEMANTICS = {'att': ('att',), 'word': ('word',), 'fusion': ('att', 'word')}


def _read_matrix(path: Path, axis: int, size: int, reason: str) -> NDArray[np.float32]:
    """Read a matrix whose given axis must have `size` elements; transposed if only its other axis does."""
    stored = read_mat(path, path.stem)
    matrix = stored if stored.ndim == 2 else np.atleast_2d(stored.squeeze())
    if matrix.ndim == 2 and matrix.shape[axis] != size:
        matrix = matrix.T
    if matrix.ndim != 2 or matrix.shape[axis] != size:
        raise InputError(f'{path}: {path.stem} is {stored.shape}, one of two sides must be {size}, {reason}')
    return as_float32(path, path.stem, matrix)


def _check_scale(path: Path, matrix: Array, train_path: Path, train: Array) -> None:
    """Raise InputError if the values of the test are scaled otherwise than those of the training."""
    sizes = [float(np.sqrt(np.square(rows, dtype=np.float64).mean())) for rows in (train, matrix)]
    if max(sizes) > LARGEST_RATIO * min(sizes) > 0:
        raise InputError(f'{path}: {path.stem} has values of about {sizes[1]:.1g}, {train_path.stem} in {train_path} of about '
                         f'{sizes[0]:.1g}; scale both in the same way')


def _class_of_each_row(semantics: Sequence[Array]) -> NDArray[np.int64]:
    """Number the different rows in order of first appearance: (N,) int64."""
    # Adding zero makes -0.0 and 0.0 the same bytes. Hashing rows is many times faster than np.unique(axis=0).
    rows = np.concatenate(semantics, axis=1) + np.float32(0)
    number: Dict[bytes, int] = {}
    return np.array([number.setdefault(row.tobytes(), len(number)) for row in rows], np.int64)


def _find(data_path: File, dataset: str, mode: str) -> Path:
    """Check the options and the word vectors of CUB; returns the folder of the dataset."""
    check_choice(FILES, dataset, '--dataset')
    check_choice(SEMANTICS, mode, '--train_mode')
    if not data_path:
        raise InputError('--data_path is missing: the folder that holds AwA_data and CUB_data')
    files = FILES[dataset]
    folder = Path(data_path) / files.folder
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; --data_path must be the folder that holds {files.folder}')
    if dataset == 'CUB' and mode != 'att':
        for path in (folder / name for name in files.word):
            if not path.is_file():
                raise InputError(f'{path}: no such file; the published CUB data has no word vectors, --train_mode={mode} '
                                 f'needs your own in the variable {path.stem}, or use --train_mode=att')
    return folder


def load_dem(data_path: File, dataset: str = 'CUB', mode: str = 'att') -> ZeroShotData:
    """Load one dataset in one mode; every size is read from the files.

    A matrix is transposed if only its other side fits the number of images, classes or features; a square one is read as
    documented, one row per image or class.

    Args:
        data_path: folder that holds AwA_data and CUB_data.
        dataset: 'AwA' or 'CUB'.
        mode: 'att', 'word' or 'fusion'.

    Returns:
        ZeroShotData; its train_labels number the seen classes in order of first appearance.

    Raises:
        InputError: missing or bad file (see read_mat), or files that contradict one another.
    """
    folder = _find(data_path, dataset, mode)
    files = FILES[dataset]
    ids_path, labels_path, test_path, train_path = (
        folder / name for name in (files.test_class_ids, files.test_labels, files.test_features, files.train_features))
    class_ids = read_integers(ids_path, ids_path.stem)
    if len(np.unique(class_ids)) != len(class_ids):
        raise InputError(f'{ids_path}: {ids_path.stem} must name every class once, it has repeated ids')
    labels = read_integers(labels_path, labels_path.stem)
    unknown = np.setdiff1d(labels, class_ids)
    if len(unknown):
        raise InputError(f'{labels_path}: {labels_path.stem} has class ids that are not in {ids_path}: '
                         f'{", ".join(map(str, unknown[:5]))}{" ..." if len(unknown) > 5 else ""}')

    test_features = _read_matrix(test_path, 0, len(labels), f'the number of labels in {labels_path}')
    train_features = _read_matrix(train_path, 1, test_features.shape[1], f'the number of features per image in {test_path}')
    _check_scale(test_path, test_features, train_path, train_features)
    train_semantics, test_semantics = [], []
    for kind in SEMANTICS[mode]:
        path, unseen_path = (folder / name for name in getattr(files, kind))
        seen = _read_matrix(path, 0, len(train_features), f'the number of images in {train_path}')
        unseen = _read_matrix(unseen_path, 0, len(class_ids), f'the number of classes in {ids_path}')
        if seen.shape[1] != unseen.shape[1]:
            raise InputError(f'{unseen_path}: {unseen_path.stem} describes a class by {unseen.shape[1]} numbers, {path.stem} '
                             f'in {path} by {seen.shape[1]}; they must be the same')
        _check_scale(unseen_path, unseen, path, seen)
        train_semantics.append(seen)
        test_semantics.append(unseen)
    return ZeroShotData(train_features, tuple(train_semantics), _class_of_each_row(train_semantics),
                        EvalPart(test_features, labels, class_ids, tuple(test_semantics)))

"""AwA and CUB for zero-shot learning: MATLAB files -> arrays.

Layout and features published with L. Zhang, T. Xiang, S. Gong, Learning a Deep Embedding Model for Zero-Shot
Learning, CVPR 2017: https://www.robots.ox.ac.uk/~lz/DEM_cvpr2017/data.zip .
"""
import os

import numpy as np

from src.common.errors import InputError
from src.datasets.mat_file import read_mat
from src.datasets.zero_shot_data import EvalPart, ZeroShotData

# (file, variable) below the folder of each dataset. The semantics of a mode: training images, unseen classes.
FILES = {
    'AwA': {
        'folder': 'AwA_data',
        'train_features': ('train_googlenet_bn.mat', 'train_googlenet_bn'),
        'test_features': ('test_googlenet_bn.mat', 'test_googlenet_bn'),
        'test_labels': ('test_labels.mat', 'test_labels'),
        'test_class_ids': ('testclasses_id.mat', 'testclasses_id'),
        'att': (('attribute/Z_s_con.mat', 'Z_s_con'), ('attribute/pca_te_con_10x85.mat', 'pca_te_con_10x85')),
        'word': (('wordvector/train_word.mat', 'train_word'), ('wordvector/test_vectors.mat', 'test_vectors')),
    },
    'CUB': {
        'folder': 'CUB_data',
        'train_features': ('train_cub_googlenet_bn.mat', 'train_cub_googlenet_bn'),
        'test_features': ('test_cub_googlenet_bn.mat', 'test_cub_googlenet_bn'),
        'test_labels': ('test_labels_cub.mat', 'test_labels_cub'),
        'test_class_ids': ('testclasses_id.mat', 'testclasses_id'),
        'att': (('train_attr.mat', 'train_attr'), ('test_proto.mat', 'test_proto')),
        'word': (('wordvector/train_word.mat', 'train_word'), ('wordvector/test_vectors.mat', 'test_vectors')),
    },
}
SEMANTICS = {'att': ('att',), 'word': ('word',), 'fusion': ('att', 'word')}


def _read_ids(path, variable):
    """A vector of class ids, stored as a row or a column of integers or integral doubles -> (n,) int64."""
    stored = read_mat(path, variable)
    if stored.size != max(stored.shape, default=1):
        raise InputError(f'{path}: {variable} must be a vector of class ids, its shape is {stored.shape}')
    stored = stored.reshape(-1)
    with np.errstate(invalid='ignore'):
        ids = stored.astype(np.int64)
    if not (ids == stored).all():
        raise InputError(f'{path}: {variable} must hold whole numbers, it has {stored[ids != stored][0]}')
    return ids


def _read_matrix(path, variable, axis, size, reason):
    """A matrix whose given axis must have `size` elements; transposed when only its other axis does -> float32."""
    stored = read_mat(path, variable)
    matrix = stored if stored.ndim == 2 else np.atleast_2d(stored.squeeze())
    if matrix.ndim == 2 and matrix.shape[axis] != size:
        matrix = matrix.T
    if matrix.ndim != 2 or matrix.shape[axis] != size:
        raise InputError(f'{path}: {variable} is {stored.shape}, one of two sides must be {size}, {reason}')
    try:
        with np.errstate(over='raise'):
            # A copy: a dtype with the byte order spelt out, as files have it, is none that MindSpore 2.7 knows.
            return matrix.astype(np.float32, order='C')
    except FloatingPointError as error:
        raise InputError(f'{path}: {variable} has values too large for float32') from error


def _class_of_each_row(semantics):
    """Number the different rows in order of first appearance -> (N,) int64."""
    # Adding zero makes -0.0 and 0.0 the same bytes. Hashing rows is many times faster than np.unique(axis=0).
    rows = np.concatenate(semantics, axis=1) + np.float32(0)
    number = {}
    return np.array([number.setdefault(row.tobytes(), len(number)) for row in rows], np.int64)


def load_dem(data_path, dataset='CUB', mode='att'):
    """Load one dataset in one mode; every size is read from the files.

    A matrix stored transposed is turned when only its other side fits the number of images, classes or features;
    a square one is taken as documented, one row an image or a class.

    Args:
        data_path: folder that holds AwA_data and CUB_data.
        dataset (str): 'AwA' or 'CUB'.
        mode (str): 'att', 'word' or 'fusion'.

    Returns:
        ZeroShotData; its train_labels number the seen classes in order of first appearance.

    Raises:
        InputError: missing or bad file (see read_mat), or files that contradict one another.
    """
    if dataset not in FILES:
        raise InputError(f'--dataset={dataset}: choose one of {", ".join(FILES)}')
    if mode not in SEMANTICS:
        raise InputError(f'--train_mode={mode}: choose one of {", ".join(SEMANTICS)}')
    if not data_path:
        raise InputError('--data_path is missing: the folder that holds AwA_data and CUB_data')
    files = FILES[dataset]
    folder = os.path.join(str(data_path), files['folder'])
    if not os.path.isdir(folder):
        raise InputError(f'{folder}: no such folder; --data_path must be the folder that holds {files["folder"]}')

    def located(entry):
        return os.path.join(folder, *entry[0].split('/')), entry[1]

    if dataset == 'CUB' and mode != 'att':
        for path, variable in map(located, files['word']):
            if not os.path.isfile(path):
                raise InputError(f'{path}: no such file; the published CUB data has no word vectors, --train_mode='
                                 f'{mode} needs your own in the variable {variable}, or use --train_mode=att')

    ids_path, ids_name = located(files['test_class_ids'])
    class_ids = _read_ids(ids_path, ids_name)
    if len(np.unique(class_ids)) != len(class_ids):
        raise InputError(f'{ids_path}: {ids_name} must name every class once, it has repeated ids')
    labels_path, labels_name = located(files['test_labels'])
    labels = _read_ids(labels_path, labels_name)
    strangers = np.setdiff1d(labels, class_ids)
    if len(strangers):
        raise InputError(f'{labels_path}: {labels_name} has class ids that are not in {ids_path}: '
                         f'{", ".join(map(str, strangers[:5]))}{" ..." if len(strangers) > 5 else ""}')

    test_path, test_name = located(files['test_features'])
    test_features = _read_matrix(test_path, test_name, 0, len(labels), f'the number of labels in {labels_path}')
    train_path, train_name = located(files['train_features'])
    train_features = _read_matrix(train_path, train_name, 1, test_features.shape[1],
                                  f'the number of features of an image in {test_path}')
    train_semantics, test_semantics = [], []
    for kind in SEMANTICS[mode]:
        (path, name), (unseen_path, unseen_name) = map(located, files[kind])
        seen = _read_matrix(path, name, 0, len(train_features), f'the number of images in {train_path}')
        unseen = _read_matrix(unseen_path, unseen_name, 0, len(class_ids), f'the number of classes in {ids_path}')
        if seen.shape[1] != unseen.shape[1]:
            raise InputError(f'{unseen_path}: {unseen_name} describes a class by {unseen.shape[1]} numbers, {name} in '
                             f'{path} by {seen.shape[1]}; they must be the same')
        train_semantics.append(seen)
        test_semantics.append(unseen)
    return ZeroShotData(train_features, tuple(train_semantics), _class_of_each_row(train_semantics),
                        EvalPart(test_features, labels, class_ids, tuple(test_semantics)))

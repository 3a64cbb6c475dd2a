"""AwA and CUB for zero-shot learning: MATLAB files -> arrays -> validation splits and training batches.

Layout and features published with L. Zhang, T. Xiang, S. Gong, Learning a Deep Embedding Model for Zero-Shot
Learning, CVPR 2017: https://www.robots.ox.ac.uk/~lz/DEM_cvpr2017/data.zip .
"""
import os
from dataclasses import dataclass, replace
from typing import Tuple

import mindspore.dataset as ds
import numpy as np

from src.datasets.mat_file import read_mat
from src.errors import InputError

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


@dataclass(frozen=True)
class EvalPart:
    """Images to classify and the classes to choose from.

    features (M, V) float32, labels (M,) int64, class_ids (C,) int64, semantics: tuple of (C, A_i) float32, row c
    describing class_ids[c].
    """
    features: np.ndarray
    labels: np.ndarray
    class_ids: np.ndarray
    semantics: Tuple[np.ndarray, ...]


@dataclass(frozen=True)
class DemData:
    """Seen classes to train on and unseen classes to test on.

    train_features (N, V) float32; train_semantics: tuple of (N, A_i) float32, one for each input of the network:
    (attribute,), (word,) or (attribute, word); train_labels (N,) int64: seen class of each image, numbered in
    order of first appearance (unrelated to test_class_ids); test_*: as in EvalPart.
    """
    train_features: np.ndarray
    train_semantics: Tuple[np.ndarray, ...]
    train_labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    test_class_ids: np.ndarray
    test_semantics: Tuple[np.ndarray, ...]

    @property
    def test(self):
        """The unseen classes and their images as an EvalPart."""
        return EvalPart(self.test_features, self.test_labels, self.test_class_ids, self.test_semantics)

    @property
    def seen_class_ids(self):
        """(S,) int64: the different train_labels, ascending."""
        return np.unique(self.train_labels)

    @property
    def seen_prototypes(self):
        """Tuple of (S, A_i) float32: the semantics of each of seen_class_ids."""
        first = np.unique(self.train_labels, return_index=True)[1]
        return tuple(rows[first] for rows in self.train_semantics)


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
            return np.ascontiguousarray(matrix, np.float32)
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
        DemData.

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
    return DemData(train_features, tuple(train_semantics), _class_of_each_row(train_semantics),
                   test_features, labels, class_ids, tuple(test_semantics))


def _split(data, held_out, class_ids, prototypes):
    """Move the images where held_out (N,) bool is true from training to an EvalPart over the given classes."""
    part = EvalPart(data.train_features[held_out], data.train_labels[held_out], class_ids, prototypes)
    kept = ~held_out
    train = replace(data, train_features=data.train_features[kept], train_labels=data.train_labels[kept],
                    train_semantics=tuple(rows[kept] for rows in data.train_semantics))
    return train, part


def hold_out_images(data, fraction, seed):
    """Hold out images of the seen classes: validation on seen classes, chosen among all of them.

    Args:
        data (DemData): left unchanged.
        fraction (float): share of the images to hold out, between 0 and 1.
        seed (int): not negative; the same seed holds out the same images.

    Returns:
        (DemData without these training images, EvalPart of them; its labels are train_labels).

    Raises:
        InputError: the fraction leaves no image to train on or none to validate on.
    """
    count = len(data.train_labels)
    size = int(round(fraction * count))
    if not 0 < size < count:
        raise InputError(f'validation split: a share of {fraction} of {count} images leaves one of two parts empty')
    held_out = np.zeros(count, bool)
    held_out[np.random.default_rng(seed).permutation(count)[:size]] = True
    return _split(data, held_out, data.seen_class_ids, data.seen_prototypes)


def hold_out_classes(data, amount, seed):
    """Hold out all images of some seen classes: validation on classes that training never meets, like the test.

    Args:
        data (DemData): left unchanged.
        amount: an int is a number of classes, a float between 0 and 1 a share of the seen classes.
        seed (int): not negative; the same seed holds out the same classes.

    Returns:
        (DemData without these classes in training, EvalPart of them, chosen among the held-out classes alone; its
        labels and class_ids are values of train_labels).

    Raises:
        InputError: the amount leaves no class to train on or none to validate on.
    """
    classes = data.seen_class_ids
    size = amount if isinstance(amount, (int, np.integer)) else int(round(amount * len(classes)))
    if not 0 < size < len(classes):
        raise InputError(f'validation split: holding out {amount} of {len(classes)} classes leaves one of '
                         'two parts empty')
    chosen = np.sort(np.random.default_rng(seed).permutation(len(classes))[:size])
    prototypes = tuple(rows[chosen] for rows in data.seen_prototypes)
    return _split(data, np.isin(data.train_labels, classes[chosen]), classes[chosen], prototypes)


def _centred_features(train, rows):
    centred = rows - train.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def _centred_semantics(prototypes, rows):
    mean = prototypes.mean(axis=0)
    return (rows - mean) / np.sqrt(np.square(prototypes - mean).mean())


def _root_centred_semantics(prototypes, rows):
    return _centred_semantics(*(np.sign(x) * np.sqrt(np.abs(x)) for x in (prototypes, rows)))


# name -> (features of training images, rows) -> rows; name -> (semantics of seen classes, rows) -> rows.
FEATURE_SCALING = {'none': lambda train, rows: rows, 'centred': _centred_features}
SEMANTICS_SCALING = {'none': lambda prototypes, rows: rows, 'centred': _centred_semantics,
                     'root_centred': _root_centred_semantics}


def _scale_semantics(data, parts, name):
    pairs = zip(data.seen_prototypes, parts)
    return tuple(SEMANTICS_SCALING[name](prototypes, rows).astype(np.float32) for prototypes, rows in pairs)


def scale_part(data, part, features='none', semantics='none'):
    """Images to classify, and their classes, in the scale a recipe trains in.

    'centred' features: minus the mean of the training images, then unit length. 'centred' semantics: minus the mean
    over the seen classes, divided by the root mean square of all that is left of them; 'root_centred' takes signed
    square roots first. The statistics are those of the training data alone.

    Args:
        data (DemData): the training data as it was loaded, after any split.
        part (EvalPart): left unchanged.
        features, semantics (str): keys of FEATURE_SCALING and SEMANTICS_SCALING.

    Returns:
        EvalPart.
    """
    return replace(part, features=FEATURE_SCALING[features](data.train_features, part.features),
                   semantics=_scale_semantics(data, part.semantics, semantics))


def scale_train(data, features='none', semantics='none'):
    """The training part of DemData in the scale a recipe trains in, see scale_part; its test part stays as it is."""
    return replace(data, train_features=FEATURE_SCALING[features](data.train_features, data.train_features),
                   train_semantics=_scale_semantics(data, data.train_semantics, semantics))


def steps_per_epoch(count, batch_size, size=1):
    """Whole batches in an epoch of `count` images for each of `size` devices; the last short one is dropped.

    Raises:
        InputError: batch_size is not positive, or not even one batch for every device is there.
    """
    steps = count // (batch_size * size) if batch_size > 0 else 0
    if not steps:
        raise InputError(f'--batch_size={batch_size} for each of {size} device(s): choose between 1 and '
                         f'{count // size}, there are {count} training images')
    return steps


class _Batches:
    """Whole batches by index, so that the pipeline calls Python once a step and not once an image."""

    def __init__(self, columns, rows):
        self.columns = columns
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, step):
        rows = self.rows[step]
        return tuple(column[rows] for column in self.columns)


def _shuffled_rows(count, batch_size, seed, epoch, rank, size, skip):
    """The images of each batch of one device: int (steps left, batch_size); see create_train_dataset."""
    steps = steps_per_epoch(count, batch_size, size)
    if not 0 <= rank < size or not 0 <= skip < steps:
        raise ValueError(f'rank {rank} of {size} devices, skip {skip} of {steps} steps')
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return order[:steps * size * batch_size].reshape(steps, size, batch_size)[skip:, rank]


class _PrototypeBatches:
    """Batches of images beside the semantics of all seen classes, whose dropout is drawn from (seed, epoch, step)."""

    def __init__(self, semantics, hidden_dim, dropout, images, rows, seed, first):
        self.semantics = semantics
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.images = images
        self.rows = rows
        self.seed = seed
        self.first = first

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, step):
        images = tuple(column[self.rows[step]] for column in self.images)
        if self.dropout is None:
            return (*self.semantics, *images)
        rng = np.random.default_rng((*self.seed, self.first + step))

        def keep(shape, share):
            return (rng.random(shape, np.float32) >= share).astype(np.float32) / np.float32(1 - share)

        semantics = (rows * keep(rows.shape, self.dropout[0]) for rows in self.semantics)
        return (*semantics, keep((len(self.semantics[0]), self.hidden_dim), self.dropout[1]), *images)


def create_prototype_dataset(data, batch_size, seed, epoch, rank=0, size=1, skip=0, dropout=None, hidden_dim=0):
    """One shuffled epoch of images, each batch beside all seen classes: what prototype_softmax is trained on.

    Args:
        data (DemData): the training part.
        batch_size, seed, epoch, rank, size, skip: as for create_train_dataset.
        dropout (two floats or None): share of the semantics and of the hidden units that is dropped; the rest is
            scaled up.
        hidden_dim (int): width of the hidden layer that is dropped out.

    Returns:
        mindspore GeneratorDataset with the columns semantics_0 (S, A_0) ... , with dropout keep (S, hidden_dim), and
        feature (batch_size, V), all float32, and label (batch_size,) int32 in 0..S-1.

    Raises:
        InputError: batch_size is larger than the data (see steps_per_epoch).
    """
    rows = _shuffled_rows(len(data.train_features), batch_size, seed, epoch, rank, size, skip)
    labels = np.searchsorted(data.seen_class_ids, data.train_labels).astype(np.int32)
    semantics = data.seen_prototypes
    source = _PrototypeBatches(semantics, hidden_dim, dropout, (data.train_features, labels), rows, (seed, epoch, rank),
                               skip)
    names = [f'semantics_{i}' for i in range(len(semantics))] + ['keep'] * (dropout is not None) + ['feature', 'label']
    return ds.GeneratorDataset(source, names, shuffle=False, num_parallel_workers=1, python_multiprocessing=False)


def create_train_dataset(features, semantics, batch_size, seed, epoch, rank=0, size=1, skip=0):
    """One shuffled epoch of training batches for one device.

    All devices draw the same permutation of the images from (seed, epoch); step s of device r takes the r-th
    batch of the s-th group of size * batch_size images. So no image comes twice in an epoch, all devices do the
    same number of steps, and any epoch can be repeated or entered half-way.

    Args:
        features: (N, V) float32.
        semantics: tuple of (N, A_i) float32.
        batch_size (int): images a step on one device.
        seed, epoch (int): not negative.
        rank, size (int): this device and the number of devices.
        skip (int): steps of this epoch already done.

    Returns:
        mindspore GeneratorDataset with the columns semantics_0 ... and feature, each already a batch
        (batch_size, A_i) or (batch_size, V); get_dataset_size() is the number of steps left.

    Raises:
        InputError: batch_size is larger than the data (see steps_per_epoch).
        ValueError: rank or skip out of range.
    """
    rows = _shuffled_rows(len(features), batch_size, seed, epoch, rank, size, skip)
    names = [f'semantics_{i}' for i in range(len(semantics))] + ['feature']
    return ds.GeneratorDataset(_Batches((*semantics, features), rows), names, shuffle=False, num_parallel_workers=1,
                               python_multiprocessing=False)

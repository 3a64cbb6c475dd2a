"""Benchmark of generalised zero-shot learning ("the good, the bad and the ugly", Xian et al., arXiv 1707.00600).

A folder xlsa17/data/DATASET holds two files. res101.mat: features (V, N), one column per image; labels (N, 1) from 1.
With src.datasets.own_classes it also has image_model, the identity of the embeddings.
att_splits.mat: att (A, C), one column per class; allclasses_names (C, 1); image numbers from 1, often uint8 or uint16, in
trainval_loc, test_seen_loc, test_unseen_loc, train_loc and val_loc.
"""
import contextlib
import itertools
import os
from dataclasses import dataclass
from typing import List, Optional

import h5py
import numpy as np
from numpy.typing import NDArray

from src.common.arrays import Array
from src.common.errors import InputError
from src.datasets.mat_file import File, NoVariable, as_float32, read_integers, read_mat, read_names
from src.datasets.splits import held_out, held_out_of_each_class
from src.datasets.tables import as_name
from src.datasets.zero_shot_data import EvalPart, GeneralisedData, describe_equal_classes

# Published counts: classes, unseen classes, attributes, images, trainval, test_seen, test_unseen.
PUBLISHED = {
    'AWA1': (50, 10, 85, 30475, 19832, 4958, 5685),
    'AWA2': (50, 10, 85, 37322, 23527, 5882, 7913),
    'CUB': (200, 50, 312, 11788, 7057, 1764, 2967),
    'SUN': (717, 72, 102, 14340, 10320, 2580, 1440),
    'APY': (32, 12, 64, 15339, 5932, 1483, 7924),
    'FLO': (102, 20, 1024, 8189, 5631, 1403, 1155),
}
# For choosing hyper-parameters: share of the images of a seen class in the seen test, and share of the classes that
# serve as unseen classes if the data names none.
SEEN_SHARE, CLASS_SHARE = 0.2, 1 / 3
IMAGE_MODEL = 'image_model'


@dataclass(frozen=True)
class Benchmark:
    """Images of seen and unseen classes and their splits.

    features: (N, V) float32. labels: (N,) int64, rows of semantics (C, A) float32 and of names. trainval, test_seen,
    test_unseen: image numbers, int64. val_classes: seen classes that serve as unseen classes when hyper-parameters are
    chosen; None to draw them. name: of the folder. unseen_classes: unseen classes, some perhaps without
    images; None for those of test_unseen. image_model: identity of the features if they are embeddings of this project.
    """
    features: Array
    labels: NDArray[np.int64]
    semantics: Array
    names: List[str]
    trainval: NDArray[np.int64]
    test_seen: NDArray[np.int64]
    test_unseen: NDArray[np.int64]
    val_classes: Optional[NDArray[np.int64]] = None
    name: str = ''
    unseen_classes: Optional[NDArray[np.int64]] = None
    image_model: Optional[str] = None

    def final(self) -> GeneralisedData:
        """Training on trainval, test on test_seen and test_unseen."""
        return self._data(self.trainval, self.test_seen, self.test_unseen, self.unseen_classes)

    def choosing(self, seed: int) -> GeneralisedData:
        """Split of trainval on which hyper-parameters are chosen.

        The val classes serve as unseen classes, some images of the other classes as the seen test. Images of test_seen are
        left out, though some files list them in train_loc or val_loc.
        """
        labels = self.labels[self.trainval]
        if len(np.unique(labels)) < 3:
            raise InputError(f'{self.name}: trainval_loc has images of {len(np.unique(labels))} classes; to choose '
                             'hyper-parameters on classes not trained on, at least three are needed')
        if self.val_classes is None:
            unseen = held_out(labels, CLASS_SHARE, seed, 'classes')
        else:
            unseen = np.isin(labels, self.val_classes)
        rest = self.trainval[~unseen]
        # A class of one image is trained on.
        held = held_out_of_each_class(self.labels[rest], SEEN_SHARE, (seed, 1), least=1)
        if not held.any():
            raise InputError(f'{self.name}: no seen class has two images; to choose hyper-parameters, one must be held out')
        return self._data(rest[~held], rest[held], self.trainval[unseen])

    def _data(self, train: Array, seen: Array, unseen: Array, classes: Optional[Array] = None) -> GeneralisedData:
        def part(rows: Array, classes: NDArray[np.int64]) -> EvalPart:
            return EvalPart(self.features[rows], self.labels[rows], classes, (self.semantics[classes],))
        train_classes, unseen_classes = np.unique(self.labels[train]), np.unique(self.labels[unseen])
        if classes is not None:
            unseen_classes = np.union1d(unseen_classes, classes)
        return GeneralisedData(self.features[train], (self.semantics[self.labels[train]],), self.labels[train],
                               part(unseen, unseen_classes), part(seen, train_classes), self.names)

    def check(self, path: str) -> None:
        """Raise InputError, naming the file of the splits, if parts share images or classes that they must not share, an
        image or a name comes twice, or nothing tells classes or images apart."""
        repeated = [name for i, name in enumerate(self.names) if not name or not name.isprintable() or name in self.names[:i]]
        if repeated:
            raise InputError(f'{path}: allclasses_names: {repeated[0]!r} is empty, not printable or comes twice; give each '
                             'class its own name')
        parts = {'trainval_loc': self.trainval, 'test_seen_loc': self.test_seen, 'test_unseen_loc': self.test_unseen}
        for name, rows in parts.items():
            first = np.unique(rows, return_index=True)[1]
            if len(first) < len(rows):
                raise InputError(f'{path}: image {np.delete(rows, first)[0] + 1} comes twice in {name}')
        for one, other in itertools.combinations(parts, 2):
            both = np.intersect1d(parts[one], parts[other])
            if len(both):
                raise InputError(f'{path}: image {both[0] + 1} is in {one} and in {other}')
        seen, unseen = (np.unique(self.labels[rows]) for rows in (self.trainval, self.test_unseen))
        mixed = np.intersect1d(seen, unseen)
        if len(mixed):
            raise InputError(f'{path}: class {self.names[mixed[0]]} is in trainval_loc and in test_unseen_loc')
        untrained = np.setdiff1d(self.labels[self.test_seen], seen)
        if len(untrained):
            raise InputError(f'{path}: class {self.names[untrained[0]]} is in test_seen_loc and not in trainval_loc')

    def statistics(self) -> str:
        """Counts of the loaded data, with the published counts if they differ, in one line."""
        unseen = np.unique(self.labels[self.test_unseen]) if self.unseen_classes is None else self.unseen_classes
        counts = (len(self.semantics), len(unseen), self.semantics.shape[1],
                  len(self.labels), len(self.trainval), len(self.test_seen), len(self.test_unseen))
        words = ('classes', 'unseen', 'numbers a class', 'images', 'trainval', 'test_seen', 'test_unseen')
        published = PUBLISHED.get(self.name.upper())
        shown = ', '.join(f'{count} {word}' + (f' (published {published[i]})' if published and published[i] != count else '')
                          for i, (count, word) in enumerate(zip(counts, words)))
        verdict = '' if not published else ': as published' if counts == published else ': not as published'
        return f'{self.name}: {shown}; {self.features.shape[1]} features an image{verdict}' + describe_equal_classes(
            self.names, self.semantics)


def _rows(path: str, variable: str, things: str, count: int = 0) -> NDArray[np.float32]:
    """Read a matrix with one row for each of `count` things, stored as columns or rows; count 0: as stored columns."""
    stored = read_mat(path, variable)
    # Version 7.3 is read with its axes reversed: a square matrix has its rows where version 5 has columns.
    reversed_axes = h5py.is_hdf5(path)
    if stored.ndim == 2 and not count:
        count = stored.shape[0 if reversed_axes else 1]
    if stored.ndim != 2 or count not in stored.shape:
        raise InputError(f'{path}: {variable} is {stored.shape}, it must be a matrix'
                         + (f'; one of two sides must be {count}, the number of {things}' if count else ''))
    turn = stored.shape[0] != count or (stored.shape[1] == count and not reversed_axes)
    return as_float32(path, variable, stored.T if turn else stored)


def _positions(path: str, variable: str, count: int, things: str) -> NDArray[np.int64]:
    """Read positions among `count` things, from 1 in the file -> from 0, (n,) int64."""
    numbers = read_integers(path, variable)
    if numbers.min() < 1 or numbers.max() > count:
        raise InputError(f'{path}: {variable} must hold whole numbers from 1 to {count}, the number of {things}')
    return numbers - 1


def open_gbu(data_path: File, features: str = 'res101.mat', splits: str = 'att_splits.mat') -> Benchmark:
    """Read a folder of the benchmark; every width and count is read from the files, MATLAB version 5 or 7.3.

    Args:
        data_path: the folder that holds both files.
        features, splits: names of the files in the folder, or their paths.

    Raises:
        InputError: a missing or bad file, or files that contradict one another.
    """
    if not data_path:
        raise InputError('--data_path is missing: the folder that holds res101.mat and att_splits.mat')
    folder = str(data_path)
    image_path, split_path = (os.path.join(folder, name) for name in (features, splits))
    for path in (image_path, split_path):
        if not os.path.isfile(path):
            raise InputError(f'{path}: no such file; --data_path must be the folder that holds {os.path.basename(features)} '
                             f'and {os.path.basename(splits)}')
    names = [as_name(name) for name in read_names(split_path, 'allclasses_names') or ()]
    semantics = _rows(split_path, 'att', 'classes', len(names))
    classes = len(semantics)
    labels = _positions(image_path, 'labels', classes, 'classes')
    trainval, test_seen, test_unseen = (_positions(split_path, name, len(labels), 'images')
                                        for name in ('trainval_loc', 'test_seen_loc', 'test_unseen_loc'))
    val_classes = None
    with contextlib.suppress(NoVariable):
        train, val = (labels[_positions(split_path, name, len(labels), 'images')] for name in ('train_loc', 'val_loc'))
        val_classes, seen = np.setdiff1d(val, train), np.unique(labels[trainval])
        tested = np.setdiff1d(val_classes, seen)
        if len(tested):
            raise InputError(f'{split_path}: class {names[tested[0]] if names else tested[0] + 1} is in val_loc and not in '
                             'trainval_loc; hyper-parameters would be chosen on classes of the test')
        if not 0 < len(val_classes) < len(seen) - 1:
            val_classes = None
    unseen_classes = None
    with contextlib.suppress(NoVariable):  # written by src.datasets.own_classes alone
        unseen_classes = _positions(split_path, 'unseen_classes', classes, 'classes')
    image_model = ''.join(read_names(image_path, IMAGE_MODEL) or ()) or None
    bench = Benchmark(_rows(image_path, 'features', 'labels', len(labels)), labels, semantics,
                      names or [f'class {i + 1}' for i in range(classes)], trainval, test_seen, test_unseen, val_classes,
                      os.path.basename(os.path.abspath(folder)), unseen_classes, image_model)
    bench.check(split_path)
    return bench

"""The benchmark of generalised zero-shot learning ('the good, the bad and the ugly', Xian et al., arXiv 1707.00600).

A folder xlsa17/data/DATASET holds res101.mat: features (V, N), a column an image, labels (N, 1) from 1; and
att_splits.mat: att (A, C), a column a class, allclasses_names (C, 1), and positions of images from 1: trainval_loc,
test_seen_loc, test_unseen_loc, train_loc, val_loc. Index arrays are often uint8 or uint16.
"""
import contextlib
import os
from dataclasses import dataclass
from typing import List, Optional

import h5py
import numpy as np

from src.common.errors import InputError
from src.datasets.mat_file import NoVariable, read_mat, read_names
from src.datasets.splits import held_out
from src.datasets.zero_shot_data import EvalPart, ZeroShotData

# Published numbers: classes, of these unseen, attributes, images, trainval, test_seen, test_unseen.
PUBLISHED = {
    'AWA1': (50, 10, 85, 30475, 19832, 4958, 5685),
    'AWA2': (50, 10, 85, 37322, 23527, 5882, 7913),
    'CUB': (200, 50, 312, 11788, 7057, 1764, 2967),
    'SUN': (717, 72, 102, 14340, 10320, 2580, 1440),
    'APY': (32, 12, 64, 15339, 5932, 1483, 7924),
    'FLO': (102, 20, 1024, 8189, 5631, 1403, 1155),
}
# Share of the images of a class that plays the seen test when something is chosen, and of the classes that play the
# unseen ones where the data does not say which.
SEEN_SHARE, CLASS_SHARE = 0.2, 1 / 3


@dataclass(frozen=True)
class Benchmark:
    """Images of seen and unseen classes, and who plays what.

    features (N, V) float32; labels (N,) int64 rows of semantics (C, A) float32 and of names; trainval, test_seen,
    test_unseen: rows of images, int64; val_classes: seen classes that play the unseen ones when something is chosen, or
    None to draw them. name: of the folder.
    """
    features: np.ndarray
    labels: np.ndarray
    semantics: np.ndarray
    names: List[str]
    trainval: np.ndarray
    test_seen: np.ndarray
    test_unseen: np.ndarray
    val_classes: Optional[np.ndarray] = None
    name: str = ''

    def final(self) -> ZeroShotData:
        """Training on trainval, test on test_seen and test_unseen."""
        return self._data(self.trainval, self.test_seen, self.test_unseen)

    def choosing(self, seed: int) -> ZeroShotData:
        """The same from trainval alone, to choose anything on: val classes play the unseen ones, some images of the others
        the seen test. Images of test_seen that a file lists in train_loc or val_loc are left out."""
        labels = self.labels[self.trainval]
        if len(np.unique(labels)) < 2:
            raise InputError(f'{self.name}: trainval_loc has images of one class, so that nothing can be chosen on others')
        if self.val_classes is None:
            unseen = held_out(labels, CLASS_SHARE, seed, 'classes')
        else:
            unseen = np.isin(labels, self.val_classes)
        rest = self.trainval[~unseen]
        rng = np.random.default_rng((seed, 1))
        order = rng.permutation(len(rest))
        held = np.zeros(len(rest), bool)
        own = self.labels[rest]
        for one in np.unique(own):
            mine = order[own[order] == one]
            # A class of one image is trained on.
            held[mine[:min(max(1, round(len(mine) * SEEN_SHARE)), len(mine) - 1)]] = True
        if not held.any():
            raise InputError(f'{self.name}: no seen class has two images, so that nothing can be chosen on other images')
        return self._data(rest[~held], rest[held], self.trainval[unseen])

    def _data(self, train, seen, unseen) -> ZeroShotData:
        def part(rows, classes):
            return EvalPart(self.features[rows], self.labels[rows], classes, (self.semantics[classes],))
        train_classes, unseen_classes = np.unique(self.labels[train]), np.unique(self.labels[unseen])
        return ZeroShotData(self.features[train], (self.semantics[self.labels[train]],), self.labels[train],
                            part(unseen, unseen_classes), part(seen, train_classes), dict(enumerate(self.names)))

    def statistics(self) -> str:
        """The numbers of what was loaded beside the published ones, in one line."""
        counts = (len(self.semantics), len(np.unique(self.labels[self.test_unseen])), self.semantics.shape[1],
                  len(self.labels), len(self.trainval), len(self.test_seen), len(self.test_unseen))
        words = ('classes', 'unseen', 'numbers a class', 'images', 'trainval', 'test_seen', 'test_unseen')
        published = PUBLISHED.get(self.name.upper())
        shown = ', '.join(f'{count} {word}' + (f' (published {published[i]})' if published and published[i] != count else '')
                          for i, (count, word) in enumerate(zip(counts, words)))
        verdict = '' if not published else ': as published' if counts == published else ': not as published'
        return f'{self.name}: {shown}; {self.features.shape[1]} features an image{verdict}'


def _rows(path, variable, count, what):
    """A matrix with one row for each of `count` things, which the file holds as columns, or as rows -> float32."""
    stored = read_mat(path, variable)
    if stored.ndim != 2 or count not in stored.shape:
        raise InputError(f'{path}: {variable} is {stored.shape}, one of two sides must be {count}, the number of {what}')
    # Version 7.3 is read with its axes reversed: a square matrix has its rows where version 5 has columns.
    turn = stored.shape[0] != count or (stored.shape == (count, count) and not h5py.is_hdf5(path))
    with np.errstate(over='ignore'):
        rows = (stored.T if turn else stored).astype(np.float32, order='C')  # as in src.datasets.dem
    if not np.isfinite(rows).all():
        raise InputError(f'{path}: {variable} has values too large for float32')
    return rows


def _whole(path, variable, least, most, what):
    """Positions from 1 -> from 0, int64 (n,)."""
    stored = read_mat(path, variable).reshape(-1)
    numbers = stored.astype(np.int64)
    if (numbers != stored).any() or numbers.min() < least or numbers.max() > most:
        raise InputError(f'{path}: {variable} must hold whole numbers from {least} to {most}, {what}')
    return numbers - 1


def open_gbu(data_path, features: str = 'res101.mat', splits: str = 'att_splits.mat') -> Benchmark:
    """Read a folder of the benchmark; every width and count is read from the files, MATLAB version 5 or 7.3.

    Args:
        data_path: the folder that holds both files.
        features, splits: their names there, or paths.

    Raises:
        InputError: a missing or bad file, or files that contradict one another.
    """
    if not data_path:
        raise InputError('--data_path is missing: the folder that holds res101.mat and att_splits.mat')
    folder = str(data_path)
    paths = [os.path.join(folder, name) for name in (features, splits)]
    for path in paths:
        if not os.path.isfile(path):
            raise InputError(f'{path}: no such file; --data_path must be the folder that holds {os.path.basename(features)} '
                             f'and {os.path.basename(splits)}')
    image_path, split_path = paths
    count = read_mat(image_path, 'labels').size
    att = read_mat(split_path, 'att')
    if att.ndim != 2:
        raise InputError(f'{split_path}: att is {att.shape}, expected a matrix with one column a class')
    names = read_names(split_path, 'allclasses_names')
    classes = len(names) if names else att.shape[0 if h5py.is_hdf5(split_path) else 1]
    semantics = _rows(split_path, 'att', classes, 'classes')
    labels = _whole(image_path, 'labels', 1, classes, 'the classes')
    parts = {name: _whole(split_path, name, 1, count, 'the images')
             for name in ('trainval_loc', 'test_seen_loc', 'test_unseen_loc')}
    optional = {}
    for name in ('train_loc', 'val_loc'):
        with contextlib.suppress(NoVariable):
            optional[name] = _whole(split_path, name, 1, count, 'the images')
    val = None
    if len(optional) == 2:
        val = np.setdiff1d(labels[optional['val_loc']], labels[optional['train_loc']])
        val = val if 0 < len(val) < len(np.unique(labels[parts['trainval_loc']])) else None
    bench = Benchmark(_rows(image_path, 'features', count, 'labels'), labels, semantics,
                      names or [f'class {i + 1}' for i in range(classes)],
                      *parts.values(), val, os.path.basename(os.path.abspath(folder)))  # type: ignore[call-arg]
    check(bench, split_path)
    return bench


def check(bench: Benchmark, path: str) -> None:
    """Raise InputError where images or classes are in two parts that must not share them."""
    parts = {'trainval_loc': bench.trainval, 'test_seen_loc': bench.test_seen, 'test_unseen_loc': bench.test_unseen}
    for one, other in (('trainval_loc', 'test_seen_loc'), ('trainval_loc', 'test_unseen_loc'),
                       ('test_seen_loc', 'test_unseen_loc')):
        both = np.intersect1d(parts[one], parts[other])
        if len(both):
            raise InputError(f'{path}: image {both[0] + 1} is in {one} and in {other}')
    seen, unseen = (np.unique(bench.labels[rows]) for rows in (bench.trainval, bench.test_unseen))
    mixed = np.intersect1d(seen, unseen)
    if len(mixed):
        raise InputError(f'{path}: class {bench.names[mixed[0]]} is in trainval_loc and in test_unseen_loc')
    strange = np.setdiff1d(bench.labels[bench.test_seen], seen)
    if len(strange):
        raise InputError(f'{path}: class {bench.names[strange[0]]} is in test_seen_loc and not in trainval_loc')

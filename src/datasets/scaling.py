"""Scaling of features and class semantics, fitted to the training data alone."""
from dataclasses import replace
from typing import Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np

from src.common.arrays import Array, unit_rows
from src.datasets.zero_shot_data import Data, EvalPart, ZeroShotData

# Largest number of directions that 'principal' keeps, and of training images that they are computed from.
PRINCIPAL, PRINCIPAL_ROWS = 512, 8192


def _signed_root(rows: Array) -> Array:
    return np.sign(rows) * np.sqrt(np.abs(rows))


class Scale(NamedTuple):
    """Transformation of rows, in this order: signed square root, subtraction of a mean, projection, division.

    root: whether to take the signed square root. mean: (D,), or None for no subtraction. directions: (D, K) with
    orthonormal columns, or None for no projection. factor: the divisor, or None to scale each row to `length`.
    """
    root: bool = False
    mean: Optional[Array] = None
    directions: Optional[Array] = None
    factor: Optional[float] = 1.0
    length: float = 1.0

    @property
    def width(self) -> Optional[int]:
        """Values of a transformed row; None: as many as before."""
        last = self.mean if self.directions is None else self.directions
        return None if last is None else int(last.shape[-1])

    def fits(self) -> bool:
        """Whether mean and directions, read from a file, fit each other."""
        mean, directions = self.mean, self.directions
        return (mean is None or mean.ndim == 1) and (directions is None or directions.ndim == 2 and (
            mean is None or len(mean) == len(directions)))

    def __call__(self, rows: Array) -> Array:
        """Transform rows (N, D) float: (N, K or D) float32."""
        if self.root:
            rows = _signed_root(rows)
        if self.mean is not None:
            rows = rows - self.mean
        if self.directions is not None:
            rows = rows @ self.directions
        if self.factor is None:
            rows = unit_rows(rows)
            return (rows if self.length == 1 else rows * self.length).astype(np.float32)
        return (rows / self.factor).astype(np.float32) if self.factor != 1.0 else rows.astype(np.float32, copy=False)


def principal_directions(rows: Array, count: int) -> Array:
    """Directions of the largest variance of centred rows (N, D): (D, count) float32, the largest first.

    Subspace iteration from random directions (Halko, Martinsson, Tropp, arXiv 0909.4061, algorithm 4.4). It is inexact:
    where the variances fall slowly, the last directions mix with omitted ones. That does no harm here.
    """
    rng = np.random.default_rng(0)
    some = rows if len(rows) <= PRINCIPAL_ROWS else rows[rng.permutation(len(rows))[:PRINCIPAL_ROWS]]
    basis = rng.standard_normal((rows.shape[1], min(count + 32, rows.shape[1])), np.float32)
    for _ in range(3):
        basis = np.linalg.qr(some.T @ (some @ basis))[0]
    inside = some @ basis
    return np.ascontiguousarray(basis @ np.linalg.eigh(inside.T @ inside)[1][:, ::-1][:, :count], np.float32)


def _fit_centred(rows: Array, root: bool, principal: bool = False) -> Scale:
    rows = _signed_root(rows) if root else rows
    mean, count = rows.mean(axis=0), min(PRINCIPAL, len(rows) // 2)
    directions = principal_directions(rows - mean, count) if principal and count < rows.shape[1] else None
    return Scale(root, mean, directions, None)


def _fit_semantics(rows: Array, root: bool) -> Scale:
    rows = _signed_root(rows) if root else rows
    mean = rows.mean(axis=0)
    # A root mean square of 0, where all classes are equal, leaves them at zero.
    return Scale(root, mean, None, float(np.sqrt(np.square(rows - mean).mean())) or 1.0)


Fit = Callable[[Array], Scale]
# name -> function of the features of the training images
FEATURE_SCALING: Dict[str, Fit] = {
    'none': lambda rows: Scale(),
    'centred': lambda rows: _fit_centred(rows, False),
    'root_centred': lambda rows: _fit_centred(rows, True),
    'principal': lambda rows: _fit_centred(rows, False, True),
    'root_principal': lambda rows: _fit_centred(rows, True, True),
}
# name -> function of the semantics of the seen classes
SEMANTICS_SCALING: Dict[str, Fit] = {
    'none': lambda rows: Scale(),
    'unit': lambda rows: Scale(factor=None, length=float(np.sqrt(rows.shape[1]))),
    'centred': lambda rows: _fit_semantics(rows, False),
    'root_centred': lambda rows: _fit_semantics(rows, True),
}


class Scaling(NamedTuple):
    """The scale of the features and the scale of each kind of semantics."""
    features: Scale
    semantics: Tuple[Scale, ...]

    def part(self, part: EvalPart) -> EvalPart:
        """Scale images to classify and their classes."""
        return replace(part, features=self.features(part.features),
                       semantics=tuple(scale(rows) for scale, rows in zip(self.semantics, part.semantics)))

    def train(self, data: Data) -> Data:
        """Scale the training images and their semantics, not the test parts."""
        return replace(data, train_features=self.features(data.train_features),
                       train_semantics=tuple(scale(rows) for scale, rows in zip(self.semantics, data.train_semantics)))


def fit_scaling(data: ZeroShotData, features: str = 'none', semantics: str = 'none',
                fitted: Optional[Dict[str, Scale]] = None) -> Scaling:
    """Fit the scaling of a recipe to the training data.

    Features: 'centred' subtracts the mean of the training images and scales rows to unit length; 'principal' projects onto
    at most PRINCIPAL directions of the largest variance in between; 'root_...' takes signed square roots first.
    Semantics: 'centred' subtracts the mean over the seen classes and divides by the root mean square of all remaining
    values; 'root_centred' takes signed square roots first; 'unit' scales rows to length sqrt(A). 'none' changes nothing.

    Args:
        data: after any split.
        features, semantics: keys of FEATURE_SCALING and SEMANTICS_SCALING.
        fitted: scales of features already fitted to the same data, by name; a new one is added to it.
    """
    fitted = {} if fitted is None else fitted
    if features not in fitted:
        fitted[features] = FEATURE_SCALING[features](data.train_features)
    return Scaling(fitted[features], tuple(map(SEMANTICS_SCALING[semantics], data.seen_prototypes)))

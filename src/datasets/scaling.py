"""Features and class semantics in the scale a recipe trains in; the statistics are those of the training data alone."""
from dataclasses import replace
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np

from src.common.arrays import unit_rows
from src.common.errors import InputError
from src.datasets.zero_shot_data import EvalPart, ZeroShotData

# Directions that 'principal' keeps, at most, and training images they are computed from, at most.
PRINCIPAL, PRINCIPAL_ROWS = 512, 8192


def _signed_root(rows):
    return np.sign(rows) * np.sqrt(np.abs(rows))


class Scale(NamedTuple):
    """One kind of rows in another scale: optional signed square root, minus a mean, onto some directions, over a factor.

    root: whether the signed root is taken first. mean: (D,) or None for none. directions: (D, K) with orthonormal columns
    or None for all. factor: a number to divide by, or None: rows get
    the given length.
    """
    root: bool = False
    mean: Optional[np.ndarray] = None
    directions: Optional[np.ndarray] = None
    factor: Optional[float] = 1.0
    length: float = 1.0

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, D) float in this scale: (N, K or D) float32."""
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


def principal_directions(rows: np.ndarray, count: int) -> np.ndarray:
    """The directions of the largest variance of centred rows (N, D): (D, count) float32, the largest first.

    By subspace iteration from random directions (Halko, Martinsson, Tropp, arXiv 0909.4061, algorithm 4.4): where the
    variances fall slowly the last directions are mixed with those left out, which does not matter here.
    """
    rng = np.random.default_rng(0)
    some = rows if len(rows) <= PRINCIPAL_ROWS else rows[rng.permutation(len(rows))[:PRINCIPAL_ROWS]]
    basis = rng.standard_normal((rows.shape[1], min(count + 32, rows.shape[1])), np.float32)
    for _ in range(3):
        basis = np.linalg.qr(some.T @ (some @ basis))[0]
    inside = some @ basis
    return np.ascontiguousarray(basis @ np.linalg.eigh(inside.T @ inside)[1][:, ::-1][:, :count], np.float32)


def _fit_centred(rows, root, principal=False):
    mean = (_signed_root(rows) if root else rows).mean(axis=0)
    count = min(PRINCIPAL, len(rows) // 2)
    directions = None
    if principal and count < rows.shape[1]:
        directions = principal_directions((_signed_root(rows) if root else rows) - mean, count)
    return Scale(root, mean, directions, None)


def _fit_semantics(rows, root):
    rows = _signed_root(rows) if root else rows
    mean = rows.mean(axis=0)
    # Classes that are all alike are left at zero.
    return Scale(root, mean, None, float(np.sqrt(np.square(rows - mean).mean())) or 1.0)


# name -> (features of training images) -> Scale; name -> (semantics of the seen classes) -> Scale.
FEATURE_SCALING = {
    'none': lambda rows: Scale(),
    'centred': lambda rows: _fit_centred(rows, False),
    'root_centred': lambda rows: _fit_centred(rows, True),
    'principal': lambda rows: _fit_centred(rows, False, True),
    'root_principal': lambda rows: _fit_centred(rows, True, True),
}
SEMANTICS_SCALING = {
    'none': lambda rows: Scale(),
    'unit': lambda rows: Scale(factor=None, length=float(np.sqrt(rows.shape[1]))),
    'centred': lambda rows: _fit_semantics(rows, False),
    'root_centred': lambda rows: _fit_semantics(rows, True),
}


class Scaling(NamedTuple):
    """The scale of the features and that of each kind of semantics."""
    features: Scale
    semantics: Tuple[Scale, ...]

    def part(self, part: EvalPart) -> EvalPart:
        """Images to classify, and their classes, in this scale."""
        return replace(part, features=self.features(part.features),
                       semantics=tuple(scale(rows) for scale, rows in zip(self.semantics, part.semantics)))

    def train(self, data: ZeroShotData) -> ZeroShotData:
        """The training images and their semantics in this scale; the test parts stay as they are."""
        return replace(data, train_features=self.features(data.train_features),
                       train_semantics=tuple(scale(rows) for scale, rows in zip(self.semantics, data.train_semantics)))


def fit_scaling(data: ZeroShotData, features: str = 'none', semantics: str = 'none',
                fitted: Optional[Dict[str, Scale]] = None) -> Scaling:
    """The scaling of a recipe with the statistics of the training data.

    Features: 'centred', minus the mean of the training images, then unit length; 'principal', between the two, projected
    on at most PRINCIPAL directions of the largest variance; 'root_...' takes signed square roots first. Semantics:
    'centred', minus the mean over the seen classes, divided by the root mean square of all that is left of them;
    'root_centred' takes signed square roots first; 'unit', length sqrt(A). 'none' changes nothing.

    Args:
        data: after any split.
        features, semantics: keys of FEATURE_SCALING and SEMANTICS_SCALING.
        fitted: scales of features that were fitted to the same data before; what is not there is added.

    Raises:
        InputError: no scaling of that name.
    """
    fitted = {} if fitted is None else fitted
    if features not in fitted:
        fitted[features] = _of(FEATURE_SCALING, features, 'feature_scaling')(data.train_features)
    return Scaling(fitted[features],
                   tuple(_of(SEMANTICS_SCALING, semantics, 'semantics_scaling')(rows) for rows in data.seen_prototypes))


def _of(table: Dict, name: str, entry: str):
    if name not in table:
        raise InputError(f'--set {entry}={name}: choose one of {", ".join(table)}')
    return table[name]

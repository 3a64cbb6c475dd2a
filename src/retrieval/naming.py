"""Classes with names and prototypes in one file, and the names of pictures or embeddings by it, unseen classes included.

`classes.npz` lies beside the checkpoint of a semantic network and `X.mindir.classes.npz` beside the exported one: what
the network made of the classes it was evaluated with, and the scale of features and semantics.
"""
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from src.common.arrays import unit_rows
from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import read_record
from src.datasets.own_classes import read_classes
from src.datasets.scaling import Scale

CLASSES = 'classes.npz'


@dataclass(frozen=True)
class Space:
    """Where features and prototypes are compared: scale, then, where there is a whitening, both versions beside each other.

    features: their Scale. whitening (V, V) or None; share of the whitened part, see src.networks.ensemble. metric:
    'cosine' or 'euclidean'.
    """
    features: Scale
    whitening: Optional[np.ndarray] = None
    share: float = 0.0
    metric: str = 'cosine'

    def near(self, scaled: NDArray[Any]) -> NDArray[Any]:
        """Scaled features (M, V) -> (M, V or 2 V), what prototypes are compared with."""
        return scaled if self.whitening is None else self.mixed(unit_rows(scaled), unit_rows(scaled @ self.whitening))

    def mixed(self, of_networks: NDArray[Any], of_regression: NDArray[Any]) -> NDArray[Any]:
        """Rows at unit length, (M, V) each, side by side: cosines of (M, 2 V) are 1 - share of one part's, share of the
        other's."""
        return np.concatenate([(1 - self.share) ** 0.5 * of_networks, self.share ** 0.5 * of_regression], 1)

    def scores(self, near: NDArray[Any], prototypes: NDArray[Any]) -> NDArray[np.float64]:
        """Cosine, or minus the squared distance, of (M, P) and (C, P): (M, C) float64."""
        near, prototypes = near.astype(np.float64), prototypes.astype(np.float64)
        if self.metric == 'cosine':
            return unit_rows(near) @ unit_rows(prototypes).T
        return 2 * near @ prototypes.T - (near ** 2).sum(1)[:, None] - (prototypes ** 2).sum(1)


@dataclass(frozen=True)
class ScaleCard:
    """What a file of classes says of a Scale beside its arrays."""
    root: bool
    factor: Optional[float]
    length: float


@dataclass(frozen=True)
class ClassesCard:
    """What a file of classes says beside its arrays, see NamedClasses.

    Raises:
        ValueError: an unknown metric, a share outside 0..1, a gamma that is no number, or a name that comes twice.
    """
    names: List[str]
    gamma: float
    model: str
    metric: str
    share: float
    features: ScaleCard
    semantics: ScaleCard

    def __post_init__(self) -> None:
        if self.metric not in ('cosine', 'euclidean') or not 0 <= self.share <= 1 or not np.isfinite(self.gamma):
            raise ValueError('metric, share or gamma are out of range')
        if len(set(self.names)) < len(self.names):
            raise ValueError('a name comes twice')


@dataclass(frozen=True)
class NamedClasses:
    """Classes an image may be of.

    names (C); unseen (C,) bool: no image of it was trained on; prototypes (C, P) float32, the network's; space; gamma:
    what is taken off the score of every seen class; semantics: Scale of the numbers of a class; model: identity of the
    network.
    """
    names: List[str]
    unseen: np.ndarray
    prototypes: np.ndarray
    space: Space
    gamma: float
    semantics: Scale
    model: str

    def save(self, path: Union[str, Path]) -> None:
        """Write everything to one .npz. Raises InputError when it cannot be written."""
        arrays = dict(prototypes=self.prototypes, unseen=self.unseen)
        if self.space.whitening is not None:
            arrays['whitening'] = self.space.whitening
        scales = (self.space.features, self.semantics)
        card = ClassesCard(self.names, self.gamma, self.model, self.space.metric, self.space.share,
                           *(ScaleCard(scale.root, scale.factor, scale.length) for scale in scales))
        for kind, scale in zip(('features', 'semantics'), scales):
            for name in ('mean', 'directions'):
                if getattr(scale, name) is not None:
                    arrays[f'{kind}_{name}'] = getattr(scale, name)
        with replacing(path) as part:
            np.savez(part, facts=np.array(json.dumps(asdict(card))), **arrays)

    @classmethod
    def load(cls, path: Union[str, Path]) -> 'NamedClasses':
        """Raises InputError: no such file, or another one."""
        if not Path(path).is_file():
            raise InputError(f'{path}: no such file; eval.py writes it beside the checkpoint, export.py beside the model')
        try:
            with np.load(path) as file:
                arrays = dict(file)
            card = read_record(ClassesCard, json.loads(str(arrays['facts'])), str(path))
        except (OSError, EOFError, ValueError, KeyError, RecursionError, RuntimeError, NotImplementedError, zlib.error,
                zipfile.BadZipFile) as error:
            why = f': {error}' if isinstance(error, InputError) else ''
            raise InputError(f'{path}: damaged or no file of classes; run eval.py or export.py again{why}') from error

        def scale(kind: str, said: ScaleCard) -> Scale:
            return Scale(said.root, arrays.get(f'{kind}_mean'), arrays.get(f'{kind}_directions'), said.factor, said.length)
        space = Space(scale('features', card.features), arrays.get('whitening'), card.share, card.metric)
        classes = cls(card.names, arrays.get('unseen', np.empty(0)), arrays.get('prototypes', np.empty(0)), space, card.gamma,
                      scale('semantics', card.semantics), card.model)
        classes.check(str(path))
        return classes

    def check(self, path: str) -> None:
        """Raise InputError where arrays of the file `path` do not fit each other, or hold NaN or Inf."""
        count = len(self.names)
        arrays = [self.prototypes, *(array for array in (
            self.space.whitening, self.space.features.mean, self.space.features.directions, self.semantics.mean,
            self.semantics.directions) if array is not None)]
        finite = all(array.dtype.kind == 'f' and np.isfinite(array).all() for array in arrays)
        width = self.width
        fits = (self.unseen.shape == (count,) and self.unseen.dtype == bool and self.prototypes.ndim == 2
                and len(self.prototypes) == count)
        if fits and self.space.whitening is not None:
            fits = self.space.whitening.shape == (width, width) and self.prototypes.shape[1] == 2 * width
        if not (finite and fits):
            raise InputError(f'{path}: damaged: its arrays do not fit each other, or hold NaN; run eval.py or export.py again')

    @property
    def width(self) -> int:
        """Values of a scaled feature."""
        scale = self.space.features
        if scale.directions is not None:
            return int(scale.directions.shape[1])
        return int(self.prototypes.shape[1]) // (1 if self.space.whitening is None else 2)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Calibrated scores of features (M, V) as they come from the image network: float64 (M, C).

        Raises:
            InputError: features of another width than trained on.
        """
        scale, width = self.space.features, self.prototypes.shape[1]
        if scale.mean is not None:
            width = len(scale.mean)
        elif self.space.whitening is not None:
            width = len(self.space.whitening)
        if features.shape[1] != width:
            raise InputError(f'embeddings of {features.shape[1]} values, the classes were learnt on features of {width}; use '
                             'the image network that made those')
        return self.space.scores(self.space.near(scale(features)), self.prototypes) - self.gamma * ~self.unseen

    def added(self, path: str, run: Callable, width: int, batch: int) -> 'NamedClasses':
        """With the classes of a CSV (name, numbers) as unseen ones, without training.

        Args:
            path: the CSV.
            run: the semantic network, scaled semantics (batch, width) float32 -> prototypes. batch: 0 for any.

        Raises:
            InputError: a bad CSV, another number of numbers, a name that there is.
        """
        names, semantics = read_classes(path)
        twice = sorted(set(names) & set(self.names))
        if twice:
            raise InputError(f'{path}: class {twice[0]} is among the classes already; give it another name')
        if semantics.shape[1] != width:
            raise InputError(f'{path}: {semantics.shape[1]} numbers a class, the network takes {width}')
        scaled = self.semantics(semantics)
        batch = batch or len(scaled)
        filled = np.concatenate([scaled, np.zeros((-len(scaled) % batch, width), np.float32)])
        made = np.concatenate([run(filled[i:i + batch]) for i in range(0, len(filled), batch)])[:len(scaled)]
        return replace(self, names=[*self.names, *names], unseen=np.append(self.unseen, np.ones(len(names), bool)),
                       prototypes=np.concatenate([self.prototypes, made.astype(np.float32)]))


def best_classes(classes: NamedClasses, features: np.ndarray, count: int) -> List[List[Tuple[str, float, bool]]]:
    """For each row of features the `count` best classes: [(name, calibrated score, whether unseen)], the best first."""
    scores = classes.scores(features)
    order = np.argsort(-scores, axis=1, kind='stable')[:, :count]
    return [[(classes.names[c], float(row[c]), bool(classes.unseen[c])) for c in best] for row, best in zip(scores, order)]


def export_classes(checkpoint: str, model: str, exported: str) -> str:
    """Put the classes beside a checkpoint beside its exported network too; returns their path.

    Raises:
        InputError: there are none, or of another network than `model`.
    """
    source = Path(checkpoint).parent / CLASSES
    classes = NamedClasses.load(source)
    if classes.model != model:
        raise InputError(f'{source}: the classes of another checkpoint; run eval.py on {checkpoint}')
    classes.save(f'{exported}.{CLASSES}')
    print(f'{exported}.{CLASSES}: {len(classes.names)} classes, {classes.unseen.sum()} of them unseen, gamma '
          f'{classes.gamma:.6f}')
    return f'{exported}.{CLASSES}'

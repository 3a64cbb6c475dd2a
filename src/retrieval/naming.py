"""Naming images: a file of class names and prototypes, and scores of image features against it, unseen classes included.

`classes.npz` lies beside the checkpoint of a semantic network, `X.mindir.classes.npz` beside an exported one. It holds the
network's prototypes of the classes that it was evaluated with, and the scales of features and semantics.
"""
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Callable, List, Optional, Tuple, Union

import numpy as np

from src.common.arrays import Array, unit_rows
from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import read_record
from src.datasets.own_classes import read_classes
from src.datasets.scaling import Scale
from src.datasets.tables import UTF_8
from src.retrieval.gallery import ways

CLASSES = 'classes.npz'


@dataclass(frozen=True)
class Space:
    """The space in which features and prototypes are compared.

    features: Scale of image features. whitening: (V, V) or None; with it rows are concatenated with their whitened version.
    share: its weight, 0..1, see src.networks.ensemble. metric: 'cosine' or 'euclidean'.
    """
    features: Scale
    whitening: Optional[Array] = None
    share: float = 0.0
    metric: str = 'cosine'

    def near(self, scaled: Array) -> Array:
        """Scaled features (M, V) -> (M, V or 2 V), which are compared with prototypes."""
        return scaled if self.whitening is None else self.mixed(unit_rows(scaled), unit_rows(scaled @ self.whitening))

    def mixed(self, of_networks: Array, of_regression: Array) -> Array:
        """Concatenate unit rows, (M, V) each: the cosine of rows (M, 2 V) is (1 - share) times that of the networks' parts plus
        share times that of the regression's parts."""
        return np.concatenate([(1 - self.share) ** 0.5 * of_networks, self.share ** 0.5 * of_regression], 1)

    def scores(self, near: Array, prototypes: Array) -> Array:
        """Cosines or negative squared distances of (M, P) and (C, P): (M, C) float64."""
        near, prototypes = near.astype(np.float64), prototypes.astype(np.float64)
        if self.metric == 'cosine':
            return unit_rows(near) @ unit_rows(prototypes).T
        return 2 * near @ prototypes.T - (near ** 2).sum(1)[:, None] - (prototypes ** 2).sum(1)


@dataclass(frozen=True)
class ScaleCard:
    """The scalars of a Scale in a file of classes; its arrays are stored beside them."""
    root: bool
    factor: Optional[float]
    length: float


@dataclass(frozen=True)
class ClassesCard:
    """The JSON part of a file of classes; its entries are described at NamedClasses.

    Raises:
        ValueError: an unknown metric, a share outside 0..1, a gamma that is not finite, or a repeated name.
    """
    names: List[str]
    gamma: float
    model: str
    metric: str
    share: float
    features: ScaleCard
    semantics: ScaleCard
    image_model: Optional[str] = None

    def __post_init__(self) -> None:
        if self.metric not in ('cosine', 'euclidean') or not 0 <= self.share <= 1 or not np.isfinite(self.gamma):
            raise ValueError('metric, share or gamma are out of range')
        if len(set(self.names)) < len(self.names):
            raise ValueError('a name comes twice')


@dataclass(frozen=True)
class NamedClasses:
    """The classes that images are assigned to.

    names: C of them. unseen: (C,) bool, whether no image of the class was trained on. prototypes: (C, P) float32, made by the
    network of identity `model`. space: where they are compared with features. gamma: subtracted from the scores of seen
    classes. semantics: Scale of the numbers that describe a class. image_model: identity of the embeddings that the network was
    trained on (src.retrieval.embedding.embedding_identity), None if unknown.
    """
    names: List[str]
    unseen: Array
    prototypes: Array
    space: Space
    gamma: float
    semantics: Scale
    model: str
    image_model: Optional[str] = None

    def save(self, path: Union[str, Path]) -> None:
        """Write everything to one .npz. Raises InputError if it cannot be written."""
        arrays = dict(prototypes=self.prototypes, unseen=self.unseen)
        if self.space.whitening is not None:
            arrays['whitening'] = self.space.whitening
        scales = (self.space.features, self.semantics)
        features, semantics = (ScaleCard(scale.root, scale.factor, scale.length) for scale in scales)
        card = ClassesCard(self.names, self.gamma, self.model, self.space.metric, self.space.share, features, semantics,
                           self.image_model)
        for kind, scale in zip(('features', 'semantics'), scales):
            for name in ('mean', 'directions'):
                if getattr(scale, name) is not None:
                    arrays[f'{kind}_{name}'] = getattr(scale, name)
        with replacing(path) as part:
            np.savez(part, facts=np.array(json.dumps(asdict(card))), **arrays)

    @classmethod
    def load(cls, path: Union[str, Path]) -> 'NamedClasses':
        """Read a file of `save`. Raises InputError: no such file, damaged, or another kind of file."""
        if not Path(path).is_file():
            raise InputError(f'{path}: no such file; eval.py writes it beside the checkpoint, export.py beside the model')
        try:
            with np.load(path) as file:
                arrays = dict(file)
            card = read_record(ClassesCard, json.loads(str(arrays['facts'])), str(path))
        except Exception as error:  # of zipfile, its decompressors and numpy
            why = f': {error}' if isinstance(error, InputError) else ''
            raise InputError(f'{path}: damaged, or not a file of classes; run eval.py or export.py again{why}') from error

        def scale(kind: str, said: ScaleCard) -> Scale:
            return Scale(said.root, arrays.get(f'{kind}_mean'), arrays.get(f'{kind}_directions'), said.factor, said.length)
        space = Space(scale('features', card.features), arrays.get('whitening'), card.share, card.metric)
        classes = cls(card.names, arrays.get('unseen', np.empty(0)), arrays.get('prototypes', np.empty(0)), space, card.gamma,
                      scale('semantics', card.semantics), card.model, card.image_model)
        classes.check(str(path))
        return classes

    def check(self, path: str) -> None:
        """Raise InputError if the arrays, read from the file `path`, do not fit each other or hold NaN or Inf."""
        count = len(self.names)
        arrays = [self.prototypes, *(array for array in (
            self.space.whitening, self.space.features.mean, self.space.features.directions, self.semantics.mean,
            self.semantics.directions) if array is not None)]
        finite = all(array.dtype.kind == 'f' and np.isfinite(array).all() for array in arrays)
        fits = (self.unseen.shape == (count,) and self.unseen.dtype == bool and self.prototypes.ndim == 2
                and len(self.prototypes) == count
                and all(scale.fits() for scale in (self.space.features, self.semantics)))
        if fits:
            width = self.width
            fits = (self.prototypes.shape[1] == self._parts * width
                    and (self.space.whitening is None or self.space.whitening.shape == (width, width)))
        if not (finite and fits):
            raise InputError(f'{path}: damaged: its arrays do not fit each other, or hold NaN; run eval.py or export.py again')

    def check_model(self, model: Optional[str]) -> None:
        """Raise InputError if embeddings of identity `model` (None: unknown) are not those that the classes were learnt on."""
        if model and self.image_model and model != self.image_model:
            raise InputError('--classes: learnt on embeddings of another image network or other preprocessing than these '
                             f'images ({ways(self.image_model, model)}); embed them with the same network and flags')

    @property
    def width(self) -> int:
        """Number of values of a scaled feature."""
        return self.space.features.width or int(self.prototypes.shape[1]) // self._parts

    @property
    def _parts(self) -> int:
        """Number of parts of a prototype, each as wide as a scaled feature, see Space."""
        return 1 if self.space.whitening is None else 2

    def scores(self, features: Array) -> Array:
        """Calibrated scores (M, C) float64 of unscaled features (M, V) of the image network.

        Raises:
            InputError: features of another width than those of the training.
        """
        scale = self.space.features
        width = self.width if scale.mean is None else len(scale.mean)
        if features.shape[1] != width:
            raise InputError(f'--classes: embeddings of {features.shape[1]} values, the classes were learnt on features of '
                             f'{width}; use the image network that made those')
        return self.space.scores(self.space.near(scale(features)), self.prototypes) - self.gamma * ~self.unseen

    def added(self, path: str, run: Callable[[Array], Array], width: int, batch: int, encoding: str = UTF_8) -> 'NamedClasses':
        """These classes and those of a CSV (name, numbers), as unseen classes; nothing is trained.

        Args:
            path: the CSV. encoding: of the CSV.
            run: the semantic network, scaled semantics (batch, width) float32 -> prototypes.
            width: numbers per class that the network takes. batch: rows that it takes at once, 0 for any number.

        Raises:
            InputError: a bad CSV, another number of numbers per class, or a name that is taken.
        """
        names, semantics = read_classes(path, encoding)
        twice = sorted(set(names) & set(self.names))
        if twice:
            raise InputError(f'{path}: class {twice[0]} is among the classes already; give it another name')
        if semantics.shape[1] != width:
            raise InputError(f'{path}: {semantics.shape[1]} numbers per class, the network takes {width}')
        scaled = self.semantics(semantics)
        batch = batch or len(scaled)
        filled = np.concatenate([scaled, np.zeros((-len(scaled) % batch, width), np.float32)])
        made = np.concatenate([run(filled[i:i + batch]) for i in range(0, len(filled), batch)])[:len(scaled)]
        if not np.isfinite(made).all():
            raise InputError(f'{path}: holds numbers so large that the network gives infinite ones')
        return replace(self, names=[*self.names, *names], unseen=np.append(self.unseen, np.ones(len(names), bool)),
                       prototypes=np.concatenate([self.prototypes, made.astype(np.float32)]))


def best_classes(classes: NamedClasses, features: Array, count: int) -> List[List[Tuple[str, float, bool]]]:
    """The `count` best classes of each row of features, best first: [(name, calibrated score, whether unseen)]."""
    scores = classes.scores(features)
    order = np.argsort(-scores, axis=1, kind='stable')[:, :count]
    return [[(classes.names[c], float(row[c]), bool(classes.unseen[c])) for c in best] for row, best in zip(scores, order)]


def export_classes(checkpoint: str, model: str, exported: str) -> str:
    """Copy the file of classes from beside a checkpoint to beside its exported network; returns the copy's path.

    Args:
        checkpoint, exported: the two files of the network.
        model: identity of the network.

    Raises:
        InputError: there is no file of classes, or it is of another network.
    """
    source = Path(checkpoint).parent / CLASSES
    classes = NamedClasses.load(source)
    if classes.model != model:
        raise InputError(f'{source}: these are the classes of another checkpoint; run eval.py on {checkpoint}')
    classes.save(f'{exported}.{CLASSES}')
    print(f'{exported}.{CLASSES}: {len(classes.names)} classes, {classes.unseen.sum()} of them unseen, gamma '
          f'{classes.gamma:.6f}')
    return f'{exported}.{CLASSES}'

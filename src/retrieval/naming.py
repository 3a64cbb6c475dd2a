"""Classes with names and prototypes in one file, and the names of pictures or embeddings by it, unseen classes included.

`classes.npz` lies beside the checkpoint of a semantic network and `X.mindir.classes.npz` beside the exported one: what
the network made of the classes it was evaluated with, and the scale of features and semantics.
"""
import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, List, Optional, Tuple

import numpy as np

from src.common.arrays import unit_rows
from src.common.errors import InputError
from src.common.files import replacing
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

    def near(self, scaled):
        """Scaled features (M, V) -> (M, V or 2 V), what prototypes are compared with."""
        if self.whitening is None:
            return scaled
        of_networks, of_regression = unit_rows(scaled), unit_rows(scaled @ self.whitening)
        return np.concatenate([(1 - self.share) ** 0.5 * of_networks, self.share ** 0.5 * of_regression], 1)

    def scores(self, near, prototypes):
        """Cosine or minus the squared distance: float64 (M, C)."""
        near, prototypes = near.astype(np.float64), prototypes.astype(np.float64)
        if self.metric == 'cosine':
            return unit_rows(near) @ unit_rows(prototypes).T
        return 2 * near @ prototypes.T - (near ** 2).sum(1)[:, None] - (prototypes ** 2).sum(1)


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

    def save(self, path) -> None:
        """Write everything to one .npz. Raises InputError when it cannot be written."""
        facts = dict(names=self.names, gamma=self.gamma, model=self.model, metric=self.space.metric, share=self.space.share)
        arrays = dict(prototypes=self.prototypes, unseen=self.unseen)
        if self.space.whitening is not None:
            arrays['whitening'] = self.space.whitening
        for kind, scale in (('features', self.space.features), ('semantics', self.semantics)):
            facts[kind] = dict(root=scale.root, factor=scale.factor, length=scale.length)
            for name in ('mean', 'directions'):
                if getattr(scale, name) is not None:
                    arrays[f'{kind}_{name}'] = getattr(scale, name)
        with replacing(path) as part:
            np.savez(part, facts=np.array(json.dumps(facts)), **arrays)

    @classmethod
    def load(cls, path) -> 'NamedClasses':
        """Raises InputError: no such file, or another one."""
        if not Path(path).is_file():
            raise InputError(f'{path}: no such file; eval.py writes it beside the checkpoint, export.py beside the model')
        try:
            with np.load(path) as file:
                arrays = dict(file)
            facts = json.loads(str(arrays['facts']))

            def scale(kind):
                return Scale(mean=arrays.get(f'{kind}_mean'), directions=arrays.get(f'{kind}_directions'), **facts[kind])
            space = Space(scale('features'), arrays.get('whitening'), facts['share'], facts['metric'])
            return cls(facts['names'], arrays['unseen'], arrays['prototypes'], space, facts['gamma'], scale('semantics'),
                       facts['model'])
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f'{path}: damaged or no file of classes; run eval.py or export.py again') from error

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

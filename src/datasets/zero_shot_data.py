"""Zero-shot data: images of seen classes to train on, images of unseen classes to test on."""
import hashlib
from dataclasses import dataclass, replace
from typing import Dict, List, Sequence, Tuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from src.common.arrays import Array
from src.datasets.splits import held_out


@dataclass(frozen=True)
class EvalPart:
    """Images to classify and the classes to choose from.

    features: (M, V) float32. labels: (M,) int64. class_ids: (C,) int64. semantics: tuple of (C, A_i) float32; row c
    describes class_ids[c].
    """
    features: Array
    labels: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    semantics: Tuple[Array, ...]


@dataclass(frozen=True)
class ZeroShotData:
    """Seen classes to train on and unseen classes to test on.

    train_features: (N, V) float32. train_semantics: tuple of (N, A_i) float32, one for each network input: (attribute,),
    (word,) or (attribute, word). train_labels: (N,) int64, the seen class of each image. test: the unseen classes and
    their images. The ids in train_labels and in test are unrelated, except in GeneralisedData.
    """
    train_features: Array
    train_semantics: Tuple[Array, ...]
    train_labels: NDArray[np.int64]
    test: EvalPart

    @property
    def seen_class_ids(self) -> NDArray[np.int64]:
        """(S,) int64: the different train_labels, ascending."""
        return np.unique(self.train_labels)

    @property
    def seen_prototypes(self) -> Tuple[Array, ...]:
        """Tuple of (S, A_i) float32: the semantics of each of seen_class_ids."""
        first = np.unique(self.train_labels, return_index=True)[1]
        return tuple(rows[first] for rows in self.train_semantics)

    @property
    def contents(self) -> str:
        """Digest of the data to train on."""
        digest = hashlib.blake2b(digest_size=16)
        for rows in (self.train_features, *self.train_semantics, self.train_labels):
            digest.update(str(rows.shape).encode() + np.ascontiguousarray(rows).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class GeneralisedData(ZeroShotData):
    """Zero-shot data with a test of the seen classes; all class ids are of one numbering.

    seen_test: images of the seen classes that are not trained on. names: the name of class id i is names[i].
    """
    seen_test: EvalPart
    names: List[str]


Data = TypeVar('Data', bound=ZeroShotData)


def hold_out(data: Data, fraction: float, seed: int, by: str) -> Tuple[Data, EvalPart]:
    """Split off a part of the training images for validation.

    Args:
        data: not changed.
        fraction, seed: see src.datasets.splits.held_out.
        by: 'images' holds out some images, to be classified among all seen classes. 'classes' holds out all images of some
            seen classes, to be classified among these alone; like the test, on classes not seen in training.

    Returns:
        (the data without the held-out images, the held-out images; their labels and class_ids are values of train_labels).

    Raises:
        InputError: the fraction leaves no image or class to train on.
    """
    held = held_out(data.train_labels, fraction, seed, by)
    classes = data.seen_class_ids
    among = np.isin(classes, data.train_labels[held]) if by == 'classes' else np.ones(len(classes), bool)
    part = EvalPart(data.train_features[held], data.train_labels[held], classes[among],
                    tuple(rows[among] for rows in data.seen_prototypes))
    train = replace(data, train_features=data.train_features[~held], train_labels=data.train_labels[~held],
                    train_semantics=tuple(rows[~held] for rows in data.train_semantics))
    return train, part


def describe_equal_classes(names: Sequence[object], semantics: Array) -> str:
    """Words to append to a line about classes: which of them have equal rows of numbers (C, A); '' if none have."""
    sets: Dict[bytes, List[str]] = {}
    for name, row in zip(names, semantics):
        sets.setdefault(row.tobytes(), []).append(str(name))
    return ''.join(f'; classes {" and ".join(same)} have equal numbers and cannot be told apart'
                   for same in sets.values() if len(same) > 1)

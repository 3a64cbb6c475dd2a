"""Images of seen classes to train on, of unseen ones to test on, and parts of the first held out."""
from dataclasses import dataclass, replace
from typing import Dict, Optional, Tuple

import numpy as np

from src.datasets.splits import held_out


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
class ZeroShotData:
    """Seen classes to train on and unseen classes to test on.

    train_features (N, V) float32; train_semantics: tuple of (N, A_i) float32, one for each input of the network:
    (attribute,), (word,) or (attribute, word); train_labels (N,) int64: seen class of each image. test: the unseen
    classes and their images. seen_test, where the data has it: other images of seen classes; then train_labels and the
    ids of both parts are of one numbering, otherwise they have nothing to do with each other. names: of class ids, where
    they are known.
    """
    train_features: np.ndarray
    train_semantics: Tuple[np.ndarray, ...]
    train_labels: np.ndarray
    test: EvalPart
    seen_test: Optional[EvalPart] = None
    names: Optional[Dict[int, str]] = None

    @property
    def seen_class_ids(self) -> np.ndarray:
        """(S,) int64: the different train_labels, ascending."""
        return np.unique(self.train_labels)

    @property
    def seen_prototypes(self) -> Tuple[np.ndarray, ...]:
        """Tuple of (S, A_i) float32: the semantics of each of seen_class_ids."""
        first = np.unique(self.train_labels, return_index=True)[1]
        return tuple(rows[first] for rows in self.train_semantics)


def hold_out(data: ZeroShotData, fraction: float, seed: int, by: str) -> Tuple[ZeroShotData, EvalPart]:
    """Hold out a part of the training images for validation.

    Args:
        data: left unchanged.
        fraction, seed: see src.datasets.splits.held_out.
        by: 'images', some images of the seen classes, to be chosen among all of these; 'classes', all images of some
            seen classes, to be chosen among these alone: validation on classes that training never meets, like the test.

    Returns:
        (the data without these training images, the images; labels and class_ids are values of train_labels).

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

"""Random splits of the training data."""
from typing import Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.common.arrays import Array
from src.common.errors import InputError


def held_out(labels: ArrayLike, fraction: float, seed: int, by: str = 'classes') -> NDArray[np.bool_]:
    """Draw the images of a validation set.

    Args:
        labels: (N,) class ids, any integers.
        fraction: share of the classes or images, between 0 and 1; rounded, but at least one is drawn.
        seed: not negative; the same seed draws the same images.
        by: 'classes' draws some classes with all their images, 'images' draws images regardless of their class.

    Returns:
        (N,) bool, True for held-out images.

    Raises:
        InputError: the fraction is out of range or leaves nothing to train on.
    """
    labels = np.asarray(labels)
    things = np.unique(labels) if by == 'classes' else np.arange(len(labels))
    size = max(1, round(len(things) * fraction))
    if not 0 < fraction < 1 or size >= len(things):
        raise InputError(f'--validation_fraction={fraction}: does not split {len(things)} {by} into a training set and a '
                         'validation split with at least one each')
    chosen = np.random.default_rng(seed).permutation(len(things))[:size]
    return np.isin(labels if by == 'classes' else things, things[chosen])


def held_out_of_each_class(labels: Array, share: float, seed: Union[int, Tuple[int, ...]], least: int = 0) -> NDArray[np.bool_]:
    """Draw a share of the images of every class.

    Args:
        labels: (N,) class ids, any integers.
        share: share of the images of a class, between 0 and 1; rounded.
        seed: not negative; the same seed draws the same images.
        least: images to draw from each class at least. One image of each class always remains.

    Returns:
        (N,) bool, True for drawn images.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        images = order[labels[order] == label]
        held[images[:min(max(least, round(len(images) * share)), len(images) - 1)]] = True
    return held

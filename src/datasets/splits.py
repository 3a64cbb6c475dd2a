"""Holding out a part of the training data for validation."""
import numpy as np

from src.common.errors import InputError


def held_out(labels: np.ndarray, fraction: float, seed: int, by: str = 'classes') -> np.ndarray:
    """Which images are held out.

    Args:
        labels: (N,) class ids of any value.
        fraction: share of the classes or images, between 0 and 1; rounded, but at least one is held out.
        seed: not negative; the same seed holds out the same.
        by: 'classes', all images of some classes; 'images', some images whatever their class.

    Returns:
        bool (N,).

    Raises:
        InputError: the fraction is not between 0 and 1 or leaves nothing to train on.
    """
    labels = np.asarray(labels)
    things = np.unique(labels) if by == 'classes' else np.arange(len(labels))
    size = max(1, round(len(things) * fraction))
    if not 0 < fraction < 1 or size >= len(things):
        raise InputError(f'--validation_fraction={fraction}: a validation split of {len(things)} {by} must leave some '
                         'to train on and some to validate on')
    chosen = np.random.default_rng(seed).permutation(len(things))[:size]
    return np.isin(labels if by == 'classes' else things, things[chosen])

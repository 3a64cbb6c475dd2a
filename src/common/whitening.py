"""Whitening by the covariance within classes: directions in which classes vary count less when classes are compared."""
from typing import Optional, Tuple

import numpy as np

from src.common.arrays import Array


def class_means(features: Array, labels: Array, count: int) -> Tuple[Array, Array]:
    """Mean features (count, V) float64 and numbers of images (count,) of the classes 0..count-1, none of them empty."""
    sums = np.zeros((count, features.shape[1]))
    order = np.argsort(labels, kind='stable')
    numbers = np.bincount(labels, minlength=count)
    ends = np.cumsum(numbers)
    for one in range(count):
        sums[one] = features[order[ends[one] - numbers[one]:ends[one]]].sum(0, dtype=np.float64)
    return sums / numbers[:, None], numbers


def whitening(features: Array, labels: Array, shrinkage: Optional[float]) -> Array:
    """Matrix (V, V) float32: features times it vary equally in all directions around the means of their classes.

    Source: Hatch et al. (Interspeech 2006), for speakers.

    Args:
        features: (N, V) float32. If no class varies, the matrix is a multiple of the identity.
        labels: (N,) int, 0..C-1, each with a feature.
        shrinkage: this times the mean variance is added to the variance of every direction; None: no whitening.
    """
    width = features.shape[1]
    if shrinkage is None:
        return np.eye(width, dtype=np.float32)
    means = class_means(features, labels, int(labels.max()) + 1)[0].astype(np.float32)
    rest = features - means[labels]
    variances, directions = np.linalg.eigh((rest.T @ rest).astype(np.float64) / len(rest))
    variances = np.maximum(variances, 0)
    mean = variances.mean() or 1.0
    # Rotated back, so that equal variances give a multiple of the identity.
    return (directions * np.sqrt(mean / (variances + shrinkage * mean)) @ directions.T).astype(np.float32)

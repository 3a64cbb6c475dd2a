"""Kernel ridge regression from class semantics to the mean feature of each class, in closed form.

With the linear kernel this equals ridge regression of every image's feature on the semantics of its class: images of a
class share their semantics, so the regression depends on the class means, weighted by numbers of images, alone.
"""
import numpy as np

from src.common.arrays import Array
from src.common.whitening import class_means


def kernel(one: Array, other: Array, width: float) -> Array:
    """exp(-width |a - b|^2 / A) of rows (N, A) and (M, A), or a.b / A for width 0: (N, M) float64."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    product: Array = one @ other.T
    if width:
        squares = (one ** 2).sum(1)[:, None] + (other ** 2).sum(1) - 2 * product
        return np.exp(-width / one.shape[1] * np.maximum(squares, 0))
    return product / one.shape[1]


def fit_kernel_ridge(features: Array, labels: Array, semantics: Array, width: float, ridge: float) -> Array:
    """Weights (C, V) float64: kernel(s, semantics, width) @ weights is the prototype for semantics s.

    Args:
        features: (N, V).
        labels: (N,) int, rows of semantics; every class has an image.
        semantics: (C, A).
        width: of the kernel.
        ridge: above 0, weight of the squared norm, relative to a class with the mean number of images.
    """
    means, numbers = class_means(features, labels, len(semantics))
    return np.linalg.solve(kernel(semantics, semantics, width) + ridge * np.diag(numbers.mean() / numbers), means)

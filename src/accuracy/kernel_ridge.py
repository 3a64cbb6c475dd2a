"""Kernel ridge regression from class semantics to the mean feature of each class, in closed form.

With the linear kernel it is ridge regression of every image's feature on the semantics of its class: images of a class
share their semantics, so that the class's mean, weighted by its images, is all that the regression sees.
"""
import numpy as np

from src.common.whitening import class_means


def kernel(one, other, width):
    """exp(-width |a - b|^2 / A) of rows (N, A) and (M, A), or a.b / A for width 0: (N, M) float64."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    product = one @ other.T
    if width:
        squares = (one ** 2).sum(1)[:, None] + (other ** 2).sum(1) - 2 * product
        return np.exp(-width / one.shape[1] * np.maximum(squares, 0))
    return product / one.shape[1]


def fit_kernel_ridge(features, labels, semantics, width, ridge):
    """Weights (C, V) float64 with which kernel(s, semantics, width) @ weights is the prototype for semantics s.

    Args:
        features (N, V); labels (N,) int, rows of semantics, each with an image; semantics (C, A).
        width: of the kernel. ridge: weight of the squared norm, against a class of the mean number of images; above 0.
    """
    means, numbers = class_means(features, labels, len(semantics))
    return np.linalg.solve(kernel(semantics, semantics, width) + ridge * np.diag(numbers.mean() / numbers), means)

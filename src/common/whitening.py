"""Whitening by the covariance within classes: what differs within them counts less when classes are compared."""
import numpy as np


def class_means(features, labels, count):
    """Mean features (count, V) float64 and numbers of images (count,) of the classes 0..count-1, none of them empty."""
    sums = np.zeros((count, features.shape[1]))
    order = np.argsort(labels, kind='stable')
    numbers = np.bincount(labels, minlength=count)
    ends = np.cumsum(numbers)
    for one in range(count):
        sums[one] = features[order[ends[one] - numbers[one]:ends[one]]].sum(0, dtype=np.float64)
    return sums / numbers[:, None], numbers


def whitening(features, labels, shrinkage):
    """A matrix (V, V) float32: features times it vary equally in all directions around the mean of their class (Hatch et
    al., Interspeech 2006, there for speakers).

    features (N, V) float32; labels (N,) int, 0..C-1, each with a feature. Where classes do not vary it is a multiple of the
    identity.
    shrinkage: times the mean variance, added to the variances of all directions; None for no whitening.
    """
    width = features.shape[1]
    if shrinkage is None:
        return np.eye(width, dtype=np.float32)
    means = class_means(features, labels, int(labels.max()) + 1)[0].astype(np.float32)
    rest = features - means[labels]
    variances, directions = np.linalg.eigh((rest.T @ rest).astype(np.float64) / len(rest))
    variances = np.maximum(variances, 0)
    mean = variances.mean() or 1.0
    # A rotation back keeps what is no direction of its own, as the identity does.
    return (directions * np.sqrt(mean / (variances + shrinkage * mean)) @ directions.T).astype(np.float32)

"""Nearest-prototype classification and its accuracy."""
from typing import Tuple

import numpy as np
from numpy.typing import ArrayLike

from src.common.arrays import (
    METRICS,
    Array,
    Search,
    as_embeddings,
    as_labels,
    block_rows,
    check_k,
    check_widths,
    slices,
    stable_top_k,
)
from src.common.errors import InputError
from src.common.registry import check_choice


def knn_classify(queries: ArrayLike, prototypes: ArrayLike, labels: ArrayLike, metric: str = 'euclidean', k: int = 1) -> Array:
    """Label of each query by majority vote of its k nearest prototypes.

    Args:
        queries: (N, D), any float type; computed in float64.
        prototypes: (C, D).
        labels: (C,), any type; several prototypes may share a label.
        metric: 'euclidean', or 'cosine' (1 - cosine; a zero vector is at distance 1 from everything).
        k: neighbours that vote. Of labels with equal votes that of the nearer neighbour wins. Of equal distances the
            prototype with the lower index is nearer; equal prototypes are always at equal distances.

    Returns:
        (N,) predicted labels, of the type of `labels`.

    Raises:
        InputError: widths that differ, NaN or Inf, k outside 1..C, unknown metric.
    """
    check_choice(METRICS, metric, 'metric')
    of_queries = as_embeddings('queries', queries, dtype=None)
    gallery = as_embeddings('prototypes', prototypes, dtype=np.float64)
    check_widths('queries', of_queries, 'prototypes', gallery)
    values, codes = np.unique(as_labels('labels', labels, len(gallery)), return_inverse=True)
    k = check_k(k, len(gallery))
    search = Search(of_queries, gallery, metric, ('queries', 'prototypes'))
    predicted = np.empty(len(of_queries), dtype=codes.dtype)
    for rows in slices(len(of_queries), block_rows(max(gallery.shape), 8)):
        predicted[rows] = _vote(codes[stable_top_k(search.scores(rows), k)], len(values))
    return np.asarray(values[predicted])


def _vote(codes: Array, classes: int) -> Array:
    """(N,) most frequent code of each row of (N, k), nearest first; of equally frequent codes that of the nearer."""
    rows = np.arange(len(codes))[:, None]
    votes = np.bincount((rows * classes + codes).ravel(), minlength=len(codes) * classes).reshape(-1, classes)
    return np.take_along_axis(codes, votes[rows, codes].argmax(axis=1)[:, None], axis=1)[:, 0]


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Share of equal entries of two (N,) arrays, 0..1; InputError if the lengths differ or N is 0."""
    found, right = _paired(predicted, labels)
    if not len(right):
        raise InputError('predicted: expected a non-empty (N,) array, got shape (0,)')
    return float(np.mean(found == right))


def per_class_accuracy(predicted: ArrayLike, labels: ArrayLike, classes: ArrayLike) -> float:
    """Mean over `classes` of the accuracy of each class, 0..1; classes without samples are left out.

    Samples of a class that is not among `classes` do not count. InputError if no class has a sample.
    """
    found, right = _paired(predicted, labels)
    own = [float(np.mean(found[right == c] == c)) for c in np.unique(classes) if np.any(right == c)]
    if not own:
        raise InputError('labels: none of them belongs to one of the given classes')
    return float(np.mean(own))


def _paired(predicted: ArrayLike, labels: ArrayLike) -> Tuple[Array, Array]:
    found = np.asarray(predicted)
    right = as_labels('labels', labels, found.size)
    if found.shape != right.shape:
        raise InputError(f'predicted: expected a (N,) array, got shape {found.shape}')
    return found, right

"""Nearest-prototype classification and its accuracy."""
import numpy as np

from src.common.arrays import (
    Search,
    as_embeddings,
    as_labels,
    block_rows,
    check_k,
    check_metric,
    check_widths,
    slices,
    stable_top_k,
)
from src.common.errors import InputError


def knn_classify(queries, prototypes, labels, metric='euclidean', k=1):
    """Label of each query by majority vote of its k nearest prototypes.

    Args:
        queries: (N, D), any float type; computed in float64.
        prototypes: (C, D).
        labels: (C,), of any type; several prototypes may share one.
        metric: 'euclidean', or 'cosine' (1 - cosine; a zero vector is at distance 1 from everything).
        k: neighbours that vote. As many votes for two labels: the label of the nearer neighbour. Equal distances:
            the prototype of the lower index is the nearer; equal prototypes are always at equal distances.

    Returns:
        (N,) predicted labels, of the type of `labels`.

    Raises:
        InputError: widths that differ, NaN or Inf, k outside 1..C, unknown metric.
    """
    check_metric(metric)
    queries = as_embeddings('queries', queries, dtype=None)
    prototypes = as_embeddings('prototypes', prototypes, dtype=np.float64)
    check_widths('queries', queries, 'prototypes', prototypes)
    labels = as_labels('labels', labels, len(prototypes))
    k = check_k(k, len(prototypes))
    search = Search(queries, prototypes, metric, ('queries', 'prototypes'))
    values, codes = np.unique(labels, return_inverse=True)
    predicted = np.empty(len(queries), dtype=codes.dtype)
    for rows in slices(len(queries), block_rows(max(prototypes.shape), 8)):
        predicted[rows] = _vote(codes[stable_top_k(search.scores(rows), k)], len(values))
    return values[predicted]


def _vote(codes, classes):
    """(N,) most frequent code of each row of (N, k), nearest first; ties by the nearer."""
    rows = np.arange(len(codes))[:, None]
    votes = np.bincount((rows * classes + codes).ravel(), minlength=len(codes) * classes).reshape(-1, classes)
    return np.take_along_axis(codes, votes[rows, codes].argmax(axis=1)[:, None], axis=1)[:, 0]


def accuracy(predicted, labels):
    """Share of equal entries of two (N,) arrays, 0..1; InputError when the lengths differ or nothing is given."""
    predicted = np.asarray(predicted)
    labels = as_labels('labels', labels, predicted.size)
    if predicted.shape != labels.shape or not labels.size:
        raise InputError(f'predicted: expected a non-empty (N,) array, got shape {predicted.shape}')
    return float(np.mean(predicted == labels))


def per_class_accuracy(predicted, labels, classes):
    """Mean over `classes` of each class's own accuracy, 0..1; classes without samples are skipped.

    Samples of a class that is not among `classes` do not count. InputError when no class has a sample.
    """
    predicted = np.asarray(predicted)
    labels = as_labels('labels', labels, predicted.size)
    if predicted.shape != labels.shape:
        raise InputError(f'predicted: expected a (N,) array, got shape {predicted.shape}')
    own = [accuracy(predicted[labels == c], labels[labels == c]) for c in np.unique(classes) if np.any(labels == c)]
    if not own:
        raise InputError('labels: none of them belongs to one of the given classes')
    return float(np.mean(own))

"""Hubness: few prototypes are the nearest neighbours of most queries (Radovanovic et al., JMLR 2010)."""
from typing import Dict, Sequence, Union

import numpy as np

from src.common.arrays import METRICS, Array, Search, as_embeddings, block_rows, check_k, slices, stable_top_k
from src.common.registry import check_choice


def hubness(queries: Array, prototypes: Array, k: Union[int, Sequence[int]] = (1, 5, 10), metric: str = 'euclidean'
            ) -> Dict[int, float]:
    """Skewness over the prototypes of N_k, the number of queries that have a prototype among their k nearest.

    skewness = mean((N_k - mean)^3) / std^3, with the standard deviation of the population; 0 if all N_k are equal. A high
    skewness means hubs. It depends on the numbers of queries and prototypes: compare only results with equal numbers.

    Args:
        queries: (N, D), prototypes: (C, D), any float type; ties as in `knn_classify`.
        k: values of k to report; values from C on are skipped (N_C is equal for all prototypes), except 1.
        metric: 'euclidean' or 'cosine'.

    Returns:
        {k: float}.

    Raises:
        InputError: widths that differ, NaN or Inf, a k below 1, unknown metric.
    """
    check_choice(METRICS, metric, 'metric')
    search = Search(as_embeddings('queries', queries, dtype=None), as_embeddings('prototypes', prototypes, np.float64),
                    metric, ('queries', 'prototypes'))
    count = len(search.gallery)
    ks = [check_k(min(one, count), count) for one in np.atleast_1d(k).tolist() if one < count or one == 1]
    counts = np.zeros((len(ks), count))
    for rows in slices(len(search), block_rows(max(search.gallery.shape), 8)):
        nearest = stable_top_k(search.scores(rows), max(ks))
        counts += [np.bincount(nearest[:, :one].ravel(), minlength=count) for one in ks]
    return {one: _skewness(own) for one, own in zip(ks, counts)}


def _skewness(values: Array) -> float:
    deviations = values - values.mean()
    spread = values.std()
    return float(np.mean(deviations ** 3) / spread ** 3) if spread else 0.0

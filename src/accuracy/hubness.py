"""Hubness: a few prototypes are the nearest of most queries (Radovanovic et al., JMLR 2010)."""
import numpy as np

from src.common.arrays import Search, as_embeddings, block_rows, check_k, check_metric, slices, stable_top_k


def hubness(queries, prototypes, k=(1, 5, 10), metric='euclidean'):
    """Skewness of N_k, the number of queries that have a prototype among their k nearest, over the prototypes.

    skewness = mean((N_k - mean)^3) / std^3, with the standard deviation of the population; 0 where all N_k are equal.
    High: hubs. The size of the skewness depends on the numbers of queries and prototypes: compare like with like.

    Args:
        queries: (N, D), prototypes: (C, D), any float type; ties as in `knn_classify`.
        k: the k to report; those above C are left out, as N_C is the same for all.
        metric: 'euclidean' or 'cosine'.

    Returns:
        {k: float}.

    Raises:
        InputError: widths that differ, NaN or Inf, a k below 1, unknown metric.
    """
    check_metric(metric)
    search = Search(as_embeddings('queries', queries, dtype=None), as_embeddings('prototypes', prototypes, np.float64),
                    metric, ('queries', 'prototypes'))
    count = len(search.gallery)
    ks = [check_k(min(one, count), count) for one in np.atleast_1d(k).tolist() if one < count or one == 1]
    counts = np.zeros((len(ks), count))
    for rows in slices(len(search), block_rows(max(search.gallery.shape), 8)):
        nearest = stable_top_k(search.scores(rows), max(ks))
        counts += [np.bincount(nearest[:, :one].ravel(), minlength=count) for one in ks]
    return {one: _skewness(own) for one, own in zip(ks, counts)}


def _skewness(values):
    deviations = values - values.mean()
    spread = values.std()
    return float(np.mean(deviations ** 3) / spread ** 3) if spread else 0.0

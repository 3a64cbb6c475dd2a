"""MAP@R: mean average precision of the R nearest images."""
from typing import Dict

import numpy as np

from src.accuracy.retrieval import Retrieval


def map_at_r(retrieval: Retrieval) -> Dict[str, float]:
    """Mean over queries of 1/R sum over i <= R of the precision at i if the i-th nearest image is right, else 0.

    R is the number of other images of the query's class.

    Source: Musgrave et al., "A Metric Learning Reality Check" (ECCV 2020, arXiv 2003.08505), section 3.2. As in its code,
    queries with R = 0 are left out of the mean; Recall@K counts them as misses.

    Returns:
        {'MAP@R': 0..1}.

    Raises:
        InputError: as `Retrieval.first_r`.
    """
    values = []
    for counts, right in retrieval.first_r():
        precisions = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
        values.append((precisions * right).sum(axis=1) / counts)
    return {'MAP@R': float(np.mean(np.concatenate(values)))}

"""MAP@R: mean average precision of the R nearest images."""
from typing import Dict

import numpy as np

from src.accuracy.retrieval import Retrieval


def map_at_r(retrieval: Retrieval) -> Dict[str, float]:
    """{'MAP@R': 0..1}: mean over queries of 1/R sum over i <= R of the precision at i if the i-th image is right, else 0.

    Source, R, queries with R = 0 and errors: see `r_precision`.
    """
    values = []
    for counts, right in retrieval.first_r():
        precisions = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
        values.append((precisions * right).sum(axis=1) / counts)
    return {'MAP@R': float(np.mean(np.concatenate(values)))}

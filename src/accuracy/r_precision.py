"""R-precision: the fraction of right images among the R nearest."""
from typing import Dict

import numpy as np

from src.accuracy.retrieval import Retrieval


def r_precision(retrieval: Retrieval) -> Dict[str, float]:
    """{'R-precision': 0..1}: mean over queries of the share of right images among the R nearest.

    R is the number of other images of the query's class. As in the source's code, queries with R = 0 are left out of the
    mean (Recall@K counts them as misses); errors as in `Retrieval.first_r`.

    Source: Musgrave et al., "A Metric Learning Reality Check" (ECCV 2020, arXiv 2003.08505).
    """
    shares = [right.sum(axis=1) / counts for counts, right in retrieval.first_r()]
    return {'R-precision': float(np.mean(np.concatenate(shares)))}

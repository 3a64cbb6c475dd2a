"""Hubness against loops."""
import numpy as np
import pytest

from src.accuracy import hubness
from src.common.errors import InputError


@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
def test_equals_loops(metric):
    rng = np.random.default_rng(0)
    queries, prototypes = rng.standard_normal((60, 5)), rng.standard_normal((12, 5))
    found = hubness(queries, prototypes, (1, 5, 10, 12, 40), metric)
    assert list(found) == [1, 5, 10]
    for k, skewness in found.items():
        counts = [0] * 12
        for q in queries:
            def distance(j):
                p = prototypes[j]
                return np.linalg.norm(q - p) if metric == 'euclidean' else -q @ p / np.linalg.norm(p)
            for j in sorted(range(12), key=distance)[:k]:
                counts[j] += 1
        mean = sum(counts) / 12
        second, third = (sum((c - mean) ** power for c in counts) / 12 for power in (2, 3))
        assert skewness == pytest.approx(third / second ** 1.5)


def test_one_hub_and_none():
    # every query's nearest is the first of ten: N_1 = (n, 0, ..., 0), whose skewness is 8 / 3
    prototypes = np.eye(10)
    assert hubness(np.tile(prototypes[0], (7, 1)), prototypes, 1)[1] == pytest.approx(8 / 3)
    assert hubness(prototypes, prototypes, 1)[1] == 0
    assert hubness(prototypes, prototypes[:1]) == {1: 0.0}


@pytest.mark.parametrize('arguments, word', [(dict(metric='dot'), 'metric'), (dict(k=0), 'k: 0'),
                                             (dict(prototypes=np.ones((3, 3))), 'width'),
                                             (dict(queries=np.full((4, 2), np.nan)), 'queries')])
def test_bad_input(arguments, word):
    with pytest.raises(InputError, match=word):
        hubness(**{**dict(queries=np.ones((4, 2)), prototypes=np.ones((3, 2))), **arguments})

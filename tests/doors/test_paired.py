"""Paired differences against sums written out and scipy's own paired t-test; the picture of them."""
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.paired import comparison_picture, paired_difference
from src.pictures import RIGHT, WRONG
from tests.test_pictures import count


def naive(first, second, level):
    differences = [a - b for a, b in zip(first, second)]
    n = len(differences)
    mean = sum(differences) / n
    spread = math.sqrt(sum((one - mean) ** 2 for one in differences) / (n - 1))
    return mean, spread, stats.t.ppf((1 + level) / 2, n - 1) * spread / math.sqrt(n)


@pytest.mark.parametrize('n', [2, 3, 10])
@pytest.mark.parametrize('level', [0.9, 0.95])
def test_against_sums_and_the_paired_test_of_scipy(n, level):
    rng = np.random.default_rng(n)
    for shift in (0.0, 0.3, -3.0):
        first, second = rng.normal(shift, 1, n), rng.normal(0, 1, n)
        found = paired_difference(first, second, level)
        mean, spread, half = naive(first, second, level)
        assert found.mean == pytest.approx(mean) and found.smallest == pytest.approx(half)
        assert (found.low, found.high) == (pytest.approx(mean - half), pytest.approx(mean + half))
        assert found.established == (stats.ttest_rel(first, second).pvalue < 1 - level)
        wanted = next((m for m in range(2, 10001)
                       if stats.t.ppf((1 + level) / 2, m - 1) * spread / math.sqrt(m) < abs(mean)), None)
        assert found.seeds == wanted


def test_no_spread_no_difference_and_one_pair():
    assert paired_difference([2, 3, 4], [1, 2, 3]) == (1, 1, 1, 0, 2, True)
    assert paired_difference([1, 2], [1, 2]) == (0, 0, 0, 0, None, False)
    assert paired_difference([0.1, -0.1], [0, 0])[4:] == (None, False)
    assert paired_difference([3], [1]) == (2, -math.inf, math.inf, math.inf, None, False)
    # A difference far below its spread: no number of seeds that anybody trains.
    assert paired_difference([1e-9 + 1, -1], [0, 0]).seeds is None


@pytest.mark.parametrize('values, reference', [([], []), ([1, 2], [1]), ([[1.0]], [[2.0]])])
def test_bad_pairs_are_refused(values, reference):
    with pytest.raises(ValueError, match='one each for every seed'):
        paired_difference(values, reference)


def test_the_interval_holds_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = [abs(found.mean - 0.5) <= found.smallest
              for found in (paired_difference(rng.normal(0.5, 1, 3), np.zeros(3)) for _ in range(400))]
    assert 0.92 < np.mean(inside) < 0.98


@pytest.mark.filterwarnings('error')
def test_comparisons_are_drawn_with_gaps(tmp_path):
    values = {'first': {1: 50.0, 2: 51.0}, 'better': {1: 53.0}, 'worse': {1: 40.0, 2: 42.0}, 'not yet': {}}
    comparison_picture(values, {'better': (3.0, -np.inf, np.inf), 'worse': (-9.5, -15.0, -4.0)}, '%', tmp_path / 'a.png')
    assert count(tmp_path / 'a.png', WRONG) > 50 and count(tmp_path / 'a.png', RIGHT) == 0
    comparison_picture({'alone': {1: 3.0}}, {}, '%', tmp_path / 'b.svg')

"""Open-set thresholds: measures against loops, the bound over random splits of classes."""
import json

import numpy as np
import pytest

from src.accuracy import OpenSet
from src.accuracy import thresholds as thresholds_module
from src.common.errors import InputError


def clustered(seed, classes, sizes=(3, 9), groups=None, width=8):
    """Classes of unequal size and spread, in groups of similar ones: (embeddings, labels)."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((classes, width))
    if groups:
        centers = rng.standard_normal((groups, width))[rng.integers(0, groups, classes)] + 0.5 * centers
    labels = np.repeat(np.arange(classes), rng.integers(*sizes, classes))
    spread = 0.4 * rng.lognormal(0, 0.5, (classes, 1))
    return centers[labels] + spread[labels] * rng.standard_normal((len(labels), width)), labels


def naive(x, labels):
    """(same, different, mistaken_for) of every image, by loops."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    rows = []
    for i, row in enumerate((unit @ unit.T).tolist()):
        own = [row[j] for j in range(len(x)) if j != i and labels[j] == labels[i]]
        other = max((row[j], labels[j]) for j in range(len(x)) if labels[j] != labels[i])
        rows.append((max(own, default=-np.inf), *other))
    return [np.array(column) for column in zip(*rows)]


@pytest.mark.parametrize('small_blocks', [False, True])
def test_open_set_equals_loops(small_blocks, monkeypatch):
    if small_blocks:
        monkeypatch.setattr(thresholds_module, 'block_rows', lambda *_: 7)
    x, labels = clustered(0, 12, (1, 7))
    x, labels = x[::-1], labels[::-1] * 10
    found = OpenSet(x, labels)
    same, different, mistaken_for = naive(x, labels)
    np.testing.assert_allclose(found.same, same, atol=1e-6)
    np.testing.assert_allclose(found.different, different, atol=1e-6)
    assert found.mistaken_for.tolist() == mistaken_for.tolist() and found.classes == 12
    assert found.searched == round(np.mean([np.sum(labels != label) for label in labels]))


def test_rates_equal_loops():
    x, labels = clustered(1, 150)
    same, different, _ = naive(x, labels)
    threshold = OpenSet(x, labels).threshold(0.1)
    false = sum(s >= threshold.similarity for s in different)
    assert threshold.false_matches == false and threshold.measured == false / len(x)
    assert threshold.found == np.mean((same > different) & (same >= threshold.similarity))
    assert threshold.lost == np.mean((same > different) & (same < threshold.similarity))
    assert threshold.measured <= threshold.bound <= 0.1 + 1e-9
    assert (threshold.queries, threshold.classes) == (len(x), 150) and threshold.effective < len(x)
    assert json.loads(json.dumps(threshold._asdict()))['similarity'] == threshold.similarity

    measured = OpenSet(x, labels)
    same, different = measured.same, measured.different
    rate, similarity = measured.identification_rate(0.1)
    # no lower similarity would do: the highest below it is that of a further false match
    assert np.mean(different >= similarity) <= 0.1 < np.mean(different >= different[different < similarity].max())
    assert rate == np.mean((same > different) & (same >= similarity)) > threshold.found
    similarities, rates, found = measured.curve()
    for s, r, f in zip(similarities, rates, found):
        assert r == np.mean(different >= s) and f == np.mean((same > different) & (same >= s))
    assert np.all(np.diff(rates) > 0) and np.all(np.diff(found) >= 0) and rates[-1] == 1


def test_right_matches_of_the_same_camera_do_not_count():
    x, labels = clustered(6, 20, (1, 6))
    cameras = np.random.default_rng(7).integers(0, 2, len(x))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    measured = OpenSet(x, labels, cameras)
    for i, row in enumerate((unit @ unit.T).tolist()):
        own = [row[j] for j in range(len(x)) if labels[j] == labels[i] and cameras[j] != cameras[i]]
        assert measured.same[i] == pytest.approx(max(own, default=-np.inf), abs=1e-6)
    np.testing.assert_array_equal(measured.different, OpenSet(x, labels).different)
    same, different = measured.same, measured.different
    answerable = np.isfinite(same)
    right = (same > different)[answerable]
    for similarity in (-1, 0.3, 0.9, 1.1):
        reached = (same >= similarity)[answerable]
        assert measured.at(similarity) == (np.mean(different >= similarity), np.mean(right & reached),
                                           np.mean(right & ~reached))
    assert 0 < answerable.sum() < len(x)


def test_design_effect_is_that_of_all_pairs():
    x, labels = clustered(2, 20, groups=4)
    measured = OpenSet(x, labels)
    order = np.argsort(-measured.different, kind='stable')[:25]
    expected, most = [], 0
    for count in range(1, 26):
        dyads = [{measured.labels[i], measured.mistaken_for[i]} for i in order[:count]]
        most = max(most, sum(bool(one & other) for one in dyads for other in dyads) / count)
        expected.append(most)
    assert measured._design_effects(order).tolist() == pytest.approx(expected)


def test_bound_is_the_binomials(monkeypatch):
    from scipy.special import betainc
    from scipy.stats import binom
    for seen, k in ((0, 5), (3, 9), (12, 20)):
        assert betainc(k, seen + 1, 0.5) == pytest.approx(binom.cdf(seen, seen + k, 0.5))
        monkeypatch.setattr(thresholds_module, 'CONFIDENCE', 1 - binom.cdf(seen, seen + k, 0.5))
        assert thresholds_module._further(betainc, seen) == pytest.approx(k)


def test_independent_queries_take_433_for_one_in_a_hundred():
    # far apart, one image a class, all dyads apart: the effect is that of mutual nearest neighbours, at most 2
    x, labels = clustered(3, 1200, (1, 2), width=64)
    assert OpenSet(x, labels).threshold(0.01).effective >= 433
    with pytest.raises(InputError, match='takes about .* images') as caught:
        OpenSet(x[:200], labels[:200]).threshold(0.01)
    # The rate that the error proposes is the lowest possible one.
    lowest = float(str(caught.value).split()[-1])
    assert OpenSet(x[:200], labels[:200]).threshold(lowest).bound <= lowest
    with pytest.raises(InputError):
        OpenSet(x[:200], labels[:200]).threshold(lowest - 0.002)
    # of one image a class none can be found
    assert OpenSet(x, labels).threshold(0.01).found == 0


@pytest.mark.parametrize('rate, arguments', [
    (0.05, (400, (1, 4))), pytest.param(0.05, (320, (3, 9)), marks=pytest.mark.slow),
    pytest.param(0.1, (200, (3, 9), 50), marks=pytest.mark.slow)])
def test_bound_holds_over_random_splits_of_classes(rate, arguments):
    # of 200 splits at most 5 % may show a higher rate in the other half, which is searched among itself
    x, labels = clustered(4, *arguments)
    rng = np.random.default_rng(0)
    exceeded = refused = 0
    for _ in range(200):
        half = np.isin(labels, rng.permutation(arguments[0])[:arguments[0] // 2])
        try:
            threshold = OpenSet(x[half], labels[half]).threshold(rate)
        except InputError:
            refused += 1
        else:
            exceeded += np.mean(OpenSet(x[~half], labels[~half]).different >= threshold.similarity) > rate
    assert exceeded <= 10 and refused <= 20


def test_equal_similarities_are_all_refused_or_all_accepted():
    x, labels = np.tile(np.eye(2), (300, 1)), np.repeat(np.arange(300), 2)
    # every image has an equal one in another class
    with pytest.raises(InputError, match='false_match_rate'):
        OpenSet(x, labels).threshold(0.01)
    rate, similarity = OpenSet(x, labels).identification_rate(0.01)
    assert rate == 0 and similarity > 1


@pytest.mark.parametrize('arguments, word', [
    (dict(false_match_rate=0), 'false_match_rate'), (dict(false_match_rate=1), 'false_match_rate'),
    (dict(labels=[1, 1, 1, 1]), 'two classes'), (dict(labels=[1]), 'labels'),
    (dict(embeddings=[[1, np.nan]] * 4), 'row 0'), (dict(), 'takes about')])
def test_bad_input(arguments, word):
    good = {**dict(embeddings=np.ones((4, 2)), labels=[1, 1, 2, 2], false_match_rate=0.1), **arguments}
    with pytest.raises(InputError, match=word) as caught:
        OpenSet(good.pop('embeddings'), good.pop('labels')).threshold(**good)
    assert '\n' not in str(caught.value)

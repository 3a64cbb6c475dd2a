"""Nearest-prototype classification against loops over pairs."""
import numpy as np
import pytest

from src.accuracy import accuracy, knn_classify, per_class_accuracy
from src.accuracy import knn as knn_module
from src.common.errors import InputError


def distance(a, b, metric):
    if metric == 'euclidean':
        return float(np.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b))))
    lengths = np.sqrt(sum(float(x) ** 2 for x in a)) * np.sqrt(sum(float(x) ** 2 for x in b))
    return 1.0 - (sum(float(x) * float(y) for x, y in zip(a, b)) / lengths if lengths else 0.0)


def naive_knn(queries, prototypes, labels, metric, k):
    predicted = []
    for q in queries:
        by_distance = sorted((distance(q, p, metric), i) for i, p in enumerate(prototypes))[:k]
        nearest = [labels[i] for _, i in by_distance]
        most = max(nearest.count(label) for label in nearest)
        predicted.append(next(label for label in nearest if nearest.count(label) == most))
    return predicted


@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
@pytest.mark.parametrize('k', [1, 2, 3, 5, 12])
@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_equals_loops(metric, k, dtype):
    rng = np.random.default_rng(k)
    queries = rng.standard_normal((23, 6)).astype(dtype)
    prototypes = rng.standard_normal((12, 6)).astype(dtype)
    labels = rng.integers(0, 4, 12) * 37 - 5
    assert knn_classify(queries, prototypes, labels, metric, k).tolist() == \
        naive_knn(queries, prototypes, labels.tolist(), metric, k)


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    queries, prototypes, labels = rng.standard_normal((50, 5)), rng.standard_normal((9, 5)), rng.integers(0, 3, 9)
    whole = knn_classify(queries, prototypes, labels, k=3)
    monkeypatch.setattr(knn_module, 'block_rows', lambda *_: 7)
    assert knn_classify(queries, prototypes, labels, k=3).tolist() == whole.tolist()


def test_equal_distances_take_the_lowest_index():
    prototypes = [[1, 0], [-1, 0], [0, 1], [0, -1]]
    assert knn_classify([[0, 0]], prototypes, [8, 3, 5, 1]).tolist() == [8]
    assert knn_classify([[0, 0]], prototypes[::-1], [1, 5, 3, 8]).tolist() == [1]
    # three neighbours of the origin: indices 0, 1, 2
    assert knn_classify([[0, 0]], prototypes, [8, 3, 3, 1], k=3).tolist() == [3]


@pytest.mark.parametrize('metric', ['euclidean', 'cosine'])
@pytest.mark.parametrize('count', [2, 10, 50, 1003])
def test_equal_prototypes_take_the_lowest_index(metric, count):
    # random values: a matrix product alone rounds equal prototypes differently
    rng = np.random.default_rng(count)
    prototypes = np.tile(rng.standard_normal(1024), (count, 1))
    queries = rng.standard_normal((100, 1024))
    assert set(knn_classify(queries, prototypes, np.arange(count) + 7, metric).tolist()) == {7}


def test_vote_ties_go_to_the_nearer():
    prototypes, labels = [[1.0], [2.0], [3.0], [4.0]], ['b', 'a', 'a', 'b']
    assert knn_classify([[0.0]], prototypes, labels, k=4).tolist() == ['b']
    assert knn_classify([[5.0]], prototypes, labels, k=4).tolist() == ['b']
    assert knn_classify([[2.2]], prototypes, labels, k=2).tolist() == ['a']
    assert knn_classify([[0.0]], prototypes, labels, k=3).tolist() == ['a']


def test_cosine_zero_vectors():
    prototypes = [[-1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    with np.errstate(all='raise'):
        # the zero prototype is at distance 1: farther than (1, 1), nearer than (-1, 0)
        assert knn_classify([[1, 0], [2, -2], [0, 0]], prototypes, [0, 1, 2], 'cosine').tolist() == [2, 1, 0]


@pytest.mark.parametrize('arguments, word', [
    (dict(prototypes=np.ones((2, 4))), 'width'), (dict(k=3), 'k'), (dict(k=0), 'k'), (dict(k=1.5), 'k'),
    (dict(metric='manhattan'), 'metric'), (dict(labels=[1]), 'labels'), (dict(queries=np.ones(3)), 'queries'),
    (dict(queries=np.ones((0, 3))), 'queries'), (dict(queries=[[1, np.nan, 0]]), 'queries'),
    (dict(prototypes=[[1, 2, np.inf], [1, 2, 3]]), 'prototypes')])
def test_bad_input(arguments, word):
    good = dict(queries=np.ones((4, 3)), prototypes=np.ones((2, 3)), labels=[1, 2])
    with pytest.raises(InputError, match=word) as caught:
        knn_classify(**{**good, **arguments})
    assert '\n' not in str(caught.value)


def test_accuracy():
    assert accuracy([1, 2, 3, 4], [1, 2, 0, 0]) == 0.5
    assert accuracy(np.array(['a']), ['a']) == 1.0
    for predicted, labels in (([], []), ([1, 2], [1]), ([[1, 2]], [1, 2])):
        with pytest.raises(InputError):
            accuracy(predicted, labels)


def test_per_class_accuracy():
    labels, predicted = [5, 5, 5, 9, 9, 2], [5, 5, 9, 9, 5, 5]
    # class 5: 2 of 3, class 9: 1 of 2, class 2: 0 of 1, class 7 has no sample
    assert per_class_accuracy(predicted, labels, [9, 5, 7, 2]) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert per_class_accuracy(predicted, labels, [9]) == 0.5
    with pytest.raises(InputError):
        per_class_accuracy(predicted, labels, [7])
    with pytest.raises(InputError):
        per_class_accuracy(predicted[:-1], labels, [5])

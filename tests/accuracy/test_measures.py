"""Measures of retrieval against loops over sorted lists."""
import tracemalloc

import numpy as np
import pytest

from src.accuracy import MEASURES, Rerank, Retrieval, measure, recall_at_k
from src.accuracy import retrieval as retrieval_module
from src.common.arrays import BLOCK_BYTES
from src.common.errors import InputError


def naive(x, labels, gallery=None, gallery_labels=None):
    """(R-precision, MAP@R) by Python's stable sort of float64 cosines, one query after the other."""
    alone = gallery is None
    gallery, gallery_labels = (x, labels) if alone else (gallery, gallery_labels)

    def unit(row):
        length = float(np.sqrt(sum(float(v) ** 2 for v in row)))
        return [float(v) / length if length else 0.0 for v in row]
    rows, others = [unit(row) for row in x], [unit(row) for row in gallery]
    shares, precisions = [], []
    for i, (row, label) in enumerate(zip(rows, labels)):
        candidates = [j for j in range(len(others)) if not (alone and i == j)]
        # Rounded as coarsely as float32, so that exact ties are ties here too.
        candidates.sort(key=lambda j: -round(sum(a * b for a, b in zip(row, others[j])), 6))
        count = sum(gallery_labels[j] == label for j in candidates)
        if not count:
            continue
        hits, total = 0, 0.0
        for place, j in enumerate(candidates[:count], 1):
            if gallery_labels[j] == label:
                hits += 1
                total += hits / place
        shares.append(hits / count)
        precisions.append(total / count)
    return {'R-precision': np.mean(shares), 'MAP@R': np.mean(precisions)}


NEW = ('r_precision', 'map_at_r')


@pytest.fixture(params=[False, True], ids=['one block', 'small blocks'])
def blocks(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(retrieval_module, 'block_rows', lambda columns: 3 if columns % 16 else 2)


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('classes', [1, 2, 9, 60])
def test_leave_one_out_equals_loops(dtype, classes, blocks):
    random = np.random.default_rng(classes)
    x, labels = random.standard_normal((61, 4)).astype(dtype), random.integers(0, classes, 61)
    assert measure(NEW, Retrieval(x, labels)) == pytest.approx(naive(x, labels), abs=1e-12)


@pytest.mark.parametrize('names', [False, True])
def test_gallery_equals_loops(names, blocks):
    random = np.random.default_rng(3)
    x, gallery = random.standard_normal((17, 4)), random.standard_normal((53, 4))
    # Queries of class 0 to 2 have no image in the gallery.
    labels, gallery_labels = random.integers(0, 9, 17), random.integers(3, 12, 53)
    if names:
        labels, gallery_labels = labels.astype(str), gallery_labels.astype(str)
    found = measure(NEW, Retrieval(x, labels, gallery, gallery_labels))
    assert found == pytest.approx(naive(x, labels, gallery, gallery_labels), abs=1e-12)


@pytest.mark.parametrize('seed', range(4))
def test_ties_and_zero_vectors_equal_loops(seed, blocks):
    random = np.random.default_rng(seed)
    x = random.choice([-1.0, 1.0], (50, 4)) * random.choice([0, 1, 1, 1], (50, 1))
    labels = random.integers(0, 12, 50)
    assert measure(NEW, Retrieval(x, labels)) == pytest.approx(naive(x, labels), abs=1e-12)
    assert measure(NEW, Retrieval(np.zeros((50, 4)), labels)) == pytest.approx(naive(np.zeros((50, 4)), labels), abs=1e-12)


def test_perfect_and_wrong_lists():
    x, labels = np.repeat(np.eye(4), 3, axis=0), np.repeat(np.arange(4), 3)
    assert measure(NEW, Retrieval(x, labels)) == {'R-precision': 1.0, 'MAP@R': 1.0}
    assert measure(NEW, Retrieval(x, np.arange(12) % 4)) == {'R-precision': 0.0, 'MAP@R': 0.0}


def test_with_two_images_a_class_all_measures_are_one():
    random = np.random.default_rng(0)
    x = np.repeat(random.standard_normal((20, 3)), 2, axis=0) + 0.3 * random.standard_normal((40, 3))
    found = measure(MEASURES, Retrieval(x, np.arange(40) // 2))
    assert list(found) == ['Recall@1', 'R-precision', 'MAP@R'] and len(set(found.values())) == 1 and 0 < found['MAP@R'] < 1


def test_queries_alone_in_their_class_are_misses_for_recall_and_no_queries_for_the_others():
    random = np.random.default_rng(1)
    x, labels = random.standard_normal((30, 4)), np.array([0, 0, 0, *range(1, 28)])
    assert measure(NEW, Retrieval(x, labels)) == pytest.approx(naive(x, labels))
    assert measure(['recall'], Retrieval(x, labels, ks=(1, 29))) == {
        f'Recall@{k}': value for k, value in recall_at_k(x, labels, (1, 29)).items()}
    assert recall_at_k(x, labels, 29) == {29: pytest.approx(3 / 30)}


def test_the_same_images_as_gallery_are_found_as_themselves():
    x, labels = np.eye(4, dtype=np.float32), np.arange(4)
    assert measure(MEASURES, Retrieval(x, labels, x, labels)) == {'Recall@1': 1.0, 'R-precision': 1.0, 'MAP@R': 1.0}


def test_re_ranked_lists():
    random = np.random.default_rng(2)
    x, labels = random.standard_normal((40, 4)), np.arange(40) // 2
    settings = Rerank(6, 3)
    found = measure(MEASURES, Retrieval(x, labels, rerank=settings))
    assert found['Recall@1'] == found['R-precision'] == recall_at_k(x, labels, rerank=settings)[1]


@pytest.mark.parametrize('rows, classes', [(3000, 2), (6000, 600)])
def test_memory(rows, classes, monkeypatch):
    monkeypatch.setattr('src.common.arrays.BLOCK_BYTES', BLOCK_BYTES // 64)
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((rows, 64)).astype(np.float32), random.integers(0, classes, rows)
    retrieval = Retrieval(x, labels)
    tracemalloc.start()
    assert 0 < measure(NEW, retrieval)['MAP@R'] < 0.6
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < rows * rows // classes // 8 + 2 ** 20
    assert peak < held + 8 * BLOCK_BYTES // 64


@pytest.mark.parametrize('arguments, word', [
    (dict(labels=[0, 1, 2, 3]), 'no query'), (dict(gallery=np.ones((3, 2))), 'both'), (dict(labels=[0]), 'labels'),
    (dict(gallery=np.ones((3, 2)), gallery_labels=[5, 6, 7]), 'no query'),
    (dict(gallery=np.ones((3, 3)), gallery_labels=[1, 2, 3]), 'width'),
    (dict(embeddings=[[1, np.nan]] * 4), 'row 0'), (dict(embeddings=np.ones(4)), 'embeddings')])
@pytest.mark.parametrize('name', NEW)
def test_bad_input(name, arguments, word):
    good = dict(embeddings=np.ones((4, 2)), labels=[0, 0, 1, 1])
    with pytest.raises(InputError, match=word) as caught:
        measure([name], Retrieval(**{**good, **arguments}))
    assert '\n' not in str(caught.value)


def test_unknown_measure_lists_the_names():
    with pytest.raises(InputError, match='recall, r_precision, map_at_r'):
        measure(['recal'], Retrieval(np.ones((4, 2)), np.zeros(4)))

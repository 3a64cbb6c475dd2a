"""Recall@K and nearest neighbours against full stable sorts and loops over pairs."""
import tracemalloc

import numpy as np
import pytest

from src.accuracy import nearest_neighbours, recall_at_k
from src.accuracy import recall as recall_module
from src.common import arrays
from src.common.errors import InputError


def cosine(a, b):
    lengths = np.sqrt(sum(float(x) ** 2 for x in a)) * np.sqrt(sum(float(x) ** 2 for x in b))
    return sum(float(x) * float(y) for x, y in zip(a, b)) / lengths if lengths else 0.0


def naive_order(queries, gallery, leave_one_out=False):
    """Gallery indices by falling similarity, lowest index first among equals (Python's sort is stable)."""
    return [sorted((j for j in range(len(gallery)) if not (leave_one_out and i == j)),
                   key=lambda j: -cosine(q, gallery[j])) for i, q in enumerate(queries)]


def naive_recall(queries, labels, ks, gallery=None, gallery_labels=None):
    order = naive_order(queries, queries if gallery is None else gallery, gallery is None)
    gallery_labels = labels if gallery is None else gallery_labels
    return {k: np.mean([any(gallery_labels[j] == label for j in row[:k]) for row, label in zip(order, labels)])
            for k in ks}


@pytest.fixture(params=[False, True], ids=['one block', 'small blocks'])
def blocks(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(recall_module, 'block_rows', lambda *_: 5)
        monkeypatch.setattr(recall_module, 'GALLERY_BYTES', 7 * 4 * 4)


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('seed', range(4))
def test_leave_one_out_equals_loops(dtype, seed, blocks):
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((41, 4)).astype(dtype), rng.integers(0, 9, 41)
    assert recall_at_k(x, labels, (1, 2, 5, 40)) == pytest.approx(naive_recall(x, labels, (1, 2, 5, 40)))


@pytest.mark.parametrize('seed', range(4))
def test_gallery_equals_loops(seed, blocks):
    rng = np.random.default_rng(seed)
    q, g = rng.standard_normal((17, 4)), rng.standard_normal((33, 4))
    # some query classes are absent from the gallery
    labels, gallery_labels = rng.integers(0, 9, 17), rng.integers(3, 12, 33)
    assert recall_at_k(q, labels, (1, 3, 33), g, gallery_labels) == \
        pytest.approx(naive_recall(q, labels, (1, 3, 33), g, gallery_labels))


def exact_ties(rng, count):
    """Rows of +-1 and of zeros alone, width 4: every norm and similarity is exact in float32, most of them tied."""
    return rng.choice([-1.0, 1.0], (count, 4)) * rng.choice([0, 1, 1, 1], (count, 1))


@pytest.mark.parametrize('seed', range(6))
def test_ties_are_those_of_a_full_stable_sort(seed, blocks):
    rng = np.random.default_rng(seed)
    x, labels = exact_ties(rng, 50), rng.integers(0, 12, 50)
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    similarities = unit @ unit.T
    np.fill_diagonal(similarities, -np.inf)
    order = np.argsort(-similarities, axis=1, kind='stable')[:, :-1]
    ks = (1, 2, 3, 10, 49)
    expected = {k: np.mean((labels[order[:, :k]] == labels[:, None]).any(axis=1)) for k in ks}
    assert recall_at_k(x, labels, ks) == pytest.approx(expected)
    assert recall_at_k(x, labels, ks) == pytest.approx(naive_recall(x, labels, ks))


def test_equal_embeddings_tie_exactly():
    # random values: a matrix product alone rounds equal rows differently
    rng = np.random.default_rng(0)
    x = np.tile(rng.standard_normal(2048).astype(np.float32), (1003, 1))
    labels = np.arange(1003) // 2
    # all others tie: the nearest are the images of lowest index, right for the first two, or the first four, images
    assert recall_at_k(x, labels, (1, 4)) == {1: 2 / 1003, 4: 4 / 1003}
    queries = rng.standard_normal((257, 2048)).astype(np.float32)
    assert recall_at_k(queries, np.zeros(257), 1, x, labels) == {1: 1.0}
    assert nearest_neighbours(queries, x, 3)[0].tolist() == [[0, 1, 2]] * 257


def test_one_image_a_class_and_one_class():
    x = np.random.default_rng(0).standard_normal((20, 3))
    assert recall_at_k(x, np.arange(20), (1, 19)) == {1: 0.0, 19: 0.0}
    assert recall_at_k(x, ['same'] * 20, 1) == {1: 1.0}


def test_scale_does_not_matter():
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((60, 5)), rng.integers(0, 10, 60)
    scale = 10.0 ** rng.integers(-12, 12, (60, 1))
    assert recall_at_k(x * scale, labels, (1, 4)) == recall_at_k(x, labels, (1, 4))


def test_no_warning_and_no_nan_for_zero_vectors():
    with np.errstate(all='raise'):
        assert recall_at_k(np.zeros((6, 3)), [0, 0, 1, 1, 2, 2]) == {1: 2 / 6}
        indices, similarities = nearest_neighbours(np.zeros((2, 3)), np.eye(3), 2)
    assert indices.tolist() == [[0, 1], [0, 1]] and not similarities.any()


@pytest.mark.parametrize('k', [1, 2, 6, 9, 31])
@pytest.mark.parametrize('tied', [False, True])
def test_nearest_neighbours_equal_loops(k, tied, blocks):
    rng = np.random.default_rng(k)
    q, g = (exact_ties(rng, 12), exact_ties(rng, 31)) if tied else (rng.standard_normal((12, 4)),
                                                                     rng.standard_normal((31, 4)))
    indices, similarities = nearest_neighbours(q, g, k)
    assert indices.tolist() == [row[:k] for row in naive_order(q, g)]
    expected = [[cosine(a, g[j]) for j in row] for a, row in zip(q, indices)]
    np.testing.assert_allclose(similarities, expected, atol=1e-6)


def test_nearest_neighbours_streams_a_memmap(tmp_path):
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((30000, 512)).astype(np.float32)
    np.save(tmp_path / 'gallery.npy', gallery)
    queries = gallery[[7, 29999, 15000]] + 0.01
    mapped = np.load(tmp_path / 'gallery.npy', mmap_mode='r')
    tracemalloc.start()
    indices, _ = nearest_neighbours(queries, mapped, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert indices[:, 0].tolist() == [7, 29999, 15000]
    assert indices.tolist() == nearest_neighbours(queries, gallery, 3)[0].tolist()
    assert peak < gallery.nbytes / 2


def test_no_second_copy_of_the_embeddings(monkeypatch):
    monkeypatch.setattr(arrays, 'BLOCK_BYTES', 2 ** 20)
    x = np.random.default_rng(0).standard_normal((2000, 2048)).astype(np.float32)
    tracemalloc.start()
    recall_at_k(x, np.arange(2000) // 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 2


@pytest.mark.parametrize('arguments, word', [
    (dict(labels=[1, 2]), 'labels'), (dict(k=(1, 4)), 'k: 4'), (dict(k=0), 'k: 0'),
    (dict(gallery=np.ones((3, 2))), 'both'),
    (dict(gallery=np.ones((3, 3)), gallery_labels=[1, 2, 3]), 'width'),
    (dict(gallery=np.ones((3, 2)), gallery_labels=[1, 2]), 'gallery_labels'),
    (dict(gallery=np.ones((3, 2)), gallery_labels=[1, 2, 3], k=4), 'k: 4'),
    (dict(embeddings=[[1, 2], [np.nan, 1], [1, 2], [3, 4]]), 'row 1'),
    (dict(embeddings=[[1, 2], [1, 1], [1, -np.inf], [3, 4]]), 'row 2'),
    (dict(embeddings=[[1, 2], [1, 1], [1, 1e300], [3, 4]]), 'row 2'), (dict(embeddings=np.ones(4)), 'embeddings')])
def test_bad_input(arguments, word):
    good = dict(embeddings=np.ones((4, 2)), labels=[0, 0, 1, 1])
    with pytest.raises(InputError, match=word) as caught:
        recall_at_k(**{**good, **arguments})
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('queries, gallery, k, word', [
    (np.ones((2, 3)), np.ones((4, 2)), 1, 'width'), (np.ones((2, 3)), np.ones((4, 3)), 5, 'k: 5'),
    (np.ones((2, 3)), np.full((4, 3), np.nan), 1, 'gallery'), (np.full((2, 3), np.inf), np.ones((4, 3)), 1, 'queries'),
    (np.ones((2, 3)), np.ones(3), 1, 'gallery')])
def test_nearest_neighbours_bad_input(queries, gallery, k, word):
    with pytest.raises(InputError, match=word):
        nearest_neighbours(queries, gallery, k)

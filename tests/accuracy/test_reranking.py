"""k-reciprocal re-ranking against a dense implementation in loops, written from the paper."""
import tracemalloc

import numpy as np
import pytest

from src.accuracy import Images, nearest_neighbours, nearest_of_others, recall_at_k, reid_metrics, reranking
from src.accuracy.reranking import Rerank
from src.common import arrays
from src.common.errors import InputError


def naive_rerank(everything, k1, k2, weight):
    """(N, N) final distances of all to all; the choices are those that src/accuracy/reranking.py lists."""
    everything = everything.astype(np.float64)
    lengths = np.linalg.norm(everything, axis=1, keepdims=True)
    everything = np.divide(everything, lengths, out=np.zeros_like(everything), where=lengths > 0)
    count = len(everything)
    d = np.array([[((a - b) ** 2).sum() for b in everything] for a in everything])
    d = np.array([row / max(row.max(), 1e-30) for row in d])
    order = [sorted(range(count), key=lambda j: (j != i, d[i, j], j)) for i in range(count)]

    def reciprocal(p, k):
        return {g for g in order[p][:k + 1] if p in order[g][:k + 1]}

    v = np.zeros((count, count))
    for p in range(count):
        near = reciprocal(p, k1)
        expanded = set(near)
        for candidate in near:
            own = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(own & near) > 2 / 3 * len(own):
                expanded |= own
        for g in expanded:
            v[p, g] = np.exp(-d[p, g])
        v[p] /= v[p].sum()
    v = np.array([np.mean([v[j] for j in order[p][:k2]], axis=0) for p in range(count)])
    jaccard = np.array([[1 - np.minimum(a, b).sum() / np.maximum(a, b).sum() for b in v] for a in v])
    return (1 - weight) * jaccard + weight * d


def clustered(seed, queries=14, gallery=45, width=6, spread=0.6):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((9, width))
    ids = rng.integers(0, 9, queries + gallery)
    x = (centers[ids] + spread * rng.standard_normal((len(ids), width))).astype(np.float32)
    return x[:queries], ids[:queries], x[queries:], ids[queries:]


@pytest.mark.parametrize('settings', [Rerank(), Rerank(5, 3, 0.3), Rerank(7, 1, 0.0), Rerank(6, 2, 1.0), Rerank(3, 4),
                                      Rerank(58, 6)])
@pytest.mark.parametrize('seed', range(3))
def test_equals_the_dense_loops(settings, seed, monkeypatch):
    queries, _, gallery, _ = clustered(seed)
    expected = naive_rerank(np.concatenate([queries, gallery]), *settings)[:len(queries), len(queries):]
    for rows in (1024, 5):
        monkeypatch.setattr(reranking, 'block_rows', lambda *_: rows)
        search = settings.search(queries, gallery)
        np.testing.assert_allclose(-search.scores(slice(None)), expected, atol=2e-6)
        np.testing.assert_allclose(-search.scores(np.array([3, 0])), expected[[3, 0]], atol=2e-6)


@pytest.mark.parametrize('seed', range(2))
def test_leave_one_out_is_one_set(seed):
    x, labels = clustered(seed)[2:]
    expected = naive_rerank(x, 8, 3, 0.3)
    np.testing.assert_allclose(-Rerank(8, 3).search(x, x).scores(slice(None))[~np.eye(45, dtype=bool)],
                               expected[~np.eye(45, dtype=bool)], atol=2e-6)
    np.fill_diagonal(expected, np.inf)
    order = np.argsort(expected, axis=1, kind='stable')
    right = labels[order] == labels[:, None]
    assert recall_at_k(x, labels, (1, 4), rerank=Rerank(8, 3)) == \
        {k: pytest.approx(right[:, :k].any(axis=1).mean()) for k in (1, 4)}


def test_equal_rows_and_zero_vectors():
    # +-1 in four dimensions: exact in float32; most neighbourhoods are decided by ties
    rng = np.random.default_rng(0)
    x = (rng.choice([-1.0, 1.0], (40, 4)) * rng.choice([0, 1, 1], (40, 1))).astype(np.float32)
    with np.errstate(all='raise'):
        scores = Rerank(6, 3).search(x[:10], x[10:]).scores(slice(None))
    np.testing.assert_allclose(-scores, naive_rerank(x, 6, 3, 0.3)[:10, 10:], atol=2e-6)
    zeros = np.zeros((30, 4), np.float32)
    assert np.isfinite(Rerank().search(zeros[:5], zeros).scores(slice(None))).all()


def test_neighbours_and_metrics_use_it():
    queries, query_ids, gallery, ids = clustered(4)
    rerank = Rerank(8, 3)
    distances = naive_rerank(np.concatenate([queries, gallery]), *rerank)[:14, 14:]
    order = np.argsort(distances, axis=1, kind='stable')
    indices, similarities = nearest_neighbours(queries, gallery, 7, rerank)
    assert indices.tolist() == order[:, :7].tolist()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery)]
    np.testing.assert_allclose(similarities, np.take_along_axis(unit[0] @ unit[1].T, indices, axis=1), atol=1e-6)
    right = ids[order] == query_ids[:, None]
    assert recall_at_k(queries, query_ids, (1, 3), gallery, ids, rerank) == \
        {k: pytest.approx(right[:, :k].any(axis=1).mean()) for k in (1, 3)}

    cams = np.arange(45) % 3
    arguments = queries, query_ids, np.zeros(14), gallery, ids, cams
    precisions, penalties = [], []
    for i in range(14):
        left = [j for j in order[i] if ids[j] != query_ids[i] or cams[j] != 0]
        places = [place for place, j in enumerate(left, 1) if ids[j] == query_ids[i]]
        if places:
            precisions.append(np.mean([n / place for n, place in enumerate(places, 1)]))
            penalties.append(len(places) / places[-1])
    metrics = reid_metrics(*arguments, rerank=rerank)
    assert metrics['mAP'] == pytest.approx(np.mean(precisions)) and metrics['mINP'] == pytest.approx(np.mean(penalties))
    assert metrics['mAP'] != reid_metrics(*arguments)['mAP']
    assert 0 < reid_metrics(*arguments, centroids=True, rerank=Rerank(5, 2))['mAP'] <= 1
    records = Images('query', *arguments[:3]), Images('gallery', *arguments[3:])
    first = nearest_of_others(*records, n=1, rerank=rerank)[0][:, 0]
    assert first.tolist() == [next(j for j in order[i] if ids[j] != query_ids[i] or cams[j] != 0) for i in range(14)]


def test_nothing_of_the_size_of_the_matrix(monkeypatch):
    monkeypatch.setattr(arrays, 'BLOCK_BYTES', 2 ** 20)
    x = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    tracemalloc.start()
    search = Rerank().search(x, x)
    for rows in arrays.slices(len(x), 20):
        search.scores(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.shape[0] ** 2


@pytest.mark.parametrize('settings, word', [
    (Rerank(k1=2.5), 'k1 2.5'), (Rerank(k1=0), 'k1 0'), (Rerank(5, 7), 'k2 7'), (Rerank(5, 0), 'k2 0'),
    (Rerank(5, 3, 1.1), 'weight'), (Rerank(5, 3, float('nan')), 'weight')])
def test_bad_settings(settings, word):
    x = np.ones((6, 2), np.float32)
    with pytest.raises(InputError, match=word) as caught:
        settings.search(x, x + 1)
    assert '\n' not in str(caught.value)


def test_among_few_images_the_settings_shrink():
    x = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    np.testing.assert_array_equal(Rerank().search(x[:3], x[3:]).scores(slice(None)),
                                  Rerank(8, 6).search(x[:3], x[3:]).scores(slice(None)))
    assert np.isfinite(Rerank().search(x[:1], x[1:2]).scores(slice(None))).all()


def test_bad_input_names_its_rows():
    x = np.ones((6, 2), np.float32)
    for queries, gallery, word in ((x, x * np.nan, 'gallery: row 0'), (x * np.inf, x, 'queries: row 0'),
                                   (x, np.ones((6, 3), np.float32), 'width')):
        with pytest.raises(InputError, match=word):
            nearest_neighbours(queries, gallery, 1, Rerank(5, 2))

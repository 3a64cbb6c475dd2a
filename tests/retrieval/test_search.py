"""Searching an embedding file against loops; galleries and thresholds of another network."""
import json

import numpy as np
import pytest

from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.retrieval import embedding_file
from src.retrieval import gallery as interface
from src.retrieval import search as searching
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings
from src.retrieval.gallery import check_model
from src.retrieval.search import centroids_of, find_neighbours
from src.retrieval.thresholds import KeptThreshold, read_threshold, threshold_path, write_threshold

CLASSES, EACH, WIDTH = 400, 5, 24


@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
@pytest.mark.parametrize('k', [1, 5, 37])
def test_search_block_by_block_is_the_same_as_a_loop(tmp_path, monkeypatch, suffix, k):
    rng = np.random.default_rng(k)
    # Of whole numbers: equal similarities really occur, across blocks too.
    gallery = rng.integers(-2, 3, (37, 4)).astype(np.float32)
    gallery[5] = gallery[30] = gallery[11]
    queries = rng.integers(-2, 3, (6, 4)).astype(np.float32)
    path = str(tmp_path / f'gallery{suffix}')
    blocks = np.split(gallery, [0, 7, 8, 30])
    write_embeddings(path, [block for block in blocks if len(block)],
                     ImageList([f'/{i}.png' for i in range(37)], np.arange(37), np.arange(37) % 2))
    monkeypatch.setattr(embedding_file, 'BLOCK_BYTES', 4 * 4 * 6)
    file = EmbeddingFile(path)
    assert file.images.labels.tolist() == list(range(37)) and file.images.cameras.tolist() == [i % 2 for i in range(37)]
    indices, similarities, *_ = find_neighbours(queries, file, k)

    def unit(rows):
        norms = np.sqrt((rows.astype(float) ** 2).sum(axis=1, keepdims=True))
        return rows / np.where(norms == 0, 1, norms)
    truth = np.round(unit(queries) @ unit(gallery).T, 6)
    np.testing.assert_allclose(similarities, -np.sort(-truth, axis=1)[:, :k], atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(truth, indices, 1), similarities, atol=2e-6)
    assert all(len(set(row)) == k for row in indices.tolist())
    for row in indices.tolist():  # equal rows of the gallery: in their order
        assert [i for i in row if i in (5, 11, 30)] == [5, 11, 30][:len({5, 11, 30} & set(row))]


def images(first, count):
    numbers = np.arange(first, first + count)
    return ImageList([f'/{i}.png' for i in numbers], numbers // EACH)


@pytest.fixture(scope='module')
def clustered():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, WIDTH))
    return (np.repeat(centres, EACH, 0) + 0.2 * rng.standard_normal((CLASSES * EACH, WIDTH))).astype(np.float32)


@pytest.fixture
def gallery(tmp_path, clustered):
    path = str(tmp_path / 'gallery.npy')
    write_embeddings(path, [clustered], images(0, len(clustered)))
    return path


def recall(found, truth):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), truth.tolist())])


def test_reranked_search_of_a_shortlist_is_that_of_the_whole_where_it_holds_all(gallery, clustered, monkeypatch):
    reranking = pytest.importorskip('src.accuracy.reranking')
    file, queries = EmbeddingFile(gallery), clustered[:7] + 0.1
    whole = find_neighbours(queries, file, 5, rerank=reranking.Rerank())
    assert whole.images.paths == file.images.paths and not np.array_equal(whole[0], find_neighbours(queries, file, 5)[0])
    monkeypatch.setattr(interface, 'WHOLE', 1000)
    monkeypatch.setattr(searching, 'RERANKED', 2000)
    again = find_neighbours(queries, file, 5, rerank=reranking.Rerank())
    np.testing.assert_array_equal(paths(whole), paths(again))
    monkeypatch.setattr(searching, 'RERANKED', 60)
    few = find_neighbours(queries, file, 5, rerank=reranking.Rerank())
    assert few.rows.shape == (7, 5) and recall(paths(few), paths(whole)) > 0.6


def paths(found):
    return np.array(found.images.paths)[found.rows]


@pytest.mark.parametrize('queries, k, words', [(np.ones((1, 3), np.float32), 1, 'embeddings of 24 values'),
                                               (np.ones((1, WIDTH), np.float32), 2001, '--top_k=2001')])
def test_queries_that_do_not_fit(gallery, queries, k, words):
    with pytest.raises(InputError, match=words):
        find_neighbours(queries, EmbeddingFile(gallery), k)


def test_centroids_are_searched_like_images(gallery, clustered, tmp_path):
    path = str(tmp_path / 'centroids.npy')
    centroids_of(EmbeddingFile(gallery), path)
    file = EmbeddingFile(path)
    found = find_neighbours(clustered, file, 1)
    assert np.mean(found.classes[found.rows[:, 0]] == np.arange(len(clustered)) // EACH) > 0.99


def test_threshold_belongs_to_one_network(tmp_path):
    checkpoint = str(tmp_path / 'train.ckpt')
    path = threshold_path(checkpoint)
    assert path == str(tmp_path / 'train.threshold.json')
    with pytest.raises(InputError, match='train.threshold.json: No such file.*--false_match_rate'):
        read_threshold(path)
    written = KeptThreshold(0.625, 'm+16x16+resize', false_match_rate=0.01)
    write_threshold(checkpoint, written)
    assert read_threshold(path) == written
    for model in ('m', 'm+16x16+resize'):
        written.check(path, model)
    assert json.loads((tmp_path / 'train.threshold.json').read_text()) == {
        'similarity': 0.625, 'model': 'm+16x16+resize', 'false_match_rate': 0.01}
    with pytest.raises(InputError, match='train.threshold.json: is the threshold of another network'):
        written.check(path, 'n')
    for bad in ('{"simil', '[]', '{"similarity": "high", "model": "m"}', '{"similarity": NaN, "model": "m"}', '[' * 100000,
                '{"similarity": true, "model": "m"}', '{"similarity": 0.5, "model": "m", "searched": "many"}',
                '{"similarity": 0.5, "model": "m", "other": 1}', '{"similarity": 0.5}', 'null'):
        (tmp_path / 'train.threshold.json').write_text(bad)
        with pytest.raises(InputError, match='train.threshold.json: ') as raised:
            read_threshold(path)
        assert '\n' not in str(raised.value)


def test_gallery_of_another_network_is_refused(tmp_path, clustered):
    path = str(tmp_path / 'gallery.npy')
    write_embeddings(path, [clustered], images(0, len(clustered)), model='m')
    check_model(EmbeddingFile(path), 'm')
    check_model(EmbeddingFile(path), None)
    with pytest.raises(InputError, match='gallery.npy: was written with another network'):
        check_model(EmbeddingFile(path), 'n')
    assert json.loads(open(path + '.json').read())['model'] == 'm'

"""Searching a gallery, exactly and through an index, against loops; indexes and thresholds of something else."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.retrieval import embedding_file
from src.retrieval import search as searching
from src.retrieval.embedding_file import (
    EmbeddingFile,
    append_embeddings,
    centroids_of,
    remove_embeddings,
    write_embeddings,
)
from src.retrieval.search import build_index, check_model, find_neighbours, open_index
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
    indices, similarities = find_neighbours(queries, file, k)

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


@pytest.fixture(scope='module')
def bytes_of_index(tmp_path_factory, clustered):
    """Of an index of the gallery, built once."""
    pytest.importorskip('faiss')
    path = str(tmp_path_factory.mktemp('index') / 'gallery.npy')
    write_embeddings(path, [clustered], images(0, len(clustered)))
    build_index(EmbeddingFile(path))
    return Path(path + '.ivf').read_bytes()


@pytest.fixture
def gallery(tmp_path, clustered):
    path = str(tmp_path / 'gallery.npy')
    write_embeddings(path, [clustered], images(0, len(clustered)))
    return path


def recall(found, truth):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), truth.tolist())])


def test_index_finds_what_the_exact_search_finds(gallery, clustered, capsys):
    pytest.importorskip('faiss')
    file = EmbeddingFile(gallery)
    assert open_index(file) is None
    built = build_index(file)
    line = capsys.readouterr().err
    assert line.startswith(f'index {gallery}.ivf: 2000 rows in 2 lists, built in ')
    assert f'recall@10 {built.recall:.3f} against the exact search' in line and built.recall >= 0.95
    queries = clustered[::50] + 0.05
    exact, similarities = find_neighbours(queries, file, 10)
    index = open_index(file)
    assert (index.rows, index.lists.nprobe, index.recall) == (2000, built.lists.nprobe, built.recall)
    found, found_similarities = find_neighbours(queries, file, 10, index=index)
    assert recall(found, exact) >= 0.95
    np.testing.assert_allclose(found_similarities[:, 0], similarities[:, 0], rtol=1e-5)
    for row, query, values in zip(found, queries, found_similarities):  # what it found is ranked exactly
        own = clustered[row] @ query / np.linalg.norm(clustered[row], axis=1) / np.linalg.norm(query)
        np.testing.assert_allclose(values, own, rtol=1e-5)
        assert (np.diff(values) <= 0).all()


def test_index_goes_on_after_images_are_appended_and_removed(gallery, clustered, bytes_of_index):
    Path(gallery + '.ivf').write_bytes(bytes_of_index)
    queries = clustered[:20]
    append_embeddings(gallery, [queries * 2], images(2000, 20))
    remove_embeddings(gallery, [f'/{i}.png' for i in (0, 3, 2004)])
    file = EmbeddingFile(gallery)
    found, similarities = find_neighbours(queries, file, 2, index=open_index(file))
    paths = [[file.images.paths[i] for i in row] for row in found]
    for i, (row, values) in enumerate(zip(paths, similarities)):
        here, there = f'/{i}.png', f'/{2000 + i}.png'
        assert (here in row) == (i not in (0, 3)) and (there in row) == (i != 4)
        assert values[0] == pytest.approx(1, abs=1e-5)
    # All of a list removed: the exact search answers.
    remove_embeddings(gallery, [path for path in file.images.paths if path not in ('/7.png', '/8.png')])
    file = EmbeddingFile(gallery)
    assert find_neighbours(queries[[7]], file, 2, index=open_index(file))[0].tolist() == [[0, 1]]


def test_where_lists_are_too_short_appended_images_come_once(gallery, clustered, bytes_of_index):
    Path(gallery + '.ivf').write_bytes(bytes_of_index)
    append_embeddings(gallery, [clustered[:4] + 0.1], images(2000, 4))
    remove_embeddings(gallery, [f'/{i}.png' for i in range(5, 1998)])
    file = EmbeddingFile(gallery)
    queries = clustered[:3] + 0.01
    for expected, found in zip(find_neighbours(queries, file, 8), find_neighbours(queries, file, 8, index=open_index(file))):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def spoil(path, gallery, clustered):
    """An index of another gallery; of this one, rewritten since; cut short; not an index at all."""
    if path == 'another':
        write_embeddings(gallery, [clustered[::-1]], images(0, len(clustered)))
    elif path == 'shorter':
        write_embeddings(gallery, [clustered[:1500]], images(0, 1500))
    elif path == 'cut':
        data = open(gallery + '.ivf', 'rb').read()
        open(gallery + '.ivf', 'wb').write(data[:-1000])
    elif path == 'cut early':
        open(gallery + '.ivf', 'wb').write(b'{"gallery":')
    elif path == 'no index':
        open(gallery + '.ivf', 'wb').write(b'\x93\xff\n' * 3)


@pytest.mark.parametrize('what, words', [('another', 'is the index of another gallery'),
                                         ('shorter', 'is the index of another gallery'), ('cut', 'damaged or cut'),
                                         ('cut early', 'damaged or cut'), ('no index', 'damaged or cut')])
def test_spoilt_indexes_are_refused_by_name(gallery, clustered, bytes_of_index, what, words):
    Path(gallery + '.ivf').write_bytes(bytes_of_index)
    assert open_index(EmbeddingFile(gallery)).rows == 2000
    spoil(what, gallery, clustered)
    with pytest.raises(InputError) as caught:
        open_index(EmbeddingFile(gallery))
    assert f'{gallery}.ivf: {words}' in str(caught.value) and '\n' not in str(caught.value)


def test_what_cannot_have_an_index(tmp_path, gallery, clustered, monkeypatch):
    pytest.importorskip('faiss')
    few = str(tmp_path / 'few.npy')
    write_embeddings(few, [clustered[:20]], images(0, 20))
    with pytest.raises(InputError, match='few.npy holds 20 images'):
        build_index(EmbeddingFile(few))
    archive = str(tmp_path / 'archive.npz')
    write_embeddings(archive, [clustered], images(0, len(clustered)))
    with pytest.raises(InputError, match='archive.npz: an index needs a .npy'):
        build_index(EmbeddingFile(archive))
    monkeypatch.setattr(searching.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match='pip install faiss-cpu'):
        build_index(EmbeddingFile(gallery))
    assert not os.path.exists(gallery + '.ivf')


def test_faiss_is_imported_for_an_index_alone(gallery):
    code = ('import sys; from src.retrieval.search import *; from src.retrieval.embedding_file import EmbeddingFile\n'
            f'file = EmbeddingFile({gallery!r}); assert open_index(file) is None\n'
            'find_neighbours(file.take(np.arange(2)), file, 3); assert "faiss" not in sys.modules')
    done = subprocess.run([sys.executable, '-c', code], cwd=Path(searching.__file__).parents[2], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_reranked_search_of_a_shortlist_is_that_of_the_whole_where_it_holds_all(gallery, clustered, monkeypatch):
    reranking = pytest.importorskip('src.accuracy.reranking')
    file, queries = EmbeddingFile(gallery), clustered[:7] + 0.1
    whole = find_neighbours(queries, file, 5, rerank=reranking.Rerank())
    assert not np.array_equal(whole[0], find_neighbours(queries, file, 5)[0])
    monkeypatch.setattr(searching, 'RERANKED_WHOLE', 1000)
    monkeypatch.setattr(searching, 'RERANKED', 2000)
    again = find_neighbours(queries, file, 5, rerank=reranking.Rerank())
    np.testing.assert_array_equal(whole[0], again[0])
    monkeypatch.setattr(searching, 'RERANKED', 60)
    few = find_neighbours(queries, file, 5, rerank=reranking.Rerank())
    assert few[0].shape == (7, 5) and recall(few[0], whole[0]) > 0.6


@pytest.mark.parametrize('queries, k, words', [(np.ones((1, 3), np.float32), 1, 'embeddings of 24 values'),
                                               (np.ones((1, WIDTH), np.float32), 2001, '--top_k=2001')])
def test_queries_that_do_not_fit(gallery, queries, k, words):
    with pytest.raises(InputError, match=words):
        find_neighbours(queries, EmbeddingFile(gallery), k)


def test_centroids_are_searched_like_images(gallery, clustered, tmp_path):
    path = str(tmp_path / 'centroids.npy')
    centroids_of(EmbeddingFile(gallery), path)
    file = EmbeddingFile(path)
    found, _ = find_neighbours(clustered, file, 1)
    assert np.mean(file.images.labels[found[:, 0]] == np.arange(len(clustered)) // EACH) > 0.99


def test_threshold_belongs_to_one_network(tmp_path):
    checkpoint = str(tmp_path / 'train.ckpt')
    path = threshold_path(checkpoint)
    assert path == str(tmp_path / 'train.threshold.json')
    with pytest.raises(InputError, match='train.threshold.json: No such file.*--false_match_rate'):
        read_threshold(path, 'm')
    written = KeptThreshold(0.625, 'm+16x16+resize', false_match_rate=0.01)
    write_threshold(checkpoint, written)
    assert read_threshold(path, 'm') == read_threshold(path, 'm+16x16+resize') == written
    assert json.loads((tmp_path / 'train.threshold.json').read_text()) == {
        'similarity': 0.625, 'model': 'm+16x16+resize', 'false_match_rate': 0.01}
    with pytest.raises(InputError, match='train.threshold.json: is the threshold of another network'):
        read_threshold(path, 'n')
    for bad in ('{"simil', '[]', '{"similarity": "high", "model": "m"}', '{"similarity": NaN, "model": "m"}', '[' * 100000,
                '{"similarity": true, "model": "m"}', '{"similarity": 0.5, "model": "m", "searched": "many"}',
                '{"similarity": 0.5, "model": "m", "other": 1}', '{"similarity": 0.5}', 'null'):
        (tmp_path / 'train.threshold.json').write_text(bad)
        with pytest.raises(InputError, match='train.threshold.json: ') as raised:
            read_threshold(path, 'm')
        assert '\n' not in str(raised.value)


def test_gallery_of_another_network_is_refused(tmp_path, clustered):
    path = str(tmp_path / 'gallery.npy')
    write_embeddings(path, [clustered], images(0, len(clustered)), model='m')
    check_model(EmbeddingFile(path), 'm')
    check_model(EmbeddingFile(path), None)
    with pytest.raises(InputError, match='gallery.npy: was written with another network'):
        check_model(EmbeddingFile(path), 'n')
    assert json.loads(open(path + '.json').read())['model'] == 'm'

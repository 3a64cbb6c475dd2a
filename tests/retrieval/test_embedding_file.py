"""Galleries that grow and shrink in place, their identity, and centroids of them, against plain arrays."""
import json
import os
import shutil

import numpy as np
import pytest

from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.retrieval import embedding_file
from src.retrieval.embedding_file import (
    EmbeddingFile,
    append_embeddings,
    centroids_of,
    remove_embeddings,
    write_embeddings,
)

WIDTH = 6


def images(first, count, labels=True):
    numbers = np.arange(first, first + count)
    return ImageList([f'/pictures/number {i}.png' for i in numbers], numbers // 3 if labels else None)


def rows(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


def contents(path):
    file = EmbeddingFile(path)
    starts, blocks = zip(*file.blocks())
    assert list(starts) == np.cumsum([0, *map(len, blocks)])[:-1].tolist()
    return np.concatenate(blocks), file.images.paths, file.images.labels


@pytest.fixture
def gallery(tmp_path):
    path = str(tmp_path / 'gallery.npy')
    write_embeddings(path, np.split(rows(20), [7]), images(0, 20), model='m')
    return path


@pytest.mark.parametrize('block', [1, 3, 1000])
def test_appended_and_removed_like_a_list(gallery, monkeypatch, block):
    monkeypatch.setattr(embedding_file, 'BLOCK_BYTES', 4 * WIDTH * block)
    expected, paths, labels = rows(20), images(0, 20).paths, images(0, 20).labels
    rng = np.random.default_rng(block)
    for step in range(4):
        more = rows(5, 10 + step)
        assert append_embeddings(gallery, iter([more[:2], more[2:]]), images(20 + 5 * step, 5),
                                 model='m') == len(paths) + 5
        expected, paths = np.concatenate([expected, more]), paths + images(20 + 5 * step, 5).paths
        labels = np.concatenate([labels, images(20 + 5 * step, 5).labels])
        gone = rng.choice(len(paths), 4, replace=False)
        assert remove_embeddings(gallery, [paths[i] for i in gone]) == len(paths) - 4
        expected, labels = np.delete(expected, gone, 0), np.delete(labels, gone)
        paths = [path for i, path in enumerate(paths) if i not in gone]
        found, found_paths, found_labels = contents(gallery)
        np.testing.assert_array_equal(found, expected)
        assert found_paths == paths and found_labels.tolist() == labels.tolist()
    file = EmbeddingFile(gallery)
    assert file.count == 24 and file.rows == 40 and np.load(gallery).shape == (40, WIDTH)
    np.testing.assert_array_equal(file.take(np.array([0, 5, 23])), expected[[0, 5, 23]])
    for first in (0, 1, 11, 23, 24):
        blocks = [block for _, block in file.blocks(first)]
        np.testing.assert_array_equal(np.concatenate([np.empty((0, WIDTH)), *blocks]), expected[first:])


def test_the_identity_is_that_of_the_rows_and_history_knows_the_earlier_ones(gallery, tmp_path):
    first = EmbeddingFile(gallery)
    other = str(tmp_path / 'other.npy')
    write_embeddings(other, [rows(20)], images(0, 20))
    assert EmbeddingFile(other).identity == first.identity
    os.remove(other + '.json')
    assert EmbeddingFile(other).identity == first.identity
    append_embeddings(gallery, [rows(3, 1)], images(20, 3))
    second = EmbeddingFile(gallery)
    assert second.identity != first.identity
    assert (second.rows_of(first.identity), second.rows_of(second.identity), second.rows_of('x')) == (20, 23, 0)
    remove_embeddings(gallery, [second.images.paths[4]])
    assert EmbeddingFile(gallery).identity == second.identity


def test_the_same_rows_after_others_have_another_identity(gallery, tmp_path):
    other = str(tmp_path / 'other.npy')
    write_embeddings(other, [rows(20, 7)], images(0, 20))
    for path in (gallery, other):
        append_embeddings(path, [rows(3, 1)], images(20, 3))
    assert EmbeddingFile(other).identity != EmbeddingFile(gallery).identity


class Killed(BaseException):
    pass


@pytest.mark.parametrize('where', ['rows', 'list', 'note', 'header'])
def test_killed_while_appending_leaves_the_old_or_the_new_gallery(gallery, monkeypatch, where):
    """Killed: nothing is cleaned up, here because the file is copied at that moment."""
    before = contents(gallery)
    copy = gallery.replace('gallery', 'copy')

    def kill(*_):
        for suffix in ('', '.txt', '.json'):
            shutil.copy(gallery + suffix, copy + suffix)
        raise Killed
    if where == 'rows':
        def batches():
            yield rows(2, 3)
            with open(gallery, 'ab') as file:  # half a row is in place
                file.write(b'12345')
            kill()
    else:
        def batches():
            yield rows(4, 3)
        name = {'list': '_write_list', 'note': '_write_note', 'header': '_header'}[where]
        real, calls = getattr(embedding_file, name), []
        monkeypatch.setattr(embedding_file, name, lambda *args: (
            kill() if where != 'header' or len(calls) >= 1 and args[1][0] == 24 else [calls.append(0), real(*args)][1]))
    with pytest.raises(Killed):
        append_embeddings(gallery, batches(), images(20, 4))
    monkeypatch.undo()
    found = contents(copy)
    assert len(found[0]) == (24 if where == 'header' else 20)
    np.testing.assert_array_equal(found[0][:20], before[0])
    assert found[1][:20] == before[1]
    assert append_embeddings(copy, [rows(1, 4)], images(30, 1)) == len(found[0]) + 1
    np.testing.assert_array_equal(contents(copy)[0][-1:], rows(1, 4))
    assert np.load(copy).shape == (len(found[0]) + 1, WIDTH)


def test_a_failed_append_leaves_the_gallery_to_the_byte(gallery):
    before = {name: open(gallery + name, 'rb').read() for name in ('', '.txt', '.json')}

    def batches():
        yield rows(2)
        raise InputError('an image is broken')
    with pytest.raises(InputError, match='an image is broken'):
        append_embeddings(gallery, batches(), images(20, 4))
    assert {name: open(gallery + name, 'rb').read() for name in before} == before


def test_a_gallery_without_a_note_gets_one_when_it_changes(tmp_path):
    path = str(tmp_path / 'gallery.npy')
    np.save(path, rows(4).astype(np.float16))
    (tmp_path / 'gallery.npy.txt').write_text(''.join(f'{i}.png\n' for i in range(4)))
    identity = EmbeddingFile(path).identity
    assert append_embeddings(path, [rows(2, 1)], images(4, 2, labels=False)) == 6
    np.testing.assert_array_equal(np.load(path), np.concatenate([rows(4), rows(2, 1)]).astype(np.float16))
    assert EmbeddingFile(path).rows_of(identity) == 4
    with pytest.raises(InputError, match='NaN or Inf'), np.errstate(over='ignore'):
        append_embeddings(path, [np.full((1, WIDTH), 1e6, np.float32)], images(6, 1, labels=False))
    assert EmbeddingFile(path).count == 6


def test_new_images_get_the_labels_of_their_classes_names(tmp_path):
    path = str(tmp_path / 'gallery.npy')
    write_embeddings(path, [rows(2)], ImageList(['/a', '/b'], np.array([0, 1])), classes={0: 'apple', 1: 'pear'})
    append_embeddings(path, [rows(3, 1)], ImageList(['/c', '/d', '/e'], np.array([0, 1, 1])),
                      classes={0: 'pear', 1: 'plum'})
    file = EmbeddingFile(path)
    assert [file.classes[label] for label in file.images.labels.tolist()] == ['apple', 'pear', 'pear', 'plum', 'plum']


def test_labels_of_which_nobody_knows_what_they_mean_are_not_added(tmp_path, gallery):
    """A folder's numbers are its own, a list's are whatever its writer says."""
    with pytest.raises(InputError, match='knows its classes by number'):
        append_embeddings(gallery, [rows(1)], ImageList(['/c'], np.array([0])), classes={0: 'apple'})
    path = str(tmp_path / 'named.npy')
    write_embeddings(path, [rows(2)], ImageList(['/a', '/b'], np.array([0, 1])), classes={0: 'apple', 1: 'pear'})
    with pytest.raises(InputError, match='has no class of number 7'):
        append_embeddings(path, [rows(2)], ImageList(['/c', '/d'], np.array([1, 7])))
    append_embeddings(path, [rows(1)], ImageList(['/c'], np.array([1])))
    assert EmbeddingFile(path).images.labels.tolist() == [0, 1, 1]


def spoil(gallery, what):
    note = json.loads(open(gallery + '.json').read())
    if what == 'cut short':
        with open(gallery, 'r+b') as file:
            file.truncate(os.path.getsize(gallery) - 1)
    elif what == 'rewritten by another program':
        np.save(gallery, rows(20, 5))
    elif what == 'list cut':
        lines = open(gallery + '.txt').readlines()
        open(gallery + '.txt', 'w').writelines(lines[:-1])
    elif what == 'note cut':
        open(gallery + '.json', 'w').write(json.dumps(note)[:-9])
    elif what == 'note of another':
        open(gallery + '.json', 'w').write(json.dumps({**note, 'pieces': 1}))
    elif what == 'note without rows':
        open(gallery + '.json', 'w').write('{}')


@pytest.mark.parametrize('what, words', [
    ('cut short', 'gallery.npy: no embedding file, cut short'),
    ('rewritten by another program', 'gallery.npy.json: describes another file'),
    ('list cut', '20 embeddings but 19 paths'),
    ('note cut', 'gallery.npy.json: damaged'),
    ('note of another', 'gallery.npy.json: describes another file'),
    ('note without rows', 'gallery.npy.json: has no rows'),
])
def test_spoilt_files_are_refused_by_name(gallery, what, words):
    spoil(gallery, what)
    with pytest.raises(InputError) as caught:
        EmbeddingFile(gallery)
    assert words in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('change, words', [
    (lambda path: append_embeddings(path[:-1] + 'z', [rows(1)], images(0, 1)), 'only a .npy can be changed'),
    (lambda path: append_embeddings(path, [rows(1)[:, :3]], images(0, 1)), 'embeddings of 6 values, the new'),
    (lambda path: append_embeddings(path, [rows(1) * np.nan], images(0, 1)), 'NaN'),
    (lambda path: append_embeddings(path, [rows(1)], images(0, 1), model='n'), 'another network'),
    (lambda path: append_embeddings(path, [rows(1)], images(0, 1, labels=False)), 'holds labels'),
    (lambda path: append_embeddings(path + 'x.npy', [rows(1)], images(0, 1)), 'cannot be changed'),
    (lambda path: remove_embeddings(path, ['/nowhere.png']), 'has no image /nowhere.png'),
    (lambda path: remove_embeddings(path, images(0, 20).paths), 'no image would be left'),
    (lambda path: centroids_of(EmbeddingFile(path), path + '.csv'), '.npy or .npz'),
])
def test_changes_that_make_no_sense_are_refused(gallery, change, words):
    before = {name: open(gallery + name, 'rb').read() for name in ('', '.txt', '.json')}
    with pytest.raises(InputError, match=words):
        change(gallery)
    assert {name: open(gallery + name, 'rb').read() for name in before} == before


@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
def test_what_no_search_could_read_is_not_written(tmp_path, suffix):
    with pytest.raises(InputError, match='NaN or Inf'):
        write_embeddings(str(tmp_path / f'a{suffix}'), [rows(2), rows(1) * np.inf], images(0, 3))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('block', [2, 1000])
def test_centroids_are_the_means_of_the_classes(tmp_path, monkeypatch, block):
    monkeypatch.setattr(embedding_file, 'BLOCK_BYTES', 4 * WIDTH * block)
    labels = np.random.default_rng(1).integers(3, 9, 30)
    path, x = str(tmp_path / 'a.npz'), rows(30)
    x[4] = 0
    write_embeddings(path, [x], ImageList([f'/{i}.png' for i in range(30)], labels))
    assert centroids_of(EmbeddingFile(path), str(tmp_path / 'c.npy')) == len(set(labels))
    found = EmbeddingFile(str(tmp_path / 'c.npy'))
    assert found.images.labels.tolist() == sorted(set(labels.tolist()))
    for i, label in enumerate(sorted(set(labels.tolist()))):
        own = x[labels == label].astype(float)
        np.testing.assert_allclose(found.take(np.array([i]))[0], own.mean(0), rtol=1e-5, atol=1e-6)
        lengths = np.linalg.norm(own, axis=1)
        nearest = np.argmax(own @ own.mean(0) / np.where(lengths == 0, 1, lengths))
        assert found.images.paths[i] == f'/{np.flatnonzero(labels == label)[nearest]}.png'


def test_centroids_need_labels(tmp_path):
    path = str(tmp_path / 'a.npy')
    write_embeddings(path, [rows(3)], images(0, 3, labels=False))
    with pytest.raises(InputError, match='a.npy: has no labels'):
        centroids_of(EmbeddingFile(path), str(tmp_path / 'c.npy'))

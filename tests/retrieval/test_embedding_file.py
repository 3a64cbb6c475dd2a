"""Embedding files, their cards, and centroids of them, against plain arrays."""
import json
import os
import re
import subprocess
import zipfile

import numpy as np
import pytest

from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.retrieval import embedding_file
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings
from src.retrieval.gallery import check_model
from src.retrieval.search import centroids_of

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


def test_blocks_and_chosen_rows(gallery, monkeypatch):
    for block in (1, 3, 1000):
        monkeypatch.setattr(embedding_file, 'BLOCK_BYTES', 4 * WIDTH * block)
        found, paths, labels = contents(gallery)
        np.testing.assert_array_equal(found, rows(20))
        assert paths == images(0, 20).paths and labels.tolist() == images(0, 20).labels.tolist()
        file = EmbeddingFile(gallery)
        np.testing.assert_array_equal(file.vectors(file.images, np.array([0, 5, 19])), rows(20)[[0, 5, 19]])


@pytest.mark.parametrize('path, labels', [('/a\nb.png', True), ('/a\rb.png', False), (' a.png', True), ('/img 7', True),
                                          ('/img 7', False), ('/x,path', False), ('/x.png 5', True)])
def test_paths_that_a_list_cannot_hold_are_refused_before_the_work(tmp_path, path, labels):
    listed = ImageList([path, '/b.png'], np.array([3, 4]) if labels else None)

    def work():
        yield pytest.fail('embedded')
    with pytest.raises(InputError, match='a.npy: some of its paths.* cannot be lines'):
        write_embeddings(str(tmp_path / 'a.npy'), work(), listed)
    assert not list(tmp_path.iterdir())
    write_embeddings(str(tmp_path / 'a.npz'), [rows(2)], listed)
    assert EmbeddingFile(str(tmp_path / 'a.npz')).images.paths == listed.paths


def test_a_list_of_another_order_is_refused(gallery):
    listed = open(f'{gallery}.txt').read()
    with open(f'{gallery}.txt', 'w') as file:  # moved, and with another label
        file.write(listed.replace('/pictures', '/moved').replace(' 6\n', ' 5\n'))
    assert EmbeddingFile(gallery).images.paths[0] == '/moved/number 0.png'
    with open(f'{gallery}.txt', 'w') as file:
        file.writelines(sorted(listed.splitlines(True)))
    with pytest.raises(InputError, match='gallery.npy.txt: lists other images.* or in another order'):
        EmbeddingFile(gallery)


@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
def test_the_card_is_kept(tmp_path, suffix):
    path = str(tmp_path / f'a{suffix}')
    write_embeddings(path, [rows(2)], ImageList(['/a', '/b'], np.array([4, 7])), model='m+16x16', classes={4: 'é', 7: 'pear'})
    file = EmbeddingFile(path)
    assert file.model == 'm+16x16' and file.classes == {4: 'é', 7: 'pear'}
    assert [classes.tolist() for _, classes, _ in file.parts()] == [['é', 'pear']] and file.class_sizes() == {'pear': 1, 'é': 1}
    with pytest.raises(InputError, match=f'a{suffix}: was written with another network'):
        check_model(file, 'n+16x16')


def test_a_killed_process_leaves_nothing_for_long(tmp_path):
    """What it was writing is removed when the file is written again; that of running processes and of other files stays."""
    ended = subprocess.Popen(['true'])
    ended.wait()
    mine, others = [f'.a.{ended.pid}.part.npy', f'.a.npy.{ended.pid}.part.txt'], [
        f'.a.{os.getppid()}.part.npy', f'.b.{ended.pid}.part.npy', '.a.b.part.npy']
    for name in (*mine, *others):
        (tmp_path / name).write_bytes(b'half')
    write_embeddings(str(tmp_path / 'a.npy'), [rows(2)], images(0, 2))
    assert sorted(os.listdir(tmp_path)) == sorted([*others, 'a.npy', 'a.npy.txt', 'a.npy.json'])


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
        open(gallery + '.json', 'w').write(json.dumps({**note, 'checksum': 1}))
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


@pytest.mark.parametrize('change', [
    {'rows': 19}, {'rows': '20'}, {'width': 5}, {'model': 5}, {'classes': ['a']}, {'classes': {'cat': 'x'}},
    {'classes': {'1': 2}}, {'classes': {'²': 'x'}}, {'other': 1}, {'checksum': 'x'}])
@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
def test_bad_cards_are_refused_by_name(tmp_path, suffix, change):
    path = str(tmp_path / f'a{suffix}')
    write_embeddings(path, [rows(20)], images(0, 20))
    if suffix == '.npy':
        card = json.loads(open(path + '.json').read())
        open(path + '.json', 'w').write(json.dumps({**card, **change}))
    else:
        arrays = dict(np.load(path))
        np.savez(path, **{**arrays, 'card': np.array(json.dumps({**json.loads(str(arrays['card'])), **change}))})
    with pytest.raises(InputError, match=f'a{suffix}') as caught:
        EmbeddingFile(path)
    assert '\n' not in str(caught.value)


def spoilt(path, what):
    """An .npz or .npy that numpy or zipfile refuse, each by another exception."""
    np.savez(path, embeddings=rows(3), paths=np.array(['a', 'b', 'c']))
    if what == 'encrypted':
        data = bytearray(open(path, 'rb').read())
        for place in (m.start() for m in re.finditer(b'PK\x01\x02', data)):
            data[place + 8] |= 1
        open(path, 'wb').write(data)
    elif what == 'compression':
        data = bytearray(open(path, 'rb').read())
        for place in (m.start() for m in re.finditer(b'PK\x01\x02', data)):
            data[place + 10] = 97
        open(path, 'wb').write(data)
    elif what == 'lzma':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_LZMA) as archive:
            archive.writestr('embeddings.npy', bytes(5000))
        data = bytearray(open(path, 'rb').read())
        data[60:90] = b'\xff' * 30
        open(path, 'wb').write(data)
    elif what == 'texts':
        np.savez(path, embeddings=rows(3), paths=np.array(['a', 'b', 'c']), labels=np.array(['1', '2', '3']))
    elif what == 'objects':
        np.savez(path, embeddings=rows(3), paths=np.array(['a', 'b', 'c'], object))
    elif what == 'header':
        np.save(path + '.npy', rows(3))
        data = open(path + '.npy', 'rb').read().replace(b'}', b' ')
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('embeddings.npy', data)


@pytest.mark.parametrize('what', ['encrypted', 'compression', 'lzma', 'texts', 'objects', 'header'])
def test_archives_that_are_none_are_one_line(tmp_path, what):
    path = str(tmp_path / 'a.npz')
    spoilt(path, what)
    with pytest.raises(InputError, match='a.npz: ') as caught:
        EmbeddingFile(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('array, words', [
    (np.asfortranarray(np.ones((3, 4), np.float32)), 'in columns; save np.ascontiguousarray'),
    (np.ones((3, 4), int), 'found int64'), (np.zeros((3, 4)), 'rows 0 to 2 are zero'),
    (np.full((3, 4), 1e25), r'row 0 \(.*a.jpg\) holds NaN, Inf or values too large')])
def test_arrays_of_others(tmp_path, array, words):
    np.save(tmp_path / 'a.npy', array)
    (tmp_path / 'a.npy.txt').write_text('a.jpg\nb.jpg\nc.jpg\n')
    with pytest.raises(InputError, match=words):
        list(EmbeddingFile(str(tmp_path / 'a.npy')).blocks())
    np.savez(tmp_path / 'b.npz', features=array)
    with pytest.raises(InputError, match='b.npz: holds no array called embeddings'):
        EmbeddingFile(str(tmp_path / 'b.npz'))


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
        np.testing.assert_allclose(found.vectors(found.images, np.array([i]))[0], own.mean(0), rtol=1e-5, atol=1e-6)
        lengths = np.linalg.norm(own, axis=1)
        nearest = np.argmax(own @ own.mean(0) / np.where(lengths == 0, 1, lengths))
        assert found.images.paths[i] == f'/{np.flatnonzero(labels == label)[nearest]}.png'


def test_centroids_need_labels(tmp_path):
    path = str(tmp_path / 'a.npy')
    write_embeddings(path, [rows(3)], images(0, 3, labels=False))
    with pytest.raises(InputError, match='a.npy: has no labels'):
        centroids_of(EmbeddingFile(path), str(tmp_path / 'c.npy'))


def test_centroids_are_not_written_over_the_gallery(gallery, tmp_path):
    before = open(gallery, 'rb').read()
    os.symlink(gallery, tmp_path / 'link.npy')
    for path in (gallery, str(tmp_path / '.' / 'gallery.npy'), str(tmp_path / 'link.npy')):
        with pytest.raises(InputError, match='is the gallery itself'):
            centroids_of(EmbeddingFile(gallery), path)
    assert open(gallery, 'rb').read() == before


@pytest.mark.parametrize('name', ['a.npy', 'a.npy.txt', 'a.npy.json', 'a.npz'])
def test_a_file_of_the_user_is_not_written_over(tmp_path, name):
    path = str(tmp_path / ('a.npz' if name == 'a.npz' else 'a.npy'))
    (tmp_path / name).write_bytes(b'mine')
    with pytest.raises(InputError, match=f'--output={path}: {tmp_path}/{name} exists, and was not written by this project'):
        write_embeddings(path, [rows(2)], images(0, 2))
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(name, b'mine')]
    (tmp_path / name).write_bytes(b'')
    for seed in (0, 1):
        write_embeddings(path, [rows(2, seed)], images(0, 2))
        np.testing.assert_array_equal(contents(path)[0], rows(2, seed))

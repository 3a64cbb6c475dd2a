"""Galleries in Milvus against plain arrays: embedded (milvus-lite), and on a server where the wheel `milvus` has one."""
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from src.accuracy import Rerank
from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.retrieval import gallery as interface
from src.retrieval import milvus as engine
from src.retrieval.embedding_file import EmbeddingFile, write_embeddings
from src.retrieval.gallery import Card, check_model, in_parts, open_gallery
from src.retrieval.milvus import MilvusGallery, read_index
from src.retrieval.search import centroids_of, check_size, find_neighbours

pytestmark = pytest.mark.skipif(not all(map(importlib.util.find_spec, ('pymilvus', 'milvus_lite'))),
                                reason='pip install -r requirements-gallery.txt')

ROOT = Path(__file__).resolve().parents[2]
WIDTH, EACH = 12, 4
# In a venv of its own: pip install milvus==2.3.5 (x86-64).
SERVER = os.environ.get('MILVUS_SERVER') or shutil.which('milvus-server') or os.path.expanduser(
    '~/.cache/milvus-server-venv/bin/milvus-server')
ODD = ['/a b/"q".png', "/it's.png", '/back\\slash.png', '/é漢字😀.png', '/tab\t.png', '/{x}.png', '/50%.png']


def images(first, count, labels=True, cameras=False):
    numbers = np.arange(first, first + count)
    return ImageList([f'/{i}.png' for i in numbers], numbers // EACH if labels else None, numbers % 3 if cameras else None)


def rows(count, seed=0, width=WIDTH):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def cosines(queries, gallery):
    return (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T


def add(gallery, batches, images, model=None, classes=None):
    return gallery.add(in_parts(images, classes, batches), Card.of(images, model, bool(classes)))


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


def start_server(folder):
    """A server of its own and its address; the test is skipped where there is none."""
    if not os.path.isfile(SERVER):
        pytest.skip('no milvus-server: pip install milvus==2.3.5 into a venv of its own, and set MILVUS_SERVER')
    port = free_port()
    process = subprocess.Popen([SERVER, '--data', str(folder), '--proxy-port', str(port)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    where, until = f'http://127.0.0.1:{port}', time.time() + 90
    while True:
        try:
            MilvusGallery(where, new=True)
            return process, where
        except InputError:
            if process.poll() is not None or time.time() > until:
                stop(process)
                pytest.skip(f'{SERVER} does not run on this machine')


def stop(process):
    """Kill a server and what it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope='module')
def serving(tmp_path_factory):
    process, where = start_server(tmp_path_factory.mktemp('server'))
    yield process, where
    stop(process)


@pytest.fixture(scope='module')
def server(serving):
    return serving[1]


@pytest.fixture(params=['embedded', pytest.param('server', marks=pytest.mark.by_hand)])
def where(request, tmp_path):
    """The name of a gallery that does not exist."""
    if request.param == 'embedded':
        return str(tmp_path / 'gallery.db')
    return f'{request.getfixturevalue("server")}#g{time.time_ns()}'


@pytest.fixture
def gallery(where):
    made = MilvusGallery(where, new=True)
    assert add(made, np.split(rows(40), [7, 30]), images(0, 40), 'm+16x16') == WIDTH
    return made


def contents(gallery):
    """{path: (class, embedding)}"""
    found = {}
    for some, classes, block in gallery.parts():
        assert len(some) == len(block) and not set(some.paths) & set(found) and classes.tolist()
        found.update(zip(some.paths, zip(some.labels.tolist(), block)))
    return found


def check_contents(gallery, numbers, x):
    found = contents(gallery)
    assert gallery.size() == len(numbers) and sorted(found) == sorted(f'/{i}.png' for i in numbers)
    for i in numbers:
        assert found[f'/{i}.png'][0] == i // EACH
        np.testing.assert_array_equal(found[f'/{i}.png'][1], x[i])


def test_added_again_replaced_and_removed(gallery, where, monkeypatch):
    monkeypatch.setattr(engine, 'BATCH_BYTES', 4 * WIDTH * 9)
    x = rows(40)
    check_contents(gallery, range(40), x)
    x = np.concatenate([x, rows(10, 1)])
    x[35:] = rows(15, 2)
    add(gallery, [x[35:]], images(35, 15), 'm+16x16')
    check_contents(gallery, range(50), x)
    assert gallery.remove(['/3.png', '/49.png', '/3.png']) == 48
    again = MilvusGallery(where)
    check_contents(again, [i for i in range(49) if i != 3], x)
    assert again.class_sizes() == {i: 3 if i == 0 else 1 if i == 12 else 4 for i in range(13)}
    assert (again.model, again.width, again.card.named, again.size('label == 0')) == ('m+16x16', WIDTH, False, 3)
    with pytest.raises(InputError, match=r'has no image /3.png \(1 of 2 are not in it\)'):
        again.remove(['/4.png', '/3.png'])
    assert again.size() == 48


def test_search_equals_the_loop_with_and_without_filter(gallery, monkeypatch):
    monkeypatch.setattr(engine, 'QUERIES_AT_ONCE', 4)
    x, queries = rows(40), rows(9, 5)
    similar = cosines(queries, x)
    for allowed, filters in ((np.arange(40), None), (np.arange(12, 40), 'label >= 3'), (np.arange(12, 16), 'label == 3')):
        k = min(5, len(allowed))
        found = gallery.search(queries, k, filters)
        expected = allowed[np.argsort(-similar[:, allowed], 1)[:, :k]]
        assert [[found.images.paths[row] for row in line] for line in found.rows] == [
            [f'/{i}.png' for i in line] for line in expected]
        np.testing.assert_allclose(found.similarities, np.take_along_axis(similar, expected, 1), atol=1e-6)
        assert found.classes[found.rows].tolist() == (expected // EACH).tolist()
        for whole, wanted in ((50_000, allowed), (3, np.unique(expected))):
            monkeypatch.setattr(interface, 'WHOLE', whole)
            some, classes, vectors = gallery.shortlist(queries, k, filters)
            numbers = [int(path[1:-4]) for path in some.paths]
            np.testing.assert_array_equal(vectors, x[numbers])
            assert classes.tolist() == [i // EACH for i in numbers]
            assert sorted(numbers) == wanted.tolist()


def test_any_path_class_and_camera(where):
    x = rows(len(ODD))
    labels, cameras = np.arange(len(ODD)), np.arange(len(ODD)) + 10
    gallery = MilvusGallery(where, new=True)
    add(gallery, [x], ImageList(ODD, labels, cameras), classes={i: f'of {path}' for i, path in enumerate(ODD)})
    found = gallery.search(x[:2], len(ODD))
    assert [found.images.paths[row] for row in found.rows[:, 0]] == ODD[:2] and np.isfinite(found.similarities).all()
    for path, one, camera in zip(found.images.paths, found.classes, found.images.cameras):
        assert one == f'of {path}' and camera == ODD.index(path) + 10
    assert gallery.card.named and gallery.class_sizes() == {f'of {path}': 1 for path in ODD}
    assert gallery.remove(ODD[:5]) == 2
    for bad in ('/é' * 3000, '/\udce9.png'):
        with pytest.raises(InputError, match='longer than 4096 bytes, or no UTF-8'):
            add(gallery, [x[:1]], ImageList([bad], labels[:1], cameras[:1]), classes={0: 'a'})


@pytest.mark.parametrize('change, words', [
    (dict(model='other+16x16'), r'was written with another network .*\(16x16 and 16x16\)'),
    (dict(batches=[rows(2, width=5)]), 'embeddings of 12 values, the new ones have 5'),
    (dict(batches=[rows(2) * np.nan]), 'NaN or Inf'),
    (dict(batches=[rows(2) * np.array([[1], [0]], np.float32)]), '/91.png: its embedding is zero'),
    (dict(images=images(90, 2, labels=False)), 'has labels, the new images have none'),
    (dict(images=images(90, 2, cameras=True)), 'has no cameras, the new images do'),
    (dict(classes={22: 'apple'}), 'has no names of classes, the new images do')])
def test_what_does_not_fit_is_refused(gallery, change, words):
    options = {'batches': [rows(2)], 'images': images(90, 2), 'model': 'm+16x16', **change}
    with pytest.raises(InputError, match=words) as caught:
        add(gallery, **options)
    assert '\n' not in str(caught.value) and str(caught.value).startswith(gallery.path)
    assert gallery.size() == 40


def test_queries_and_filters_that_do_not_fit(gallery):
    with pytest.raises(InputError, match='embeddings of 12 values, those of --query have 3'):
        find_neighbours(rows(1, width=3), gallery, 1)
    for bad in ('label = = 3', 'nolabel == 3', "label == '"):
        with pytest.raises(InputError, match='gallery.*: Milvus refuses: |#g.*: Milvus refuses: ') as caught:
            gallery.search(rows(1), 1, bad)
        assert '\n' not in str(caught.value)
    with pytest.raises(InputError, match='--top_k=5: .* holds 4 images where label == 1'):
        check_size(gallery, 5, 'label == 1')
    with pytest.raises(InputError, match='was written with another network or other preprocessing than the queries'):
        check_model(gallery, 'm+32x32')


@pytest.mark.parametrize('named', [False, True])
def test_a_file_loaded_into_the_engine_answers_as_before(tmp_path, where, named):
    x, queries = rows(40), rows(6, 5)
    path, names = str(tmp_path / 'a.npy'), {i: f'class {9 - i}' for i in range(10)} if named else None
    write_embeddings(path, [x], images(0, 40), model='m+16x16', classes=names)
    file, gallery = EmbeddingFile(path), MilvusGallery(where, new=True)
    gallery.add(file.parts(), file.card)
    gallery = open_gallery(where)
    assert gallery.class_sizes() == file.class_sizes() and gallery.card == file.card
    for rerank in (None, Rerank(k1=5, k2=3)):
        mine, theirs = (find_neighbours(queries, one, 7, rerank=rerank) for one in (gallery, file))
        np.testing.assert_allclose(mine.similarities, theirs.similarities, atol=1e-6)
        for a, b in zip(mine.rows, theirs.rows):
            assert [mine.images.paths[row] for row in a] == [theirs.images.paths[row] for row in b]
            assert mine.classes[a].tolist() == theirs.classes[b].tolist()
    mine, theirs = (str(tmp_path / name) for name in ('mine.npy', 'theirs.npy'))
    assert centroids_of(gallery, mine) == centroids_of(file, theirs) == 10
    mine, theirs = EmbeddingFile(mine), EmbeddingFile(theirs)
    np.testing.assert_allclose(*(one.vectors(one.images, np.arange(10)) for one in (mine, theirs)), atol=1e-6)
    assert mine.images.paths == theirs.images.paths and mine.classes == theirs.classes
    assert mine.images.labels.tolist() == theirs.images.labels.tolist() == list(range(10))


def test_two_folders_whose_classes_have_the_same_numbers(where, tmp_path):
    """A folder's numbers are its own: the name tells the class."""
    gallery = MilvusGallery(where, new=True)
    add(gallery, [rows(2)], ImageList(['/a', '/b'], np.array([0, 1])), classes={0: 'apple', 1: 'pear'})
    add(gallery, [rows(3, 1)], ImageList(['/c', '/d', '/e'], np.array([0, 1, 1])), classes={0: 'pear', 1: 'plum'})
    assert gallery.class_sizes() == {'apple': 1, 'pear': 2, 'plum': 2} and gallery.size('class_name == "pear"') == 2
    assert centroids_of(gallery, str(tmp_path / 'c.npy')) == 3
    assert EmbeddingFile(str(tmp_path / 'c.npy')).classes == {0: 'apple', 1: 'pear', 2: 'plum'}


@pytest.mark.parametrize('kind, given', [('FLAT', {}), ('IVF_FLAT', {}), ('IVF_FLAT', {'nlist': 8, 'nprobe': 2}),
                                         ('HNSW', {'M': 8, 'ef': 50})])
def test_index_and_its_recall(where, kind, given):
    centres = rows(100, 3)
    x = np.repeat(centres, 20, 0) + 0.3 * rows(2000, 4)
    gallery = MilvusGallery(where, new=True)
    add(gallery, [x], images(0, 2000))
    text = ','.join([kind, *(f'{name}={value}' for name, value in given.items())])
    assert read_index(text) == (kind, given)
    line = gallery.build_index(kind, given)
    assert line.startswith(f'index of {where}: {kind}') and '2000 rows, built in ' in line
    assert all(f'{name} {value}' in line for name, value in given.items())
    again = MilvusGallery(where)
    assert again.index_kind() == kind and again.card == gallery.card
    assert f'recall@10 {again.card.recall:.3f} against the exact search' in line
    assert again.card.recall >= 0.95 or 'nprobe' in given
    found = again.search(x[::100], 10)
    expected = np.argsort(-cosines(x[::100], x), 1)[:, :10]
    share = np.mean([len({found.images.paths[row] for row in line if row >= 0} & {f'/{i}.png' for i in true}) / 10
                     for line, true in zip(found.rows, expected)])
    assert share == 1 if kind == 'FLAT' else share > (0.3 if 'nprobe' in given else 0.85)
    add(gallery, [x[:5]], images(2000, 5))
    assert {again.search(x[:5], 2).images.paths[i] for i in range(2)} >= {'/2000.png'} or kind != 'FLAT'


@pytest.mark.parametrize('text, words', [
    ('ivf', 'expected FLAT, IVF_FLAT, HNSW'), ('HNSW,M=2.5', 'expected'), ('HNSW,M', 'expected'), ('HNSW,M=0', 'expected'),
    ('IVF_FLAT,M=4', 'has no parameter M, only nlist, nprobe'), ('FLAT,M=4', 'has no parameter M, only none')])
def test_bad_indexes(text, words):
    with pytest.raises(InputError, match=f'--index={text}: {words}'):
        read_index(text)


def test_absent_damaged_and_foreign_galleries(tmp_path, monkeypatch):
    with pytest.raises(InputError, match='absent.db: no such gallery; write it with infer.py --output='):
        MilvusGallery(str(tmp_path / 'absent.db'))
    assert not os.listdir(tmp_path)
    (tmp_path / 'old.db').write_bytes(b'SQLite')
    with pytest.raises(InputError, match='old.db: is no gallery of milvus-lite 3'):
        MilvusGallery(str(tmp_path / 'old.db'), new=True)
    with pytest.raises(InputError, match='#a-b: the name of a collection'):
        MilvusGallery(f'{tmp_path}/a.db#a-b')
    path = str(tmp_path / 'a.db')
    made = MilvusGallery(path, new=True)
    made._client.create_collection('foreign', dimension=4)
    with pytest.raises(InputError, match='#foreign: is a collection of another program'):
        MilvusGallery(f'{path}#foreign', new=True)
    with pytest.raises(InputError, match='a.db#none: no such gallery'):
        MilvusGallery(f'{path}#none')
    with pytest.raises(InputError, match='no Milvus server answers'):
        monkeypatch.setattr(engine, 'SECONDS', 2)
        MilvusGallery(f'http://127.0.0.1:{free_port()}')
    monkeypatch.setitem(sys.modules, 'pymilvus', None)
    with pytest.raises(InputError, match=r'a.db: needs pymilvus \(.*\): pip install -r requirements-gallery.txt'):
        MilvusGallery(path)


ADD = '''
import sys, time
import numpy as np
from src.accuracy import Rerank
from src.common.errors import InputError
from src.datasets.image_list import ImageList
from src.retrieval.gallery import Card, in_parts
from src.retrieval.milvus import MilvusGallery
where, first, count, pause = sys.argv[1], *map(int, sys.argv[2:4]), float(sys.argv[4])
x = np.random.default_rng(0).standard_normal((1000, 12)).astype(np.float32)[first:first + count]
numbers = np.arange(first, first + count)

def batches():
    for start in range(0, count, 20):
        print(start, flush=True)
        time.sleep(pause)
        yield x[start:start + 20]

try:
    images = ImageList([f'/{i}.png' for i in numbers], numbers // 4)
    MilvusGallery(where, new=True).add(in_parts(images, None, batches()), Card.of(images, 'm', False))
except InputError as error:
    sys.exit(f'error: {error}')
'''


def adding(where, first, count, pause=0.0):
    return subprocess.Popen([sys.executable, '-c', ADD, where, str(first), str(count), str(pause)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.by_hand
def test_killed_while_adding_and_run_again(where):
    process = adding(where, 0, 400, 0.05)
    for line in process.stdout:
        if line.strip() == '200':
            process.kill()
            break
    process.communicate()
    left = MilvusGallery(where)
    assert 180 <= left.size() <= 220
    if where.startswith('http'):
        process = adding(where, 0, 400)
        assert process.communicate()[1] == '' and process.returncode == 0
    else:    # this process has the folder open
        numbers = np.arange(400)
        add(left, [rows(1000)[:400]], images(0, 400), 'm')
        assert left.size() == len(numbers)
    check_contents(MilvusGallery(where), range(400), rows(1000))


@pytest.mark.by_hand
def test_two_processes_on_one_server_add_at_once(server):
    where = f'{server}#two{time.time_ns()}'
    processes = [adding(where, first, 300, 0.01) for first in (0, 200)]    # 100 images are of both
    for process in processes:
        assert process.communicate()[1] == '' and process.returncode == 0
    check_contents(MilvusGallery(where), range(500), rows(1000))


def test_an_idle_gallery_is_not_asked_whether_it_lives(tmp_path, monkeypatch):
    """gRPC printed two lines on standard error after 40 idle seconds, as while images are embedded."""
    import grpc
    given, channel = [], grpc.insecure_channel
    monkeypatch.setattr(grpc, 'insecure_channel',
                        lambda *args, options=(), **more: (given.append(dict(options)), channel(*args, options, **more))[1])
    MilvusGallery(str(tmp_path / 'gallery.db'), new=True)
    assert [one['grpc.keepalive_time_ms'] for one in given] == [2 ** 31 - 1]   # gRPC: never


@pytest.mark.by_hand
def test_the_second_process_on_a_folder_is_told_so(tmp_path):
    where = str(tmp_path / 'gallery.db')
    add(MilvusGallery(where, new=True), [rows(1000)[:100]], images(0, 100), 'm')
    second = adding(where, 50, 100)
    assert second.communicate()[1] == (f'error: {where}: cannot be opened: another process has it open (a server, '
                                       'http://HOST:PORT, serves several), or it is damaged\n')
    assert second.returncode == 1
    check_contents(MilvusGallery(where), range(100), rows(1000))


@pytest.mark.by_hand
def test_a_server_that_goes_away(serving):
    """The last test of this file: a second server on one machine does not begin."""
    process, where = serving
    adder = adding(where, 0, 400, 0.1)
    for line in adder.stdout:
        if line.strip() == '100':
            stop(process)
            break
    said = adder.communicate()[1]
    assert said == f'error: {where}: the server does not answer; start it and run the command again\n' and adder.returncode == 1

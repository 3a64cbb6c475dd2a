"""The rendered data sets: the same bytes again, readable layouts, the promised statistics, not too easy."""
import hashlib
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.common.errors import InputError
from src.datasets.own_classes import read_classes
from src.samples.image_sample import main, make_described, make_products, make_reid

ROOT = Path(__file__).resolve().parents[2]
NAMES = {'market': re.compile(r'(-1|\d{4})_c(\d)s\d_\d{6}_\d{2}\.jpg'),
         'duke': re.compile(r'(\d{4})_c(\d)_f\d{7}\.jpg')}
SUBS = 'bounding_box_train', 'query', 'bounding_box_test'
FOLDERS = {'market': 'market1501', 'duke': 'DukeMTMC-reID'}


@pytest.fixture(scope='module')
def products(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sample') / 'products'
    return folder, make_products(folder, classes=26, images_per_class=8, size=64, seed=3)


@pytest.fixture(scope='module', params=['market', 'duke'])
def reid(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    counts = make_reid(folder, request.param, identities=20, seed=3)
    return request.param, folder / FOLDERS[request.param], counts


def digest(folder):
    return {file.relative_to(folder).as_posix(): hashlib.md5(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob('*')) if file.is_file()}


def read_list(file):
    lines = file.read_text().splitlines()
    assert lines[0] == 'image_id class_id super_class_id path'
    return [(int(a), int(b), int(c), path) for a, b, c, path in (line.split() for line in lines[1:])]


def reid_rows(root, style, sub):
    """(person, camera) of each picture; every name must be a name of that set."""
    return [tuple(map(int, NAMES[style].fullmatch(file.name).groups())) for file in sorted((root / sub).iterdir())]


def recall_at_1(features, labels):
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = features @ features.T
    np.fill_diagonal(similarity, -2)
    return float((labels[similarity.argmax(1)] == labels).mean())


def test_products_lists_are_stanford_online_products(products):
    folder, counts = products
    train, test = read_list(folder / 'Ebay_train.txt'), read_list(folder / 'Ebay_test.txt')
    assert [row[0] for row in train + test] == list(range(1, 26 * 8 + 1))
    assert [row[1] for row in train + test] == [number for number in range(1, 27) for _ in range(8)]
    assert {row[1] for row in train}.isdisjoint({row[1] for row in test})
    assert counts == {'train_images': len(train), 'train_classes': 13, 'test_images': len(test), 'test_classes': 13}
    supers = {}
    for _, label, kind, path in train + test:
        assert re.fullmatch(r'[a-z_]+_final/\d+_\d+\.JPG', path)
        assert supers.setdefault(kind, path.split('/')[0]) == path.split('/')[0]
        with Image.open(folder / path) as picture:
            assert (picture.size, picture.mode, picture.format) == ((64, 64), 'RGB', 'JPEG')
    assert sorted(supers) == list(range(1, 13)) and len(set(supers.values())) == 12
    for rows in (train, test):
        assert [row[2] for row in rows] == sorted(row[2] for row in rows)
    pictures = {file.relative_to(folder).as_posix() for file in folder.rglob('*.JPG')}
    assert pictures == {row[3] for row in train + test}


def test_products_of_an_odd_number_of_classes(tmp_path):
    counts = make_products(tmp_path / 'odd', classes=3, images_per_class=2, size=32)
    assert counts == {'train_images': 2, 'train_classes': 1, 'test_images': 4, 'test_classes': 2}
    assert [row[1] for row in read_list(tmp_path / 'odd' / 'Ebay_test.txt')] == [2, 2, 3, 3]


def test_every_product_picture_is_different(products):
    hashes = Counter(digest(products[0]).values())
    assert set(hashes.values()) == {1}


def test_products_defeat_pixels_and_colours_but_are_not_noise(products):
    folder, _ = products
    rows = read_list(folder / 'Ebay_train.txt') + read_list(folder / 'Ebay_test.txt')
    labels = np.array([row[1] for row in rows])
    pixels = np.stack([np.asarray(Image.open(folder / row[3]), np.int64) for row in rows])
    bins = (pixels // 32 * (64, 8, 1)).sum(3).reshape(len(rows), -1)
    histograms = np.stack([np.sqrt(np.bincount(row, minlength=512)) for row in bins])
    assert recall_at_1(histograms, labels) < 0.3
    flat = pixels.reshape(len(rows), -1).astype(np.float64)
    assert 2 / 26 < recall_at_1(flat, labels) < 0.4           # twice the chance, far from solved
    between = np.stack([flat[labels == label].mean(0) for label in np.unique(labels)])
    assert between.std(0).mean() > flat.std(0).mean() / np.sqrt(8)     # class means differ by more than noise


def test_colours_are_shared_between_classes(products):
    """Nearly every class has another whose mean colour is nearer than its own pictures usually are."""
    folder, _ = products
    means = defaultdict(list)
    for _, label, _, path in read_list(folder / 'Ebay_test.txt'):
        means[label].append(np.asarray(Image.open(folder / path), np.float64).mean((0, 1)))
    centres = np.stack([np.mean(value, 0) for value in means.values()])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 1e9 * np.eye(len(centres))
    spread = np.mean([np.linalg.norm(np.asarray(value) - np.mean(value, 0), axis=1).mean() for value in means.values()])
    assert (gaps.min(1) < spread).mean() > 0.8


@pytest.mark.parametrize('make', [
    lambda folder, seed: make_products(folder, classes=4, images_per_class=2, size=32, seed=seed),
    lambda folder, seed: make_reid(folder, 'market', identities=4, seed=seed),
    lambda folder, seed: make_reid(folder, 'duke', identities=4, seed=seed)])
def test_the_seed_decides_every_byte(make, tmp_path):
    first, again, other = (make(tmp_path / name, seed) for name, seed in (('a', 5), ('b', 5), ('c', 6)))
    assert first == again
    assert digest(tmp_path / 'a') == digest(tmp_path / 'b')
    assert not set(digest(tmp_path / 'a').values()) & {
        value for name, value in digest(tmp_path / 'c').items() if name.lower().endswith('.jpg')}


def test_reid_layout_and_counts(reid):
    style, root, counts = reid
    assert sorted(file.name for file in root.iterdir()) == ['bounding_box_test', 'bounding_box_train', 'query']
    train, query, gallery = (reid_rows(root, style, sub) for sub in SUBS)
    junk = [row for row in gallery if row[0] == -1]
    gallery = [row for row in gallery if row[0] != -1]
    assert (style == 'market') == bool(junk)
    assert min(person for person, _ in train + query + gallery) >= 1
    assert {camera for _, camera in train + gallery} == set(range(1, {'market': 6, 'duke': 8}[style] + 1))
    trained, tested = ({person for person, _ in rows} for rows in (train, query + gallery))
    assert trained.isdisjoint(tested)
    assert counts == {'train_images': len(train), 'train_identities': len(trained), 'query_images': len(query),
                      'gallery_images': len(gallery), 'junk_images': len(junk), 'test_identities': len(tested),
                      'cameras': {'market': 6, 'duke': 8}[style]}
    for file in root.rglob('*.jpg'):
        with Image.open(file) as picture:
            assert (picture.size, picture.mode, picture.format) == ((64, 128), 'RGB', 'JPEG')


def test_reid_identities_vary_and_queries_have_a_match(reid):
    style, root, _ = reid
    train, query, gallery = (reid_rows(root, style, sub) for sub in SUBS)
    images = Counter(person for person, _ in train)
    cameras = defaultdict(set)
    for person, camera in train:
        cameras[person].add(camera)
    assert len(set(images.values())) > 3 and len({len(value) for value in cameras.values()}) > 2
    assert len(query) == len(set(query))                                 # one query a person and camera
    for person, camera in query:
        assert any(other == person and at != camera for other, at in gallery)


@pytest.mark.parametrize('seed', range(8))
def test_the_smallest_reid_set_has_queries(seed, tmp_path):
    assert make_reid(tmp_path, 'duke', identities=4, cameras=2, seed=seed)['query_images'] > 0


def test_a_camera_changes_more_than_a_pose(reid):
    """Pictures of one person differ more between cameras than within one: raw pixels must not solve the task."""
    style, root, _ = reid
    groups = defaultdict(list)
    for file in sorted((root / 'bounding_box_train').iterdir()):
        person, camera = NAMES[style].fullmatch(file.name).groups()
        groups[person, camera].append(np.asarray(Image.open(file), np.float64))
    within, across = [], []
    for (person, camera), pictures in groups.items():
        within += [np.abs(pictures[0] - other).mean() for other in pictures[1:]]
        across += [np.abs(pictures[0] - others[0]).mean() for (other, at), others in groups.items()
                   if other == person and at != camera]
    assert np.mean(across) > 1.3 * np.mean(within)


def test_nothing_is_written_over(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'note.txt').write_text('keep')
    (tmp_path / 'market1501').mkdir()
    (tmp_path / 'market1501' / 'note.txt').write_text('keep')
    (tmp_path / 'file').write_text('keep')
    for make in (lambda: make_products(tmp_path / 'mine'), lambda: make_products(tmp_path / 'file'),
                 lambda: make_reid(tmp_path)):
        with pytest.raises(InputError, match='remove it or name another') as caught:
            make()
        assert '\n' not in str(caught.value)
    assert sorted(digest(tmp_path)) == ['file', 'market1501/note.txt', 'mine/note.txt']


@pytest.mark.parametrize('make', [lambda folder: make_products(folder, classes=1),
                                  lambda folder: make_products(folder, images_per_class=1),
                                  lambda folder: make_products(folder, size=8),
                                  lambda folder: make_reid(folder, 'cuhk03'),
                                  lambda folder: make_reid(folder, identities=3),
                                  lambda folder: make_reid(folder, cameras=1),
                                  lambda folder: make_reid(folder, cameras=10)])
def test_bad_numbers_are_refused_and_leave_nothing(make, tmp_path):
    with pytest.raises(InputError):
        make(tmp_path / 'new')
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(InputError, match='cannot write .*file/new: Not a directory'):
        make_products(tmp_path / 'file' / 'new')


@pytest.mark.parametrize('seed', ['-1', 'one'])
def test_a_seed_that_is_none(tmp_path, seed):
    with pytest.raises(InputError, match='--seed'):
        main(['market', str(tmp_path / 'root'), f'--seed={seed}'])
    assert not list(tmp_path.iterdir())


def test_command_prints_one_line(tmp_path):
    command = [sys.executable, '-m', 'src.samples.image_sample', 'market', str(tmp_path / 'root')]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ''
    assert len(done.stdout.splitlines()) == 1 and 'query images' in done.stdout
    images = int(re.search(r'(\d+) train images', done.stdout).group(1))
    assert images == len(list((tmp_path / 'root' / 'market1501' / 'bounding_box_train').iterdir()))
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert again.returncode == 2 and again.stdout == '' and len(again.stderr.splitlines()) == 1


def test_described_classes(tmp_path):
    found = make_described(tmp_path / 'a', images_per_class=1, size=16)
    assert found == {'classes': 30, 'unseen_classes': 6, 'images': 30}
    make_described(tmp_path / 'b', images_per_class=1, size=16)
    files = sorted(path.relative_to(tmp_path / 'a') for path in (tmp_path / 'a').rglob('*.JPG'))
    assert len(files) == 31 and all((tmp_path / 'a' / f).read_bytes() == (tmp_path / 'b' / f).read_bytes() for f in files)
    names, semantics = read_classes(str(tmp_path / 'a' / 'classes.csv'))
    added, more = read_classes(str(tmp_path / 'a' / 'added.csv'))
    unseen = (tmp_path / 'a' / 'unseen.txt').read_text().split()
    assert sorted(names) == sorted(path.name for path in (tmp_path / 'a' / 'images').iterdir())
    assert added == [path.name for path in (tmp_path / 'a' / 'added').iterdir()] and not set(added) & set(names)
    assert set(unseen) <= set(names) and (semantics.sum(1) == 2).all() and more.shape[1] == semantics.shape[1]
    # What an unseen class is described by, seen classes have too.
    seen = semantics[[name not in unseen for name in names]]
    assert (seen.sum(0) >= 3).all()

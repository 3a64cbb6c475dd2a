"""The benchmark's files in every storage they come in, their contradictions, and own data written as them."""
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.io

from src.common.errors import InputError
from src.datasets.gbu import Benchmark, open_gbu
from src.datasets.image_list import ImageList
from src.datasets.own_classes import main, read_classes, write_benchmark
from src.retrieval.embedding_file import write_embeddings

CLASSES, EACH, WIDTH, NUMBERS = 9, 6, 5, 4


def arrays(images=CLASSES * EACH):
    """Classes 6 to 8 are unseen, 4 and 5 val; of each seen class the first image is of the seen test."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % CLASSES
    seen = labels < 6
    test = np.arange(images) < CLASSES
    names = np.empty((CLASSES, 1), object)
    names[:, 0] = [f'class {chr(97 + i)}' for i in range(CLASSES)]

    def places(mask):
        return (np.flatnonzero(mask) + 1).astype(np.uint8)[:, None]
    return {'features': rng.random((WIDTH, images)), 'labels': (labels + 1).astype(np.uint8)[:, None]}, {
        'att': rng.random((NUMBERS, CLASSES)), 'allclasses_names': names, 'trainval_loc': places(seen & ~test),
        'test_seen_loc': places(seen & test), 'test_unseen_loc': places(~seen).astype(np.uint16),
        'train_loc': places(labels < 4), 'val_loc': places(seen & (labels >= 4))}


def write(folder, files, v73=False):
    for name, contents in zip(('res101.mat', 'att_splits.mat'), files):
        if not v73:
            scipy.io.savemat(folder / name, contents)
            continue
        with h5py.File(folder / name, 'w', userblock_size=512) as file:
            for key, array in contents.items():
                if array.dtype.kind != 'O':
                    file[key] = array.T
                    continue
                cells = np.empty(array.T.shape, h5py.ref_dtype)
                for i, text in enumerate(array.ravel()):
                    file[f'#refs#/{i}'] = np.array([[ord(c)] for c in text], np.uint16)
                    cells[0, i] = file[f'#refs#/{i}'].ref
                file[key] = cells


@pytest.mark.parametrize('v73', [False, True])
@pytest.mark.parametrize('images', [CLASSES * EACH, WIDTH * 11])
def test_both_versions(tmp_path, v73, images):
    files = arrays(images)
    write(tmp_path, files, v73)
    bench = open_gbu(tmp_path)
    np.testing.assert_array_equal(bench.features, files[0]['features'].T.astype(np.float32))
    np.testing.assert_array_equal(bench.semantics, files[1]['att'].T.astype(np.float32))
    assert bench.names[:2] == ['class a', 'class b']
    assert bench.labels.dtype == bench.trainval.dtype == np.int64
    np.testing.assert_array_equal(bench.test_unseen, np.flatnonzero(np.arange(images) % CLASSES >= 6))
    data = bench.final()
    np.testing.assert_array_equal(data.test.class_ids, [6, 7, 8])
    np.testing.assert_array_equal(data.train_semantics[0], bench.semantics[data.train_labels])
    chosen = bench.choosing(3)
    np.testing.assert_array_equal(chosen.test.class_ids, [4, 5])
    together = np.concatenate([chosen.train_features, chosen.seen_test.features, chosen.test.features])
    # Nothing but trainval is looked at to choose, though train_loc lists images of the seen test.
    assert sorted(map(tuple, together)) == sorted(map(tuple, bench.features[bench.trainval]))
    assert set(chosen.seen_test.labels) == {0, 1, 2, 3}


def test_square_matrices_are_turned_as_their_version_says(tmp_path):
    files = arrays()
    square = np.random.default_rng(1).random((CLASSES, CLASSES))
    for v73 in (False, True):
        folder = tmp_path / str(v73)
        folder.mkdir()
        write(folder, (files[0], {**files[1], 'att': square}), v73)
        np.testing.assert_array_equal(open_gbu(folder).semantics, square.T.astype(np.float32))


def test_without_names_and_val_classes(tmp_path):
    files = arrays()
    write(tmp_path, (files[0], {k: v for k, v in files[1].items() if k not in ('allclasses_names', 'val_loc')}))
    bench = open_gbu(tmp_path)
    assert bench.names[0] == 'class 1' and bench.val_classes is None
    assert len(bench.choosing(0).test.class_ids) == 2
    assert '9 classes, 3 unseen, 4 numbers a class' in bench.statistics()


@pytest.mark.parametrize('change, words', [
    (lambda f, s: f.update(labels=f['labels'] + 1), 'labels must hold whole numbers from 1 to 9'),
    (lambda f, s: s.update(trainval_loc=s['trainval_loc'].astype(float) * 100), 'trainval_loc must hold'),
    (lambda f, s: s.update(test_seen_loc=s['trainval_loc']), 'is in trainval_loc and in test_seen_loc'),
    (lambda f, s: s.update(test_unseen_loc=s['test_seen_loc'] + 54 - 54), 'is in test_seen_loc and in test_unseen_loc'),
    (lambda f, s: s.update(test_seen_loc=s['test_seen_loc'][[0, 1, 1]]), 'image 2 comes twice in test_seen_loc'),
    (lambda f, s: s['allclasses_names'].__setitem__(1, 'class  a'), "allclasses_names: 'class a' .* comes twice"),
    (lambda f, s: s['allclasses_names'].__setitem__(1, ' '), "allclasses_names: '' is empty"),
    (lambda f, s: s['allclasses_names'].__setitem__(1, 'b\x07'), r"allclasses_names: 'b\\x07' is empty, not printable"),
    (lambda f, s: s.update(allclasses_names=np.arange(9.0)), r'allclasses_names holds no texts; .*cellstr'),
    (lambda f, s: s.update(val_loc=s['test_unseen_loc']), 'class class g is in val_loc and not in trainval_loc'),
    (lambda f, s: f.update(features=f['features'] * 1e20), r'features has values up to .*e\+19, too large'),
    (lambda f, s: f.update(features=f['features'] * 1e-30), 'features has values up to .*e-31, too small'),
    (lambda f, s: s.pop('trainval_loc'), 'no variable trainval_loc'),
    (lambda f, s: f.update(features=f['features'][:, :-1]), 'one of two sides must be 54')])
def test_contradictions(tmp_path, change, words):
    files = arrays()
    change(*files)
    write(tmp_path, files)
    with pytest.raises(InputError, match=words):
        open_gbu(tmp_path)


def test_a_class_of_one_image_is_trained_on_where_something_is_chosen():
    labels = np.array([0, 0, 0, 0, 1, 2, 2, 2])
    bench = Benchmark(np.zeros((8, 2), np.float32), labels, np.eye(3, dtype=np.float32), ['a', 'b', 'c'], np.arange(8),
                      np.arange(0), np.arange(0), np.array([2]))
    data = bench.choosing(0)
    assert sorted(data.train_labels.tolist()) == [0, 0, 0, 1] and data.seen_test.labels.tolist() == [0]
    assert data.test.labels.tolist() == [2, 2, 2] and data.seen_test.class_ids.tolist() == [0, 1]


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match='res101.mat: no such file'):
        open_gbu(tmp_path)


def test_real_cub_is_as_published(shared_data):
    split = scipy.io.loadmat(shared_data / 'GBU' / 'CUB' / 'att_splits.mat')
    assert [split[name].size for name in ('trainval_loc', 'test_seen_loc', 'test_unseen_loc')] == [7057, 1764, 2967]


def test_own_data_is_written_and_read_again(tmp_path, capsys):
    rng = np.random.default_rng(0)
    names = ['ant', 'bee', 'cat', 'dog', 'eel']
    paths = [f'pictures/{name}/{i}.png' for name in names for i in range(5)]
    embeddings = rng.random((25, 3)).astype(np.float32)
    write_embeddings(str(tmp_path / 'e.npz'), [embeddings], ImageList(paths, None), model='m+32x32')
    (tmp_path / 'classes.csv').write_text('name,size,legs\n' + ''.join(f'{n},{i},{i + 1}\n' for i, n in enumerate(names)))
    (tmp_path / 'unseen.txt').write_text('\ufeffbee\r\neel\n')  # as Windows writes it
    main([str(tmp_path / name) for name in ('e.npz', 'classes.csv', 'unseen.txt', 'out')] + ['--by=folder'])
    assert '3 seen and 2 unseen classes, 12 images to train on, 3 and 10 to test' in capsys.readouterr().out
    bench = open_gbu(tmp_path / 'out')
    assert bench.names == names and bench.image_model == 'm+32x32'
    np.testing.assert_array_equal(bench.features, embeddings)
    np.testing.assert_array_equal(bench.labels, np.repeat(np.arange(5), 5))
    np.testing.assert_allclose(np.linalg.norm(bench.semantics, axis=1), 1, rtol=1e-6)
    assert len(bench.val_classes) == 1
    (tmp_path / 'unseen.txt').write_text('fox\n')
    with pytest.raises(InputError, match='class fox is not in'):
        write_benchmark(*(str(tmp_path / name) for name in ('e.npz', 'classes.csv', 'unseen.txt', 'out')), 'folder')
    (tmp_path / 'unseen.txt').write_text('\n'.join(names[1:]))
    with pytest.raises(InputError, match='unseen.txt: leaves images of one class for training'):
        write_benchmark(*(str(tmp_path / name) for name in ('e.npz', 'classes.csv', 'unseen.txt', 'out')), 'folder')
    with pytest.raises(InputError, match='trainval_loc has images of 1 classes'):
        replace(bench, trainval=np.flatnonzero(bench.labels == 0)).choosing(0)


def test_the_user_says_what_names_the_class_of_an_image(tmp_path):
    """Pictures of 6 people by 3 cameras: folders are cameras, labels are people, and both are numbers."""
    paths = [f'pictures/{camera}/{person}_{i}.png' for person in range(1, 7) for camera in (1, 2, 3) for i in range(2)]
    labels = np.repeat(np.arange(1, 7), 6)
    np.savez(tmp_path / 'e.npz', embeddings=np.random.default_rng(0).random((36, 3), np.float32), paths=np.array(paths),
             labels=labels)
    np.savez(tmp_path / 'bare.npz', embeddings=np.ones((36, 3), np.float32), paths=np.array(paths))
    # Class 7 has no picture, 5 and 7 equal numbers.
    (tmp_path / 'c.csv').write_text(''.join(f'{i},{i % 2},{min(i, 5)}\n' for i in range(1, 8)))
    (tmp_path / 'u.txt').write_text('2\n7\n')
    files = [str(tmp_path / name) for name in ('e.npz', 'c.csv', 'u.txt')]
    assert 'classes 5 and 7 have equal numbers' in write_benchmark(*files, str(tmp_path / 'label'), 'label')
    bench = open_gbu(tmp_path / 'label')
    np.testing.assert_array_equal(bench.labels, labels - 1)
    data = bench.final()
    assert data.test.class_ids.tolist() == [1, 6] and set(data.test.labels) == {1}
    assert 'unseen (' not in bench.statistics() and '2 unseen' in bench.statistics()
    write_benchmark(*files, str(tmp_path / 'folder'), 'folder')
    np.testing.assert_array_equal(open_gbu(tmp_path / 'folder').labels, [int(path.split('/')[1]) - 1 for path in paths])
    # Folders 1..3 against names 0..2: a missing one is named, nothing is shifted.
    (tmp_path / 'c.csv').write_text(''.join(f'{i},{i}\n' for i in range(3)))
    (tmp_path / 'u.txt').write_text('2\n')
    assert open_gbu(tmp_path / 'folder').image_model is None
    with pytest.raises(InputError, match='no class 3, the folder of pictures/3/1_0.png'):
        write_benchmark(*files, str(tmp_path / 'no'), 'folder')
    with pytest.raises(InputError, match='bare.npz: has no labels; give --by=folder'):
        write_benchmark(str(tmp_path / 'bare.npz'), *files[1:], str(tmp_path / 'no'), 'label')
    with pytest.raises(InputError, match='folder, --by'):
        main(files)
    (tmp_path / 'theirs').mkdir()
    for name in ('att_splits.mat', 'res101.mat'):
        (tmp_path / 'theirs' / name).write_text('theirs')
        with pytest.raises(InputError, match=f'{name}: exists, and was not written'):
            write_benchmark(*files, str(tmp_path / 'theirs'), 'folder')
        (tmp_path / 'theirs' / name).unlink()


@pytest.mark.parametrize('text', ['name;a;b\nx;1;2\n', 'x;1;2\n', 'name\ta\tb\nx\t1\t2\n', '\n"x; y",1,2\n'])
def test_delimiters_of_classes(tmp_path, text):
    (tmp_path / 'c.csv').write_text(text)
    names, numbers = read_classes(str(tmp_path / 'c.csv'))
    assert names == [text.strip().splitlines()[-1][:1] if '"' not in text else 'x; y'] and numbers.tolist() == [[1, 2]]


@pytest.mark.parametrize('text, words', [
    ('a,1\nb,1,2\n', ':2: class .b'), ('a,1\na,2\n', 'comes twice'), ('a,1\nb,x\n', ':2: class .b'), ('name,x\n', 'no class'),
    ('', 'no class'), ('a,1\nb,nan\n', 'finite'), ('a,1,x\nb,1,2\n', ':1: .*finite'), ('a,x\nb,1\n', ':1: .*finite'),
    ('a,1\nb,1_5\n', 'finite'), ('a,1\nb,1e39\n', 'finite'), ('a,1\n,2\n', 'not empty'), ('a,1\n"b\tc",2\n', 'printable'),
    ('a,1\n"b,2\n', 'quotes'), ('a,1\nb\n', 'it has 0'), ('a,1e30\nb,1\n', 'too large'), ('a,1e-30\nb,0\n', 'too small')])
def test_bad_classes(tmp_path, text, words):
    (tmp_path / 'c.csv').write_text(text)
    with pytest.raises(InputError, match=words):
        read_classes(str(tmp_path / 'c.csv'))

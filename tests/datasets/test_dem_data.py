"""load_dem and its validation splits: published layout in every storage it comes in, contradictions, real data."""
import os

import h5py
import numpy as np
import pytest
import scipy.io

from src.common.errors import InputError
from src.datasets.dem import load_dem
from src.datasets.zero_shot_data import EvalPart, ZeroShotData, hold_out

SEEN, UNSEEN, IMAGES, VISUAL = 5, 3, 4, 16
IDS = np.array([41, 7, 19])
WIDTHS = {'AwA': {'att': 6, 'word': 11}, 'CUB': {'att': 8, 'word': 11}}
NAMES = {
    'AwA': dict(train='train_googlenet_bn', test='test_googlenet_bn', labels='test_labels', ids='testclasses_id',
                att_train='attribute/Z_s_con', att_test='attribute/pca_te_con_10x85',
                word_train='wordvector/train_word', word_test='wordvector/test_vectors'),
    'CUB': dict(train='train_cub_googlenet_bn', test='test_cub_googlenet_bn', labels='test_labels_cub',
                ids='testclasses_id', att_train='train_attr', att_test='test_proto',
                word_train='wordvector/train_word', word_test='wordvector/test_vectors'),
}


def make_arrays(dataset):
    """What the files hold, by part; images of a class are not neighbours, float64 not representable in float16."""
    rng = np.random.default_rng(1)
    seen_class = np.tile([3, 0, 4, 1, 2], IMAGES)
    arrays = {'train': rng.random((SEEN * IMAGES, VISUAL), np.float32),
              'test': rng.random((UNSEEN * IMAGES, VISUAL), np.float32),
              'labels': np.tile(IDS, IMAGES)[:, None], 'ids': IDS[:, None]}
    for kind, width in WIDTHS[dataset].items():
        prototypes = rng.normal(size=(SEEN, width))
        prototypes[:, 0] = -0.0
        arrays[f'{kind}_train'] = prototypes[seen_class]
        arrays[f'{kind}_train'][::2, 0] = 0.0
        arrays[f'{kind}_test'] = rng.normal(size=(UNSEEN, width))
    return arrays


def location(folder, dataset, part):
    return os.path.join(str(folder), f'{dataset}_data', NAMES[dataset][part] + '.mat')


def write(folder, dataset, part, array, v73=False):
    path = location(folder, dataset, part)
    name = os.path.basename(path)[:-4]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if v73:
        with h5py.File(path, 'w', userblock_size=512) as contents:
            contents[name] = array
    else:
        scipy.io.savemat(path, {name: array})
    return path


def write_all(folder, dataset, change=lambda part, array: array, v73=lambda part: part == 'att_train'):
    arrays = make_arrays(dataset)
    for part, array in arrays.items():
        write(folder, dataset, part, change(part, array), v73(part))
    return arrays


def check(data, arrays, mode):
    kinds = {'att': ['att'], 'word': ['word'], 'fusion': ['att', 'word']}[mode]
    np.testing.assert_array_equal(data.train_features, arrays['train'])
    np.testing.assert_array_equal(data.test.features, arrays['test'])
    np.testing.assert_array_equal(data.test.labels, arrays['labels'].ravel())
    np.testing.assert_array_equal(data.test.class_ids, IDS)
    assert len(data.train_semantics) == len(data.test.semantics) == len(kinds)
    for kind, seen, unseen in zip(kinds, data.train_semantics, data.test.semantics):
        np.testing.assert_array_equal(seen, arrays[f'{kind}_train'].astype(np.float32))
        np.testing.assert_array_equal(unseen, arrays[f'{kind}_test'].astype(np.float32))
    # 3, 0, 4, 1, 2 repeated is numbered 0, 1, 2, 3, 4 repeated by first appearance.
    np.testing.assert_array_equal(data.train_labels, np.tile(np.arange(SEEN), IMAGES))
    np.testing.assert_array_equal(data.seen_class_ids, np.arange(SEEN))
    for prototypes, rows in zip(data.seen_prototypes, data.train_semantics):
        np.testing.assert_array_equal(prototypes, rows[:SEEN])
    for array in (data.train_features, data.test.features, *data.train_semantics, *data.test.semantics):
        assert array.dtype == np.float32 and array.flags.c_contiguous
    for array in (data.train_labels, data.test.labels, data.test.class_ids):
        assert array.dtype == np.int64


@pytest.mark.parametrize('mode', ['att', 'word', 'fusion'])
@pytest.mark.parametrize('dataset', ['AwA', 'CUB'])
def test_published_layout(tmp_path, dataset, mode):
    arrays = write_all(tmp_path, dataset)
    check(load_dem(tmp_path, dataset, mode), arrays, mode)


@pytest.mark.parametrize('v73', [False, True])
@pytest.mark.parametrize('change', [
    lambda part, a: a.T,
    lambda part, a: a.squeeze(),
    lambda part, a: a[:, None],
    lambda part, a: a.T if 'test' in part else a,
    lambda part, a: a.astype(np.float64),
    lambda part, a: a.astype(np.uint8) if part in ('labels', 'ids') else a.astype(np.float64),
    lambda part, a: a.astype(np.int32).ravel() if part in ('labels', 'ids') else a,
], ids=['transposed', 'squeezed', 'three axes', 'half transposed', 'double', 'uint8 labels', 'int32 flat labels'])
def test_other_storage(tmp_path, change, v73):
    arrays = write_all(tmp_path, 'AwA', change, lambda part: v73)
    check(load_dem(str(tmp_path), 'AwA', 'fusion'), arrays, 'fusion')


def test_square_matrix_is_taken_as_documented(tmp_path):
    rng = np.random.default_rng(2)
    square = rng.normal(size=(UNSEEN, UNSEEN)).astype(np.float32)
    write_all(tmp_path, 'CUB', lambda part, a: {'att_test': square, 'att_train': a[:, :UNSEEN]}.get(part, a))
    np.testing.assert_array_equal(load_dem(tmp_path, 'CUB', 'att').test.semantics[0], square)


def test_one_unseen_class_one_feature(tmp_path):
    arrays = make_arrays('CUB')
    for part, array in (('train', arrays['train'][:, :1]), ('test', arrays['test'][:4, :1]), ('ids', IDS[:1]),
                        ('labels', np.full(4, IDS[0])), ('att_train', arrays['att_train']),
                        ('att_test', arrays['att_test'][0])):
        write(tmp_path, 'CUB', part, array)
    data = load_dem(tmp_path, 'CUB', 'att')
    assert data.test.features.shape == (4, 1) and data.train_features.shape == (20, 1)
    assert data.test.semantics[0].shape == (1, 8)


def refused(folder, part, *words, dataset='CUB', mode='att'):
    with pytest.raises(InputError) as caught:
        load_dem(folder, dataset, mode)
    message = str(caught.value)
    assert '\n' not in message
    path = location(folder, dataset, part)
    for word in (path, *words):
        assert word in message, message


def spoil(part, function):
    return lambda name, array: function(array) if name == part else array


@pytest.mark.parametrize('part, function, words', [
    ('labels', lambda a: a + 0.5, ['whole numbers']),
    ('labels', lambda a: a * 1e300, ['whole numbers']),
    ('labels', lambda a: np.full_like(a, 5), ['not in', 'testclasses_id', ' 5']),
    ('labels', lambda a: np.tile(a, 2), ['vector']),
    ('ids', lambda a: np.array([[41], [7], [41]]), ['repeated']),
    ('test', lambda a: a[1:], ['12', 'labels']),
    ('train', lambda a: a[:, 1:], ['16', 'features']),
    ('train', lambda a: a.reshape(2, 10, 16), ['(2, 10, 16)']),
    ('att_train', lambda a: a[1:], ['20', 'images']),
    ('att_test', lambda a: a[1:], ['3', 'classes']),
    ('att_test', lambda a: a[:, 1:], ['7', '8', 'train_attr']),
    ('att_train', lambda a: a * 1e300, ['float32']),
    ('test', lambda a: a * 1000, ['test_cub_googlenet_bn has values of about 6e+02', 'of about 0.6; scale both']),
    ('att_test', lambda a: a / 100, ['test_proto has values of about 0.007', 'train_attr']),
    ('train', lambda a: np.where(a == a[3, 3], np.nan, a), ['NaN']),
    ('att_test', lambda a: np.where(a == a[1, 1], np.inf, a), ['infinite']),
])
def test_contradictions_and_bad_values(tmp_path, part, function, words):
    write_all(tmp_path, 'CUB', spoil(part, function))
    refused(tmp_path, part, *words)


@pytest.mark.parametrize('mode', ['att', 'word', 'fusion'])
@pytest.mark.parametrize('dataset', ['AwA', 'CUB'])
def test_every_missing_file_is_named(tmp_path, dataset, mode):
    write_all(tmp_path, dataset)
    for part in NAMES[dataset]:
        if part.startswith({'att': 'word', 'word': 'att', 'fusion': '-'}[mode]):
            continue
        path = location(tmp_path, dataset, part)
        os.rename(path, path + '.away')
        refused(tmp_path, part, dataset=dataset, mode=mode)
        os.rename(path + '.away', path)
    load_dem(tmp_path, dataset, mode)


def test_published_cub_has_no_word_vectors(tmp_path):
    write_all(tmp_path, 'CUB')
    for part in ('word_train', 'word_test'):
        os.rename(location(tmp_path, 'CUB', part), location(tmp_path, 'CUB', part) + '.away')
    load_dem(tmp_path, 'CUB', 'att')
    refused(tmp_path, 'word_train', 'no word vectors', '--train_mode=word', mode='word')
    refused(tmp_path, 'word_train', 'no word vectors', '--train_mode=fusion', mode='fusion')


def test_wrong_flags(tmp_path):
    write_all(tmp_path, 'CUB')
    for arguments, word in (((tmp_path, 'AwA', 'att'), '--data_path'), ((tmp_path, 'awa', 'att'), '--dataset'),
                            ((tmp_path, 'CUB', 'both'), '--train_mode')):
        with pytest.raises(InputError, match=word):
            load_dem(*arguments)


def make_data(seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(9), rng.integers(0, 9, 91)])
    prototypes = [rng.normal(size=(9, width)).astype(np.float32) for width in (4, 7)]
    features = np.arange(100, dtype=np.float32)[:, None]
    return ZeroShotData(features, tuple(p[labels] for p in prototypes), labels,
                        EvalPart(features, labels, np.arange(9), tuple(prototypes)))


def check_parts(data, train, part):
    """Nothing lost, nothing twice, every image keeps its label and semantics, the test part is untouched."""
    images = np.concatenate([train.train_features, part.features]).ravel().astype(int)
    np.testing.assert_array_equal(np.sort(images), np.arange(100))
    np.testing.assert_array_equal(data.train_labels[images], np.concatenate([train.train_labels, part.labels]))
    for i in range(2):
        np.testing.assert_array_equal(train.train_semantics[i], data.seen_prototypes[i][train.train_labels])
        np.testing.assert_array_equal(part.semantics[i], data.seen_prototypes[i][part.class_ids])
    assert np.isin(part.labels, part.class_ids).all()
    assert train.test.features is data.test.features and train.test.labels is data.test.labels
    assert train.test.semantics is data.test.semantics and train.test.class_ids is data.test.class_ids


@pytest.mark.parametrize('seed', range(5))
def test_hold_out_images(seed):
    data = make_data(seed)
    train, part = hold_out(data, 0.2, seed, 'images')
    check_parts(data, train, part)
    assert len(part.labels) == 20
    np.testing.assert_array_equal(part.class_ids, np.arange(9))
    np.testing.assert_array_equal(hold_out(data, 0.2, seed, 'images')[1].features, part.features)
    assert not np.array_equal(hold_out(data, 0.2, seed + 1, 'images')[1].features, part.features)


@pytest.mark.parametrize('amount, size', [(0.1, 1), (4 / 9, 4), (8 / 9, 8), (0.2, 2), (1 / 3, 3)])
def test_hold_out_classes(amount, size):
    data = make_data(0)
    chosen = set()
    for seed in range(8):
        train, part = hold_out(data, amount, seed, 'classes')
        check_parts(data, train, part)
        assert len(part.class_ids) == size
        assert not set(part.class_ids) & set(train.train_labels)
        np.testing.assert_array_equal(train.seen_class_ids, np.setdiff1d(np.arange(9), part.class_ids))
        np.testing.assert_array_equal(train.seen_prototypes[1], data.seen_prototypes[1][train.seen_class_ids])
        np.testing.assert_array_equal(hold_out(data, amount, seed, 'classes')[1].class_ids, part.class_ids)
        chosen.add(tuple(part.class_ids))
    assert len(chosen) > 1


def test_splits_of_a_split():
    data = make_data(0)
    train, _ = hold_out(data, 1 / 3, 0, 'classes')
    rest, part = hold_out(train, 0.5, 0, 'images')
    np.testing.assert_array_equal(part.class_ids, train.seen_class_ids)
    for i in range(2):
        np.testing.assert_array_equal(part.semantics[i], data.seen_prototypes[i][part.class_ids])
    assert len(rest.train_labels) + len(part.labels) == len(train.train_labels)


@pytest.mark.parametrize('by', ['images', 'classes'])
@pytest.mark.parametrize('amount', [0.0, 1.0, -1, 0.999])
def test_impossible_split(by, amount):
    with pytest.raises(InputError, match='validation split'):
        hold_out(make_data(0), amount, 0, by)


@pytest.mark.slow
@pytest.mark.parametrize('dataset, mode, train, test, widths, seen', [
    ('CUB', 'att', (8855, 4096), (2933, 4096), [312], 150),
    ('AwA', 'fusion', (24295, 1024), (6180, 1024), [85, 1000], 40)])
def test_real_data(shared_data, dataset, mode, train, test, widths, seen):
    data = load_dem(shared_data / 'DEM_data', dataset, mode)
    assert data.train_features.shape == train and data.test.features.shape == test
    assert [s.shape for s in data.train_semantics] == [(train[0], width) for width in widths]
    assert [s.shape for s in data.test.semantics] == [(200 - seen if seen == 150 else 10, width) for width in widths]
    assert len(data.seen_class_ids) == seen
    assert set(data.test.labels) == set(data.test.class_ids)
    for prototypes, rows in zip(data.seen_prototypes, data.train_semantics):
        np.testing.assert_array_equal(prototypes[data.train_labels], rows)


def test_real_cub_has_no_word_vectors(shared_data):
    with pytest.raises(InputError, match='no word vectors'):
        load_dem(shared_data / 'DEM_data', 'CUB', 'fusion')

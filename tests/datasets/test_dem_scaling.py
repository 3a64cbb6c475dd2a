"""Scaling by the seen classes' statistics, and batches beside all seen classes."""
import numpy as np
import pytest

from src.datasets.dem import DemData, create_prototype_dataset, scale_part, scale_train


def data(seed=0, classes=5, images=40):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    semantics = rng.uniform(0, 100, (classes, 7)).astype(np.float32)
    features = rng.gamma(1.0, 2.0, (images, 11)).astype(np.float32)
    return DemData(features, (semantics[labels],), labels, rng.gamma(1.0, 2.0, (9, 11)).astype(np.float32),
                   np.arange(9) % 3 + 20, np.arange(20, 23), (rng.uniform(0, 100, (3, 7)).astype(np.float32),))


def naive_features(train, rows):
    mean = sum(row.astype(float) for row in train) / len(train)
    centred = [row.astype(float) - mean for row in rows]
    return np.array([row / (row @ row) ** 0.5 for row in centred])


def test_centred_equals_its_definition():
    loaded = data()
    part = scale_part(loaded, loaded.test, 'centred', 'root_centred')
    train = scale_train(loaded, 'centred', 'root_centred')
    np.testing.assert_allclose(part.features, naive_features(loaded.train_features, loaded.test_features), atol=1e-5)
    np.testing.assert_allclose(train.train_features, naive_features(loaded.train_features, loaded.train_features),
                               atol=1e-5)
    root = np.sqrt(loaded.seen_prototypes[0].astype(float))
    spread = (((root - root.mean(0)) ** 2).sum() / root.size) ** 0.5
    expected = (np.sqrt(loaded.test_semantics[0].astype(float)) - root.mean(0)) / spread
    np.testing.assert_allclose(part.semantics[0], expected, atol=1e-5)
    np.testing.assert_array_equal(train.seen_class_ids, loaded.seen_class_ids)
    assert part.features.dtype == part.semantics[0].dtype == train.train_features.dtype == np.float32


def test_statistics_are_the_training_datas_alone():
    loaded, other = data(), data(seed=1)
    with_other_test = DemData(**{**vars(loaded), 'test_features': other.test_features,
                                 'test_semantics': other.test_semantics})
    one = scale_part(loaded, loaded.test, 'centred', 'root_centred')
    same = scale_part(with_other_test, loaded.test, 'centred', 'root_centred')
    np.testing.assert_array_equal(one.features, same.features)
    np.testing.assert_array_equal(one.semantics[0], same.semantics[0])


def test_none_changes_nothing():
    loaded = data()
    assert scale_part(loaded, loaded.test).features is loaded.test.features
    np.testing.assert_array_equal(scale_train(loaded).train_semantics[0], loaded.train_semantics[0])


def read(dataset):
    return list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))


@pytest.mark.parametrize('rank, size', [(0, 1), (0, 2), (1, 2)])
def test_prototype_batches(rank, size):
    loaded = data()
    batches = read(create_prototype_dataset(loaded, 6, 3, 2, rank, size, 0, (0.25, 0.5), 16))
    assert len(batches) == 40 // (6 * size)
    kept = []
    for semantics, keep, features, labels in batches:
        ratio = semantics / loaded.seen_prototypes[0]
        assert np.isclose(ratio, 0).sum() + np.isclose(ratio, 4 / 3).sum() == ratio.size
        assert keep.shape == (5, 16) and set(np.unique(keep)) <= {0.0, 2.0}
        kept.append(keep)
        for feature, label in zip(features, labels):
            image = int(np.flatnonzero((loaded.train_features == feature).all(1))[0])
            assert loaded.train_labels[image] == label
    assert not np.array_equal(kept[0], kept[1])
    assert 0.3 < np.mean([keep > 0 for keep in kept]) < 0.7


def test_without_dropout_the_semantics_are_whole():
    loaded = data()
    for semantics, features, labels in read(create_prototype_dataset(loaded, 6, 3, 2)):
        np.testing.assert_array_equal(semantics, loaded.seen_prototypes[0])


def test_an_epoch_entered_half_way_goes_on_as_it_would_have():
    loaded = data()
    whole = read(create_prototype_dataset(loaded, 6, 3, 2, dropout=(0.2, 0.5), hidden_dim=16))
    rest = read(create_prototype_dataset(loaded, 6, 3, 2, skip=4, dropout=(0.2, 0.5), hidden_dim=16))
    assert len(rest) == len(whole) - 4
    for one, other in zip(whole[4:], rest):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)

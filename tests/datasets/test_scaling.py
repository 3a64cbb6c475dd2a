"""Scaling by the seen classes' statistics."""
import numpy as np
import pytest

from src.datasets.scaling import FEATURE_SCALING, SEMANTICS_SCALING, fit_scaling, principal_directions
from src.datasets.zero_shot_data import EvalPart, ZeroShotData


def data(seed=0, classes=5, images=40):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    semantics = rng.uniform(0, 100, (classes, 7)).astype(np.float32)
    features = rng.gamma(1.0, 2.0, (images, 11)).astype(np.float32)
    test = EvalPart(rng.gamma(1.0, 2.0, (9, 11)).astype(np.float32), np.arange(9) % 3 + 20, np.arange(20, 23),
                    (rng.uniform(0, 100, (3, 7)).astype(np.float32),))
    return ZeroShotData(features, (semantics[labels],), labels, test)


def naive_features(train, rows):
    mean = sum(row.astype(float) for row in train) / len(train)
    centred = [row.astype(float) - mean for row in rows]
    return np.array([row / (row @ row) ** 0.5 for row in centred])


@pytest.mark.parametrize('name, before', [('centred', lambda rows: rows),
                                          ('root_centred', lambda rows: np.sign(rows) * np.sqrt(np.abs(rows)))])
def test_equals_its_definition(name, before):
    loaded = data()
    scaling = fit_scaling(loaded, name, 'root_centred')
    part, train = scaling.part(loaded.test), scaling.train(loaded)
    features = before(loaded.train_features)
    np.testing.assert_allclose(part.features, naive_features(features, before(loaded.test.features)), atol=1e-5)
    np.testing.assert_allclose(train.train_features, naive_features(features, features), atol=1e-5)
    root = np.sqrt(loaded.seen_prototypes[0].astype(float))
    spread = (((root - root.mean(0)) ** 2).sum() / root.size) ** 0.5
    expected = (np.sqrt(loaded.test.semantics[0].astype(float)) - root.mean(0)) / spread
    np.testing.assert_allclose(part.semantics[0], expected, atol=1e-5)
    np.testing.assert_array_equal(train.seen_class_ids, loaded.seen_class_ids)
    assert part.features.dtype == part.semantics[0].dtype == train.train_features.dtype == np.float32


@pytest.mark.parametrize('features', FEATURE_SCALING)
@pytest.mark.parametrize('semantics', SEMANTICS_SCALING)
def test_statistics_are_the_training_datas_alone(features, semantics):
    loaded = data()
    one = fit_scaling(loaded, features, semantics).part(loaded.test)
    same = fit_scaling(ZeroShotData(loaded.train_features, loaded.train_semantics, loaded.train_labels,
                                    data(seed=1).test), features, semantics).part(loaded.test)
    np.testing.assert_array_equal(one.features, same.features)
    np.testing.assert_array_equal(one.semantics[0], same.semantics[0])
    assert np.isfinite(one.features).all() and np.isfinite(one.semantics[0]).all()


def test_none_changes_nothing():
    loaded = data()
    scaling = fit_scaling(loaded)
    assert scaling.part(loaded.test).features is loaded.test.features
    np.testing.assert_array_equal(scaling.train(loaded).train_semantics[0], loaded.train_semantics[0])


def test_principal_directions_are_those_of_the_largest_variance():
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((300, 40)) @ np.diag(0.7 ** np.arange(40))).astype(np.float32)
    rows -= rows.mean(0)
    found = principal_directions(rows, 6)
    expected = np.linalg.svd(rows.astype(float))[2][:6].T
    np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1, atol=1e-3)


def test_principal_features_keep_the_angles_of_what_is_left():
    rng = np.random.default_rng(4)
    base = np.linalg.qr(rng.standard_normal((60, 8)))[0].T
    features = (rng.standard_normal((30, 8)) @ base).astype(np.float32)
    labels = np.arange(30) % 5
    loaded = ZeroShotData(features, (np.eye(5, dtype=np.float32)[labels],), labels, data().test)
    whole, some = (fit_scaling(loaded, name).train(loaded).train_features for name in ('centred', 'principal'))
    assert some.shape == (30, 15)  # half the images: more directions would be noise
    np.testing.assert_allclose(some @ some.T, whole @ whole.T, atol=1e-5)


def test_equal_classes_and_equal_images_stay_finite():
    loaded = ZeroShotData(np.ones((6, 4), np.float32), (np.ones((6, 3), np.float32),), np.arange(6), data().test)
    train = fit_scaling(loaded, 'centred', 'centred').train(loaded)
    assert not train.train_features.any() and not train.train_semantics[0].any()

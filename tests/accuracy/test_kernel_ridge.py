"""Kernel ridge regression against loops, gradient and ridge regression over images."""
import numpy as np
import pytest

from src.accuracy.kernel_ridge import fit_kernel_ridge, kernel
from src.common.arrays import unit_rows
from src.common.whitening import class_means, whitening

rng = np.random.default_rng(0)
LABELS = np.array([0, 2, 1, 2, 2, 0, 1, 2, 3])
FEATURES = rng.standard_normal((9, 5)).astype(np.float32)
SEMANTICS = rng.standard_normal((4, 3)).astype(np.float32)


@pytest.mark.parametrize('width', [0.0, 0.7])
def test_kernel(width):
    other = rng.standard_normal((2, 3))
    for i, a in enumerate(SEMANTICS.astype(float)):
        for j, b in enumerate(other):
            wanted = np.exp(-width * sum((a - b) ** 2) / 3) if width else sum(a * b) / 3
            assert kernel(SEMANTICS, other, width)[i, j] == pytest.approx(wanted, abs=1e-7)


def test_class_means_and_unit_rows():
    means, numbers = class_means(FEATURES, LABELS, 4)
    for c in range(4):
        np.testing.assert_allclose(means[c], FEATURES[LABELS == c].mean(0), atol=1e-6)
    assert numbers.tolist() == [2, 2, 4, 1]
    assert unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0, 0], [0.6, 0.8]]


def test_linear_kernel_is_ridge_regression_over_images():
    ridge, own = 0.2, SEMANTICS.astype(float)[LABELS]
    # The mean number of images a class is what the ridge is measured against, A what the kernel is divided by.
    matrix = np.linalg.solve(own.T @ own + ridge * len(LABELS) / 4 * 3 * np.eye(3), own.T @ FEATURES)
    weights = fit_kernel_ridge(FEATURES, LABELS, SEMANTICS, 0.0, ridge)
    new = rng.standard_normal((6, 3))
    np.testing.assert_allclose(kernel(new, SEMANTICS, 0.0) @ weights, new @ matrix, rtol=1e-6)


def test_weights_minimise_the_penalised_error():
    def loss(weights):
        k = kernel(SEMANTICS, SEMANTICS, 0.5)
        return ((FEATURES - (k @ weights)[LABELS]) ** 2).sum() + 0.3 * 9 / 4 * np.trace(weights.T @ k @ weights)
    best = fit_kernel_ridge(FEATURES, LABELS, SEMANTICS, 0.5, 0.3)
    for _ in range(20):
        assert loss(best) <= loss(best + 1e-3 * rng.standard_normal(best.shape))


def test_whitening_evens_out_the_variance_within_classes():
    labels = np.repeat(np.arange(5), 400)
    features = (rng.standard_normal((5, 4))[labels] + rng.standard_normal((2000, 4)) * [0.1, 1, 2, 5]).astype(np.float32)

    def within(rows):
        return np.cov((rows - np.stack([rows[labels == c].mean(0) for c in range(5)])[labels]).T)
    even = within(features @ whitening(features, labels, 0.0))
    np.testing.assert_allclose(even / even[0, 0], np.eye(4), atol=2e-3)
    np.testing.assert_array_equal(whitening(features, labels, None), np.eye(4))
    # Much is added: nearly the same scale in all directions.
    spread = np.linalg.eigvalsh(whitening(features, labels, 1e6))
    assert spread.max() / spread.min() < 1.001
    # Features that are all alike.
    assert np.isfinite(whitening(np.ones((6, 3), np.float32), np.arange(6) % 2, 1.0)).all()

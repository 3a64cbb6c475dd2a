"""DEM's losses, mean squared error and the softmax over class prototypes, against loops and finite differences."""
import mindspore as ms
import numpy as np
import pytest
from loss_oracles import finite_differences, mse
from mindspore import Tensor

from src.losses import create_loss


def oracle(prototypes, features, labels, scale, smoothing=0.0):
    total = 0.0
    for feature, label in zip(features, labels):
        logits = []
        for prototype in prototypes:
            norms = np.sqrt((feature ** 2).sum() * (prototype ** 2).sum())
            logits.append(scale * (feature @ prototype) / norms if norms > 1e-6 else 0.0)
        top = max(logits)
        log_sum = top + np.log(sum(np.exp(logit - top) for logit in logits))
        for c, logit in enumerate(logits):
            target = (1 - smoothing) * (c == label) + smoothing / len(logits)
            total += target * (log_sum - logit)
    return total / len(labels)


def random_case(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((4, 6)), rng.standard_normal((7, 6)), rng.integers(0, 4, 7).astype(np.int32)


@pytest.mark.parametrize('scale, smoothing', [(1.0, 0.0), (20.0, 0.0), (5.0, 0.1)])
def test_value_and_gradient(scale, smoothing):
    prototypes, features, labels = random_case()
    loss = create_loss('prototype_softmax', scale=scale, label_smoothing=smoothing)
    inputs = Tensor(prototypes, ms.float32), Tensor(features, ms.float32), Tensor(labels)
    value, gradients = ms.value_and_grad(loss, (0, 1))(*inputs)
    assert value.shape == () and value.dtype == ms.float32
    np.testing.assert_allclose(value.asnumpy(), oracle(prototypes, features, labels, scale, smoothing), rtol=1e-5)
    expected = finite_differences(lambda arrays: oracle(*arrays, labels, scale, smoothing), [prototypes, features])
    for given, wanted in zip(gradients, expected):
        np.testing.assert_allclose(given.asnumpy(), wanted, rtol=1e-3, atol=1e-5)


def test_zero_vectors_equal_prototypes_and_float16():
    prototypes, features, labels = random_case(1)
    prototypes[1], prototypes[2], features[0] = 0, prototypes[3], 0
    loss = create_loss('prototype_softmax')
    inputs = Tensor(prototypes, ms.float16), Tensor(features, ms.float16), Tensor(labels)
    value, gradients = ms.value_and_grad(loss, (0, 1))(*inputs)
    expected = oracle(*(rows.astype(np.float16).astype(float) for rows in (prototypes, features)), labels, 20.0)
    np.testing.assert_allclose(value.asnumpy(), expected, rtol=1e-5)
    assert all(np.isfinite(gradient.asnumpy()).all() for gradient in gradients)


@pytest.mark.parametrize('rows, width', [(1, 1), (7, 6)])
def test_mean_squared_error(rows, width):
    mapped, features = np.random.default_rng(2).standard_normal((2, rows, width))
    value, gradients = ms.value_and_grad(create_loss('mse'), (0, 1))(*Tensor(np.stack([mapped, features]), ms.float32))
    assert value.shape == () and value.dtype == ms.float32
    np.testing.assert_allclose(value.asnumpy(), mse(mapped, features), rtol=1e-5)
    for given, wanted in zip(gradients, finite_differences(lambda arrays: mse(*arrays), [mapped, features])):
        np.testing.assert_allclose(given.asnumpy(), wanted, rtol=1e-3, atol=1e-5)


def test_mean_squared_error_of_float16_is_computed_in_float32():
    mapped, features = (Tensor(np.full((2, 3), x), ms.float16) for x in (60000, -60000))
    value, gradient = ms.value_and_grad(create_loss('mse'))(mapped, features)
    np.testing.assert_allclose(value.asnumpy(), float(60000 - -60000) ** 2, rtol=1e-3)
    assert gradient.dtype == ms.float16 and np.isfinite(gradient.asnumpy()).all()


def test_several_networks_at_once():
    rng = np.random.default_rng(3)
    prototypes, features = rng.standard_normal((3, 4, 6)), rng.standard_normal((7, 6))
    labels = rng.integers(0, 4, 7).astype(np.int32)
    loss = create_loss('prototype_softmax', scale=5.0, label_smoothing=0.1)
    value = loss(Tensor(prototypes, ms.float32), Tensor(features, ms.float32), Tensor(labels)).asnumpy()
    assert value == pytest.approx(np.mean([oracle(one, features, labels, 5.0, 0.1) for one in prototypes]), rel=1e-5)

"""Adam, clipping, loss scale and weight decay against numpy written from the formulas."""
import mindspore as ms
import numpy as np
import pytest
from easydict import EasyDict
from mindspore import Tensor, nn

from src.training.optimizer import create_optimizer
from src.training.train_step import TrainStep, WithLoss


def linear_network():
    network = nn.Dense(4, 3)
    network.weight.set_data(Tensor(np.random.default_rng(0).standard_normal((3, 4)), ms.float32))
    network.bias.set_data(Tensor([0.1, -0.2, 0.3], ms.float32))
    return network


def mse_gradients(weight, bias, x, y):
    """Loops over samples and outputs: gradient of the mean over all elements of (x w^T + b - y)^2."""
    grad_w, grad_b, loss = np.zeros_like(weight), np.zeros_like(bias), 0.0
    for i in range(len(x)):
        for j in range(len(bias)):
            error = sum(weight[j, k] * x[i, k] for k in range(x.shape[1])) + bias[j] - y[i, j]
            loss += error ** 2 / y.size
            grad_b[j] += 2 * error / y.size
            grad_w[j] += 2 * error * x[i] / y.size
    return loss, grad_w, grad_b


def clip(gradients, bound):
    norm = np.sqrt(sum((g ** 2).sum() for g in gradients))
    return [g * min(1.0, bound / norm) for g in gradients] if bound else gradients


def batches(steps):
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((5, 4)), 3 * rng.standard_normal((5, 3))) for _ in range(steps)]


@pytest.mark.parametrize('bound, scale, decay', [(0.0, 1.0, 0.0), (0.2, 1.0, 0.0), (0.2, 1024.0, 0.01)])
@pytest.mark.parametrize('beta1', [0.01, 0.9])
def test_adam(bound, scale, decay, beta1):
    lr = np.array([1e-2, 2e-2, 5e-3, 1e-3], np.float32)
    network = linear_network()
    w, b = network.weight.asnumpy().astype(float), network.bias.asnumpy().astype(float)
    recipe = EasyDict(optimizer='adam', beta1=beta1, weight_decay=decay, loss_scale=scale)
    optimizer = create_optimizer(recipe, network.trainable_params(), lr)
    step = TrainStep(WithLoss(network, nn.MSELoss()), optimizer, scale, bound)
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (w, b)]
    for t, (x, y) in enumerate(batches(4), 1):
        loss, *gradients = mse_gradients(w, b, x, y)
        given = step(Tensor(x, ms.float32), Tensor(y, ms.float32))
        assert given.dtype == ms.float32
        np.testing.assert_allclose(given.asnumpy(), loss, rtol=1e-5)
        for p, g, m in zip((w, b), clip(gradients, bound), moments):
            g = g + decay * p
            m[0] = beta1 * m[0] + (1 - beta1) * g
            m[1] = 0.999 * m[1] + 0.001 * g ** 2
            p -= lr[t - 1] * np.sqrt(1 - 0.999 ** t) / (1 - beta1 ** t) * m[0] / (np.sqrt(m[1]) + 1e-8)
        np.testing.assert_allclose(network.weight.asnumpy(), w, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(network.bias.asnumpy(), b, rtol=2e-4, atol=1e-6)


def test_momentum_with_loss_scale():
    lr = np.array([0.1, 0.05, 0.01], np.float32)
    network = linear_network()
    w, b = network.weight.asnumpy().astype(float), network.bias.asnumpy().astype(float)
    recipe = EasyDict(optimizer='momentum', momentum=0.9, weight_decay=1e-2, loss_scale=1024.0)
    step = TrainStep(WithLoss(network, nn.MSELoss()), create_optimizer(recipe, network.trainable_params(), lr), 1024.0)
    speed = [np.zeros_like(w), np.zeros_like(b)]
    for t, (x, y) in enumerate(batches(3)):
        _, *gradients = mse_gradients(w, b, x, y)
        step(Tensor(x, ms.float32), Tensor(y, ms.float32))
        for i, (p, g) in enumerate(zip((w, b), gradients)):
            speed[i] = 0.9 * speed[i] + g + 1e-2 * p
            p -= lr[t] * speed[i]
    np.testing.assert_allclose(network.weight.asnumpy(), w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(network.bias.asnumpy(), b, rtol=1e-4, atol=1e-6)


def test_weight_decay_by_layer():
    network = nn.SequentialCell(nn.Dense(2, 2), nn.Dense(2, 2))
    for layer, name in zip(network, ('fc1', 'fc2')):
        layer.weight.name, layer.bias.name = f'{name}.weight', f'{name}.bias'
    recipe = EasyDict(optimizer='momentum', momentum=0.9, weight_decay={'fc1': 0.5, 'fc2': 0.0}, loss_scale=1.0)
    before = [p.asnumpy().copy() for p in network.get_parameters()]
    optimizer = create_optimizer(recipe, network.trainable_params(), np.array([1.0], np.float32))
    optimizer(tuple(ms.ops.zeros_like(p) for p in optimizer.parameters))
    after = [p.asnumpy() for p in network.get_parameters()]
    np.testing.assert_allclose(after[0], 0.5 * before[0], rtol=1e-6)
    np.testing.assert_array_equal(after[2], before[2])

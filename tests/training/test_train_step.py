"""Steps, optimizers, decay, loss scales and replay against numpy written from the formulas.

As one graph, which is what a training runs, where order and branches within a step are the point, and once for each kind
of step; other values of the same formulas operator by operator, because a graph takes a second to compile.
"""
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from src.common.errors import InputError
from src.losses.loss import Loss
from src.training.optimizer import create_optimizer
from src.training.train_step import FIRST_SCALE, create_step
from tests.conftest import graph_mode

CPU = SimpleNamespace(target='CPU', device_id=0, rank=0, size=1)
GO_ON = Tensor(0, ms.int32)


class Mse(Loss):
    """Mean of the squares, with what the tests ask for."""

    def __init__(self, own=(), factors=None):
        super().__init__()
        self.own, self.factors = list(own), factors or {}

    def own_updates(self):
        return self.own

    def lr_factors(self):
        return self.factors

    def construct(self, outputs, targets):
        return ((outputs - targets) ** 2).mean()


class Proxies(Mse):
    """Mean square of the distances to a proxy, and to a centre, each a vector for all."""

    def __init__(self, factors=None):
        super().__init__(factors=factors)
        self.proxies = Parameter(Tensor([1.0, -1.0, 0.5], ms.float32), name='proxies')
        self.centers = Parameter(Tensor([0.2, 0.1, 0.0], ms.float32), name='centers')
        self.own = [(self.centers, 0.5)]

    def construct(self, outputs, targets):
        return ((outputs - targets - self.proxies) ** 2).mean() + ((outputs - self.centers) ** 2).mean()


def recipe(**entries):
    return {**dict(optimizer='momentum', momentum=0.9, beta1=0.9, weight_decay=0.0, decay='weights', loss_scale=1.0,
                   epsilon_hat=True, clip_norm=0.0, loss_lr_factor=1.0, head_first_epochs=0, epoch_size=1,
                   pretrain_epoch_size=0, total_iter_num=0,
                   chunk_size=0), **entries}


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


def run(step, x, y, stop=GO_ON):
    """(loss, finite, stop) as Python's."""
    loss, finite, stop = step(stop, Tensor(x, ms.float32), Tensor(y, ms.float32))
    assert loss.dtype == ms.float32 and loss.shape == finite.shape == stop.shape == ()
    return float(loss.asnumpy()), bool(finite.asnumpy()), int(stop.asnumpy())


def values(cell):
    return {p.name: p.asnumpy().copy() for p in cell.get_parameters()}


@pytest.mark.parametrize('optimizer, beta1, bound, scale, decay', [
    pytest.param('adam', 0.01, 0.0, 1.0, 0.0, marks=pytest.mark.graph), ('adam', 0.9, 0.2, 1.0, 0.0),
    ('adam', 0.9, 0.2, 1024.0, 0.01), pytest.param('adam', 0.9, 0.2, 'dynamic', 0.01, marks=pytest.mark.graph),
    ('adamw', 0.9, 0.0, 1.0, 0.1), pytest.param('adamw', 0.9, 100.0, 1024.0, 0.1, marks=pytest.mark.graph)])
def test_adam(optimizer, beta1, bound, scale, decay):
    lr = np.array([1e-2, 2e-2, 5e-3, 1e-3], np.float32)
    network = linear_network()
    w, b = network.weight.asnumpy().astype(float), network.bias.asnumpy().astype(float)
    step = create_step(network, Mse(), 1, recipe(optimizer=optimizer, beta1=beta1, weight_decay=decay,
                                                 loss_scale=scale, clip_norm=bound), lr, CPU)
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (w, b)]
    for t, (x, y) in enumerate(batches(4), 1):
        loss, *gradients = mse_gradients(w, b, x, y)
        given, finite, stop = run(step, x, y, Tensor(t, ms.int32))
        assert finite and stop == t
        np.testing.assert_allclose(given, loss, rtol=1e-5)
        for p, g, m in zip((w, b), clip(gradients, bound), moments):
            if optimizer == 'adamw':
                p -= lr[t - 1] * decay * p
            else:
                g = g + decay * p
            m[0] = beta1 * m[0] + (1 - beta1) * g
            m[1] = 0.999 * m[1] + 0.001 * g ** 2
            p -= lr[t - 1] * np.sqrt(1 - 0.999 ** t) / (1 - beta1 ** t) * m[0] / (np.sqrt(m[1]) + 1e-8)
        np.testing.assert_allclose(network.weight.asnumpy(), w, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(network.bias.asnumpy(), b, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize('optimizer', ['adam', 'adamw'])
@pytest.mark.parametrize('hat', [True, False])
def test_where_adam_adds_epsilon(optimizer, hat):
    """Gradients about as small as epsilon, 1e-8, so that it counts."""
    network, expected = nn.SequentialCell(nn.Dense(2, 2, weight_init='ones', has_bias=False)), np.ones((2, 2))
    made = create_optimizer(recipe(optimizer=optimizer, epsilon_hat=hat), network, Mse(), np.full(4, 0.1, np.float32))
    m, v = np.zeros((2, 2)), np.zeros((2, 2))
    for t, gradient in enumerate(np.random.default_rng(0).normal(0, 1e-7, (4, 2, 2)), 1):
        made((Tensor(gradient, ms.float32),))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient ** 2
        if hat:
            expected -= 0.1 * np.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t) * m / (np.sqrt(v) + 1e-8)
        else:
            expected -= 0.1 * m / (1 - 0.9 ** t) / (np.sqrt(v / (1 - 0.999 ** t)) + 1e-8)
        np.testing.assert_allclose(network[0].weight.asnumpy(), expected, rtol=1e-4)


def momentum_weights(scale):
    """Of a network after three steps of momentum under a loss scale, having compared them with the formula."""
    lr = np.array([0.1, 0.05, 0.01], np.float32)
    network = linear_network()
    step = create_step(network, Mse(), 1, recipe(weight_decay=1e-2, loss_scale=scale), lr, CPU)
    w, b = network.weight.asnumpy().astype(float), network.bias.asnumpy().astype(float)
    speed = [np.zeros_like(w), np.zeros_like(b)]
    for t, (x, y) in enumerate(batches(3)):
        _, *gradients = mse_gradients(w, b, x, y)
        run(step, x, y)
        for i, (p, g) in enumerate(zip((w, b), gradients)):
            speed[i] = 0.9 * speed[i] + g + 1e-2 * p
            p -= lr[t] * speed[i]
    np.testing.assert_allclose(network.weight.asnumpy(), w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(network.bias.asnumpy(), b, rtol=1e-4, atol=1e-6)
    return values(network)


@pytest.fixture(scope='module')
def unscaled_weights():
    with graph_mode():
        return momentum_weights(1.0)


@pytest.mark.graph
@pytest.mark.parametrize('scale', [0.125, 1024.0, 'dynamic'])
def test_momentum_is_the_same_to_the_bit_under_any_power_of_two(unscaled_weights, scale):
    found = momentum_weights(scale)
    for name, value in unscaled_weights.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.fixture(scope='module', params=[('adam', 0.0), ('adam', 0.2), ('momentum', 0.0)], ids=str)
def compiled_step(request):
    """A step, compiled once."""
    optimizer, bound = request.param
    return create_step(linear_network(), Mse(), 1, recipe(optimizer=optimizer, clip_norm=bound),
                       np.full(4, 0.1, np.float32), CPU)


@pytest.mark.graph
@pytest.mark.parametrize('bad', [np.nan, 1e30])
def test_what_is_not_finite_never_reaches_the_weights(compiled_step, bad):
    step = compiled_step
    (x, y), = batches(1)
    assert run(step, x, y)[1]
    before = values(step)
    y[2, 1] = bad
    assert not run(step, x, y)[1]
    for name, value in before.items():
        np.testing.assert_array_equal(values(step)[name], value)


@pytest.mark.graph
def test_an_infinite_gradient_of_a_finite_loss_is_noticed():
    class Root(Mse):
        def construct(self, outputs, targets):
            return ops.sqrt(outputs - ops.stop_gradient(outputs)).mean()

    network = linear_network()
    step = create_step(network, Root(), 1, recipe(), np.full(4, 0.1, np.float32), CPU)
    (x, y), = batches(1)
    before = values(step)
    loss, finite, _ = run(step, x, y)
    assert np.isfinite(loss) and not finite
    np.testing.assert_array_equal(network.weight.asnumpy(), before['weight'])


@pytest.mark.graph
def test_the_dynamic_scale_skips_and_halves_and_gives_up_at_one():
    network = linear_network()
    step = create_step(network, Mse(), 1, recipe(loss_scale='dynamic'), np.full(40, 0.1, np.float32), CPU)
    (x, y), = batches(1)
    assert run(step, x, y)[1]
    before = values(step)
    # Of the loss only what it is multiplied by overflows.
    large = 1e17 * y
    assert run(step, x, large)[1]
    after = values(step)
    state = {name: after.pop(name) for name in ('loss_scale', 'loss_scale_counter', 'skipped_steps')}
    assert {name: value.item() for name, value in state.items()} == {
        'loss_scale': FIRST_SCALE / 2, 'loss_scale_counter': 0, 'skipped_steps': 1}
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name])
    y[0, 0] = np.nan
    said = [run(step, x, y)[1] for _ in range(16)]
    assert said == 15 * [True] + [False]
    assert step.update.skipped.asnumpy().item() == 17 and step.update.loss_scale.asnumpy().item() == 1


def test_names_are_final_before_the_optimizer_copies_them():
    step = create_step(linear_network(), Proxies(), 1, recipe(optimizer='adam', loss_scale='dynamic'),
                       np.full(3, 0.1, np.float32), CPU)
    names = [p.name for p in step.get_parameters()]
    assert sorted(names) == sorted([
        'weight', 'bias', 'loss.proxies', 'loss.centers', 'learning_rate', 'global_step', 'beta1_power', 'beta2_power',
        'loss_scale', 'loss_scale_counter', 'skipped_steps',
        *(f'{moment}.{name}' for moment in ('moment1', 'moment2') for name in ('weight', 'bias', 'loss.proxies'))])


@pytest.mark.parametrize('scale', [1.0, pytest.param(1024.0, marks=pytest.mark.graph)])
def test_the_loss_has_rates_of_its_own(scale):
    """Proxies at 2 x 5 the rate; centres by plain SGD on the gradient of the total, whatever the rate."""
    network, loss = linear_network(), Proxies({'proxies': 5.0})
    lr = np.array([0.1, 0.01], np.float32)
    step = create_step(network, loss, 1, recipe(loss_lr_factor=2.0, momentum=0.0, loss_scale=scale, weight_decay=0.1),
                       lr, CPU)
    for t, (x, y) in enumerate(batches(2)):
        w, b, proxies, centers = (p.asnumpy().astype(float) for p in (network.weight, network.bias, loss.proxies,
                                                                      loss.centers))
        _, near_w, near_b = mse_gradients(w, b - proxies, x, y)
        _, far_w, far_b = mse_gradients(w, b - centers, x, np.zeros_like(y))
        run(step, x, y)
        np.testing.assert_allclose(network.weight.asnumpy(), w - lr[t] * (near_w + far_w + 0.1 * w), rtol=1e-4)
        np.testing.assert_allclose(network.bias.asnumpy(), b - lr[t] * (near_b + far_b + 0.1 * b), rtol=1e-4)
        np.testing.assert_allclose(loss.proxies.asnumpy(), proxies - 10 * lr[t] * (0.1 * proxies - near_b), rtol=1e-4)
        np.testing.assert_allclose(loss.centers.asnumpy(), centers + 0.5 * far_b, rtol=1e-4)


@pytest.mark.parametrize('optimizer, epochs', [
    pytest.param('momentum', dict(head_first_epochs=1, epoch_size=2), marks=pytest.mark.graph),
    ('adam', dict(head_first_epochs=1, epoch_size=2)),
    # The first of the epochs was trained elsewhere.
    ('adamw', dict(head_first_epochs=2, epoch_size=3, pretrain_epoch_size=1))])
def test_new_layers_alone_first(optimizer, epochs):
    network = nn.SequentialCell(nn.Dense(4, 4), nn.Dense(4, 3))
    network.new_layers = ('1.',)
    loss = Proxies()
    step = create_step(network, loss, 1, recipe(optimizer=optimizer, weight_decay=0.1, **epochs), np.full(4, 0.1, np.float32),
                       CPU)
    before = values(step)
    for t, (x, y) in enumerate(batches(3)):
        run(step, x, y)
        moved = {name for name in ('0.weight', '0.bias', '1.weight', '1.bias', 'loss.proxies', 'loss.centers')
                 if (values(step)[name] != before[name]).any()}
        assert moved == {'1.weight', '1.bias', 'loss.proxies', 'loss.centers'} | (
            {'0.weight', '0.bias'} if t == 2 else set())


def test_weight_decay_by_layer():
    network = nn.SequentialCell(nn.Dense(2, 2), nn.Dense(2, 2))
    for layer, name in zip(network, ('fc1', 'fc2')):
        layer.weight.name, layer.bias.name = f'{name}.weight', f'{name}.bias'
    before = [p.asnumpy().copy() for p in network.get_parameters()]
    layers = recipe(weight_decay={'fc1': 0.5, 'fc2': 0.0})
    optimizer = create_optimizer(layers, network, Mse(), np.array([1.0], np.float32))
    optimizer(tuple(ops.zeros_like(p) for p in optimizer.parameters))
    after = [p.asnumpy() for p in network.get_parameters()]
    np.testing.assert_allclose(after[0], 0.5 * before[0], rtol=1e-6)
    np.testing.assert_array_equal(after[2], before[2])
    with pytest.raises(InputError, match='names fc1 but not fc2'):
        create_optimizer(recipe(weight_decay={'fc1': 0.5}), network, Mse(), np.array([1.0], np.float32))


@pytest.mark.parametrize('decay, spared', [('weights', {'1.gamma', '1.beta'}), ('all', set())])
@pytest.mark.parametrize('optimizer', ['momentum', 'adamw'])
def test_which_parameters_decay(decay, spared, optimizer):
    network = nn.SequentialCell(nn.Dense(2, 2, bias_init='ones'), nn.BatchNorm1d(2, beta_init='ones'))
    before = values(network)
    made = create_optimizer(recipe(optimizer=optimizer, weight_decay=0.5, decay=decay), network, Mse(),
                            np.array([1.0], np.float32))
    made(tuple(ops.zeros_like(p) for p in made.parameters))
    still = {p.name for p in network.trainable_params() if (p.asnumpy() == before[p.name]).all()}
    assert still == spared


def test_epochs_of_the_head_alone_need_epochs():
    with pytest.raises(InputError, match='counts iterations'):
        create_step(linear_network(), Mse(), 1, recipe(head_first_epochs=1, total_iter_num=9), np.array([1.0], np.float32), CPU)


def test_a_loss_that_names_no_parameter_of_its_own_is_a_defect():
    with pytest.raises(ValueError, match='no parameter loss.proxy'):
        create_step(linear_network(), Proxies({'proxy': 2.0}), 1, recipe(), np.array([1.0], np.float32), CPU)


class Pairwise(Proxies):
    """Every row counts in the gradient of every other."""

    def construct(self, outputs, neck, targets):
        everyone = ops.matmul(outputs, neck.T)
        return (everyone ** 2).mean() + super().construct(outputs, targets)


class TwoOutputs(nn.Cell):
    def __init__(self, norm=None):
        super().__init__()
        self.fc1, self.fc2 = linear_network(), nn.Dense(3, 3, bias_init='zeros')
        self.fc2.weight.set_data(Tensor(np.random.default_rng(3).standard_normal((3, 3)), ms.float32))
        self.norm = nn.BatchNorm1d(3) if norm else None
        if norm == 'frozen':
            self.norm.use_batch_statistics = False

    def construct(self, x):
        x = ops.tanh(self.fc1(x))
        if self.norm is not None:
            x = self.norm(x)
        return x, self.fc2(x)


@pytest.mark.parametrize('entries, chunk, norm', [
    ({}, 2, None), ({}, 8, None), pytest.param({'optimizer': 'adam', 'clip_norm': 0.1, 'loss_scale': 'dynamic'}, 5, 'frozen',
                                               marks=pytest.mark.graph)])
def test_replay_has_the_gradient_of_the_whole_batch(entries, chunk, norm):
    rng = np.random.default_rng(5)
    data = [(rng.standard_normal((8, 4)), rng.standard_normal((8, 3))) for _ in range(3)]
    found = []
    for chunk_size in (0, chunk):
        step = create_step(TwoOutputs(norm), Pairwise({'proxies': 3.0}), 1, recipe(chunk_size=chunk_size, **entries),
                           np.full(3, 0.02, np.float32), CPU)
        step.set_train()
        said = [run(step, x, y, Tensor(7, ms.int32)) for x, y in data]
        found.append((said, values(step)))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
    assert set(found[0][1]) == set(found[1][1])
    for name, value in found[0][1].items():
        np.testing.assert_allclose(found[1][1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('loss', [Mse, Proxies])
def test_replay_of_a_network_with_one_output(loss):
    (x, y), = batches(1)
    found = []
    for chunk_size in (0, 3):
        step = create_step(linear_network(), loss(), 1, recipe(chunk_size=chunk_size), np.full(2, 0.1, np.float32), CPU)
        assert run(step, x, y)[1]
        found.append(values(step))
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-5, atol=1e-6)


def test_replay_counts_every_chunk_once_in_the_running_statistics():
    network = TwoOutputs('training')
    before = network.norm.moving_mean.asnumpy()
    step = create_step(network, Pairwise(), 1, recipe(chunk_size=4), np.array([0.0, 0.0], np.float32), CPU)
    step.set_train()
    x = np.random.default_rng(6).standard_normal((8, 4))
    expected = before
    for chunk in (x[:4], x[4:]):
        hidden = np.tanh(chunk @ network.fc1.weight.asnumpy().T + network.fc1.bias.asnumpy())
        expected = 0.9 * expected + 0.1 * hidden.mean(0)
    run(step, x, np.zeros((8, 3)))
    np.testing.assert_allclose(network.norm.moving_mean.asnumpy(), expected, rtol=1e-3, atol=1e-5)

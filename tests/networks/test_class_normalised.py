"""Class normalisation against numpy, in training and by its running statistics."""
import numpy as np
import pytest
from mindspore import Tensor

from src.common.errors import InputError
from src.networks import create_network


def naive(network, semantics, stands, divisor):
    weight = {p.name: p.asnumpy().astype(float) for p in network.get_parameters()}

    def dense(x, name):
        return x @ weight[f'{name}.weight'].T + weight[f'{name}.bias']

    def standard(x, name):
        mean, variance = (x.mean(0), x.var(0, ddof=divisor == 'variance')) if stands else (
            weight[f'{name}.moving_mean'], weight[f'{name}.moving_variance'])
        return (x - mean) / (variance + 1e-5 if divisor == 'variance' else np.sqrt(variance + 1e-5))
    x = standard(dense(np.maximum(dense(semantics, 'fc1'), 0), 'fc2'), 'cs1')
    return dense(standard(np.maximum(x, 0), 'cs2'), 'fc3')


@pytest.mark.parametrize('divisor', ['deviation', 'variance'])
def test_equals_numpy(divisor):
    network = create_network('class_normalised', attribute_dim=7, hidden_dim=12, visual_dim=9, output_relu=False,
                             divisor=divisor)
    semantics = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    network.set_train()
    expected = naive(network, semantics, True, divisor)
    np.testing.assert_allclose(network(Tensor(semantics)).asnumpy(), expected, rtol=1e-4, atol=1e-4)
    network.set_train(False)
    expected = naive(network, semantics, False, divisor)
    np.testing.assert_allclose(network(Tensor(semantics)).asnumpy(), expected, rtol=1e-4, atol=1e-4)
    assert not any('cs' in p.name for p in network.trainable_params())
    np.testing.assert_allclose(network.cs1.moving_mean.asnumpy(), 0.1 * first_hidden(network, semantics).mean(0), atol=1e-5)
    np.testing.assert_allclose(network.cs1.moving_variance.asnumpy(),
                               0.9 + 0.1 * first_hidden(network, semantics).var(0, ddof=1), rtol=1e-4)


def first_hidden(network, semantics):
    weight = {p.name: p.asnumpy().astype(float) for p in network.get_parameters()}
    hidden = np.maximum(semantics @ weight['fc1.weight'].T + weight['fc1.bias'], 0)
    return hidden @ weight['fc2.weight'].T + weight['fc2.bias']


def test_another_divisor_is_refused():
    with pytest.raises(InputError, match='divisor=range: choose deviation or variance'):
        create_network('class_normalised', divisor='range')


def test_prototypes_start_with_the_features_variance():
    network = create_network('class_normalised', attribute_dim=30, hidden_dim=400, visual_dim=300, output_relu=False)
    network.set_train()
    out = network(Tensor(np.random.default_rng(0).normal(size=(100, 30)).astype(np.float32))).asnumpy()
    # Var = hidden * bound^2 / 3 * E[x^2] = 1 / visual: rows of about unit length whatever the width.
    assert 0.8 < np.linalg.norm(out, axis=1).mean() < 1.2

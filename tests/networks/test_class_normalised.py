"""Class normalisation against numpy, in training and by its running statistics."""
import numpy as np
from mindspore import Tensor

from src.networks import create_network


def naive(network, semantics, stands):
    weight = {p.name: p.asnumpy().astype(float) for p in network.get_parameters()}

    def dense(x, name):
        return x @ weight[f'{name}.weight'].T + weight[f'{name}.bias']

    def standard(x, name):
        mean, variance = (x.mean(0), x.var(0)) if stands else (weight[f'{name}.moving_mean'], weight[f'{name}.moving_variance'])
        return (x - mean) / np.sqrt(variance + 1e-5)
    x = standard(dense(np.maximum(dense(semantics, 'fc1'), 0), 'fc2'), 'cs1')
    return dense(standard(np.maximum(x, 0), 'cs2'), 'fc3')


def test_equals_numpy():
    network = create_network('class_normalised', attribute_dim=7, hidden_dim=12, visual_dim=9, output_relu=False)
    semantics = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    network.set_train()
    np.testing.assert_allclose(network(Tensor(semantics)).asnumpy(), naive(network, semantics, True), atol=1e-4)
    network.set_train(False)
    np.testing.assert_allclose(network(Tensor(semantics)).asnumpy(), naive(network, semantics, False), atol=1e-4)
    assert not any('cs' in p.name for p in network.trainable_params())


def test_prototypes_start_with_the_features_variance():
    network = create_network('class_normalised', attribute_dim=30, hidden_dim=400, visual_dim=300, output_relu=False)
    network.set_train()
    out = network(Tensor(np.random.default_rng(0).normal(size=(100, 30)).astype(np.float32))).asnumpy()
    # Var = hidden * bound^2 / 3 * E[x^2] = 1 / visual: rows of about unit length whatever the width.
    assert 0.8 < np.linalg.norm(out, axis=1).mean() < 1.2

"""DEM's networks against a numpy forward pass written from the table of spec and paper."""
import mindspore as ms
import numpy as np
import pytest

from src.common.errors import InputError
from src.networks import create_network

ms.set_device('CPU')

DEM = {  # name: [(layer, (output, input), sigma)]
    'cub_att': [('fc1', (700, 312), 0.0008), ('fc2', (1024, 700), 0.0012)],
    'awa_att': [('fc1', (700, 85), 0.0005), ('fc2', (1024, 700), 0.0005)],
    'cub_word': [('fc1', (1024, 1000), 0.0005)],
    'awa_word': [('fc1', (1024, 1000), 0.0005)],
    'cub_fusion': [('fc1', (900, 1000), 0.0008), ('fc2', (900, 312), 0.0012), ('fc3', (1024, 900), 0.0012)],
    'awa_fusion': [('fc1', (900, 1000), 0.0008), ('fc2', (900, 85), 0.0012), ('fc3', (1024, 900), 0.0012)],
}


def weights_of(network):
    return {p.name: p.asnumpy() for p in network.get_parameters()}


def randomise(network, seed=0):
    """Weights large enough for both sides of ReLU and the bend of tanh to show."""
    rng = np.random.default_rng(seed)
    for p in network.get_parameters():
        p.set_data(ms.Tensor(rng.normal(0, 0.1, p.shape).astype(np.float32)))


def scaled_tanh(x):
    return 1.7159 * np.tanh(2 / 3 * x)


def numpy_forward(weights, inputs, output_relu=True):
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def dense(x, layer):
        return x @ w[layer + '.weight'].T + w[layer + '.bias']
    if len(inputs) == 2:
        attribute, word = inputs
        x = dense(scaled_tanh(dense(word, 'fc1')) + 3 * scaled_tanh(dense(attribute, 'fc2')), 'fc3')
    elif 'fc2.weight' in w:
        x = dense(np.maximum(dense(inputs[0], 'fc1'), 0), 'fc2')
    else:
        x = dense(inputs[0], 'fc1')
    return np.maximum(x, 0) if output_relu else x


def inputs_of(name, widths, n=5):
    rng = np.random.default_rng(1)
    order = {'att': ['attribute_dim'], 'word': ['word_dim'], 'fusion': ['attribute_dim', 'word_dim']}
    return [rng.normal(0, 1, (n, widths[key])).astype(np.float32) for key in order[name.split('_')[1]]]


@pytest.mark.parametrize('name', sorted(DEM))
def test_names_shapes_and_initial_weights(name):
    weights = weights_of(create_network(name))
    expected = {}
    for layer, shape, sigma in DEM[name]:
        expected[layer + '.weight'] = shape
        expected[layer + '.bias'] = shape[:1]
        values = weights[layer + '.weight']
        assert abs(values.std() / sigma - 1) < 0.02
        assert abs(values.mean()) < sigma * 0.02
        assert not weights[layer + '.bias'].any()
    assert {key: value.shape for key, value in weights.items()} == expected


@pytest.mark.parametrize('mode', [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize('name', sorted(DEM))
def test_output_is_the_formula(name, mode):
    ms.set_context(mode=mode)
    try:
        network = create_network(name)
        randomise(network)
        inputs = inputs_of(name, {'attribute_dim': 312 if name.startswith('cub') else 85, 'word_dim': 1000})
        out = network(*map(ms.Tensor, inputs)).asnumpy()
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert out.shape == (5, 1024)
    assert (out == 0).any() and (out > 0).any()
    np.testing.assert_allclose(out, numpy_forward(weights_of(network), inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name,widths', [
    ('cub_att', {'attribute_dim': 7, 'hidden_dim': 11}), ('awa_word', {'word_dim': 9}),
    ('awa_fusion', {'attribute_dim': 7, 'word_dim': 9, 'hidden_dim': 11})])
def test_every_width_is_an_option_and_the_last_relu_too(name, widths):
    network = create_network(name, visual_dim=4096, output_relu=False, **widths)
    randomise(network)
    inputs = inputs_of(name, widths)
    out = network(*map(ms.Tensor, inputs)).asnumpy()
    assert out.shape == (5, 4096) and (out < 0).any()
    np.testing.assert_allclose(out, numpy_forward(weights_of(network), inputs, False), rtol=1e-4, atol=1e-4)


def test_unknown_name_lists_the_known():
    with pytest.raises(InputError, match='network=imagenet_att.*cub_att'):
        create_network('imagenet_att')

"""The ensemble against numpy: its members in training, its mean and the regression beside it at test."""
import numpy as np
import pytest
from mindspore import Tensor

from src.accuracy.kernel_ridge import kernel
from src.common.arrays import unit_rows
from src.networks import create_network


@pytest.mark.parametrize('width', [0.0, 0.4])
def test_equals_numpy(width):
    rng = np.random.default_rng(0)
    network = create_network('ensemble', attribute_dim=5, hidden_dim=6, visual_dim=4, members=2, classes=3, width=width,
                             share=0.3, sigmas=[0.5, 0.5])
    centres, weights, white = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 5), (3, 4), (4, 4)))
    network.set_regression(centres, weights, white)
    assert not any('kernel' in p.name for p in network.trainable_params())
    semantics = rng.standard_normal((7, 5)).astype(np.float32)
    keep = rng.integers(0, 2, (7, 12)).astype(np.float32)
    value = {p.name: p.asnumpy().astype(float) for p in network.get_parameters()}

    def members(keep):
        hidden = np.maximum(semantics @ value['fc1.weight'].T + value['fc1.bias'], 0) * keep
        return [hidden[:, 6 * m:6 * m + 6] @ value['fc2.weight'][m] + value['fc2.bias'][m] for m in range(2)]
    network.set_train()
    np.testing.assert_allclose(network(Tensor(semantics), Tensor(keep)).asnumpy(), members(keep), atol=1e-5)
    network.set_train(False)
    mean = unit_rows(sum(unit_rows(one) for one in members(1)))
    regression = unit_rows(kernel(semantics, centres, width) @ weights)
    wanted = np.concatenate([0.7 ** 0.5 * mean, 0.3 ** 0.5 * regression], 1)
    np.testing.assert_allclose(network(Tensor(semantics)).asnumpy(), wanted, atol=1e-5)

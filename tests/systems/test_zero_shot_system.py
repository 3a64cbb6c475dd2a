"""What the loop relies on between the system of zero-shot learning and its network."""
import numpy as np
import pytest
from mindspore import nn

from src.common.device import Process
from src.recipes.recipe import Recipe, make_recipe
from src.systems.zero_shot import ZeroShot


@pytest.mark.parametrize('training', [True, False])
def test_prototypes_are_of_evaluation_and_leave_the_mode_as_it_was(training):
    """A validation in the middle of a training must not end it for networks that behave otherwise in training."""
    class Tells(nn.Cell):
        def construct(self, semantics):
            return semantics + 1 if self.training else semantics
    system = ZeroShot(Recipe(make_recipe('CUB', 'att', 'published')), Process('CPU', 0, 0, 1))
    system.network = Tells().set_train(training)
    semantics = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(system.prototypes((semantics,)), semantics)
    assert system.network.training == training

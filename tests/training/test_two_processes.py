"""Two processes with half a batch each against one with the whole; one launch for all that they compute."""
from pathlib import Path

import numpy as np
import pytest

from tests.processes import run_two
from tests.training.two_processes import PAIR_LOSSES, convolutions, gathering, remembering, steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """Function name -> what each of the two processes found."""
    folder = tmp_path_factory.mktemp('two')
    run_two(Path(__file__).with_name('two_processes.py'), folder, folder=folder)
    return lambda name: [dict(np.load(folder / f'{rank}_{name}.npz')) for rank in range(2)]


@pytest.mark.parametrize('chunk_size', [0, 3])
def test_steps_equal_those_of_one_process(two, chunk_size):
    one, found = steps(0, 1, 0), two(f'steps{chunk_size}')
    # The signal of one process reaches both; what is not finite on one stops both.
    np.testing.assert_array_equal(one['said'][:, 1:], [[1, 0], [1, 15], [0, 0]])
    np.testing.assert_allclose((found[0]['said'] + found[1]['said'])[:2, 0] / 2, one['said'][:2, 0], rtol=1e-5)
    for name in set(one) - {'said'}:
        np.testing.assert_array_equal(found[0][name], found[1][name])
        np.testing.assert_allclose(found[0][name], one[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for mine in found:
        np.testing.assert_array_equal(mine['said'][:, 1:], one['said'][:, 1:])


@pytest.mark.graph
def test_the_memory_of_batches_is_that_of_one_process(two):
    one, (first, second) = remembering(0, 1), two('remembering')
    for name in ('memory', 'memory_labels', 'position', 'steps'):
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_array_equal(first[name], one[name])
    for found in (first, second):
        np.testing.assert_allclose(found['values'], one['values'], rtol=1e-6)
    both = np.concatenate((first['gradients'], second['gradients']), axis=1)
    np.testing.assert_allclose(both / 2, one['gradients'], rtol=1e-5, atol=1e-7)


def test_pair_losses_of_the_batch_of_both_have_its_gradient(two):
    one, found = gathering(0, 1), two('gathering')
    for name in PAIR_LOSSES:
        for mine in found:
            np.testing.assert_allclose(mine[f'{name} value'], one[f'{name} value'], rtol=1e-6, err_msg=name)
        both = np.concatenate([mine[f'{name} gradient'] for mine in found])
        np.testing.assert_allclose(both / 2, one[f'{name} gradient'], rtol=1e-5, atol=1e-7, err_msg=name)
        assert one[f'{name} gradient'].any(), name


@pytest.mark.graph
def test_convolutions_with_products_for_small_maps_learn_what_one_process_does(two):
    one, (first, second) = convolutions(0, 1), two('convolutions')
    for name in one:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_gradients_of_every_dtype_and_shape_are_averaged(two):
    for found in two('averages'):
        assert [(name, mean.shape, str(mean.dtype)) for name, mean in found.items()] == [
            ('one', (2, 3), 'float32'), ('two', (4,), 'float16'), ('three', (), 'float32'), ('four', (1, 2, 1), 'float16')]
        for i, mean in enumerate(found.values()):
            np.testing.assert_array_equal(mean, np.full(mean.shape, i + 1.5))


def test_gradients_are_averaged_at_once(two):
    """The graph of a step of three convolutions, once it is built, holds one AllReduce for all gradients."""
    for found in two('collectives'):
        assert (found['AllReduce'], found['AllGather']) == (1, 1)

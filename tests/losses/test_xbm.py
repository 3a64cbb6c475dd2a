"""The cross-batch memory over several steps, against a queue of rows; on two processes: training/test_two_processes.py."""
import collections

import loss_oracles as oracles
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.losses import create_loss

D, ROWS, MEMORY, MARGIN = 3, 6, 14, 0.2


@pytest.fixture(params=[ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=['pynative', 'graph'])
def mode(request):
    ms.set_context(mode=request.param)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def create(warm_up=0):
    return create_loss('xbm', embedding_size=D, memory_size=MEMORY, margin=MARGIN, warm_up=warm_up)


def batches(steps, seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(size=(steps, ROWS, D)).astype(np.float32),
            random.integers(0, 3, (steps, ROWS)).astype(np.int32))


def oracle_steps(inputs, labels, warm_up):
    """Value and gradient of each step, the memory a queue that forgets its oldest rows."""
    memory = collections.deque(maxlen=MEMORY)
    for step, (x, y) in enumerate(zip(inputs.astype(np.float64), labels)):
        memory.extend((i, row, label) for i, (row, label) in enumerate(zip(oracles.unit(x), y)))
        others, other_labels = [(i, row) for i, row, _ in memory], [label for *_, label in memory]

        def value(x, y=y, others=others, other_labels=other_labels):
            return oracles.contrastive(oracles.unit(x), y, others, other_labels, MARGIN)
        yield value(x), oracles.finite_differences(lambda arrays: value(arrays[0]), [x])[0]
        if step < warm_up:
            memory.clear()
        memory = collections.deque(((None, row, label) for _, row, label in memory), maxlen=MEMORY)


@pytest.mark.parametrize('warm_up', [0, 2])
def test_steps_equal_a_queue(mode, warm_up):
    """Six steps: the memory wraps around twice, in the middle of a batch."""
    inputs, labels = batches(6)
    loss = create(warm_up)
    step = ms.value_and_grad(loss)
    for x, y, (value, gradient) in zip(inputs, labels, oracle_steps(inputs, labels, warm_up)):
        given, slope = step(Tensor(x), Tensor(y))
        np.testing.assert_allclose(given.asnumpy(), value, rtol=1e-5)
        np.testing.assert_allclose(slope.asnumpy(), gradient, rtol=1e-3, atol=1e-5)
    assert loss.steps.asnumpy() == 6 and loss.position.asnumpy() == 6 * ROWS % MEMORY
    assert loss.trainable_params() == [] and (loss.memory_labels.asnumpy() >= 0).all()


def test_a_saved_memory_goes_on(tmp_path):
    inputs, labels = batches(5)
    never_stopped, stopped, resumed = create(1), create(1), create(1)
    for x, y in zip(inputs[:3], labels):
        never_stopped(Tensor(x), Tensor(y))
        stopped(Tensor(x), Tensor(y))
    ms.save_checkpoint(stopped, str(tmp_path / 'memory.ckpt'))
    ms.load_checkpoint(str(tmp_path / 'memory.ckpt'), resumed)
    for x, y in zip(inputs[3:], labels[3:]):
        assert never_stopped(Tensor(x), Tensor(y)).asnumpy() == resumed(Tensor(x), Tensor(y)).asnumpy()


def test_rows_that_are_not_finite_are_not_remembered():
    inputs, labels = batches(2)
    inputs[0, 1], inputs[0, 2, 0] = np.nan, np.inf
    loss = create()
    loss(Tensor(inputs[0]), Tensor(labels[0]))
    memory, remembered = loss.memory.asnumpy(), loss.memory_labels.asnumpy()
    assert np.isfinite(memory).all() and (remembered[:ROWS] >= 0).tolist() == [True, False, False, True, True, True]
    value, gradient = ms.value_and_grad(loss)(Tensor(inputs[1]), Tensor(labels[1]))
    assert np.isfinite(value.asnumpy()) and np.isfinite(gradient.asnumpy()).all()

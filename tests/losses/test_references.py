"""Pair losses with a memory of past steps against a queue of rows; on two processes: training/test_two_processes.py."""
import loss_oracles as oracles
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from src.common.errors import InputError
from src.losses import create_loss
from src.losses.references import WithReferences

D, ROWS, MEMORY = 3, 6, 14


@pytest.fixture(params=[ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=['pynative', 'graph'])
def mode(request):
    ms.set_context(mode=request.param)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def create(name='contrastive', memory=MEMORY, warm_up=0):
    return WithReferences(create_loss(name), D, memory, warm_up)


def batches(steps, seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(size=(steps, ROWS, D)).astype(np.float32),
            random.integers(0, 3, (steps, ROWS)).astype(np.int32))


def oracle_steps(oracle, inputs, labels, masks, warm_up):
    """Value and gradient of each step. A step's own rows are in the memory's place of the oldest ones."""
    memory = []
    for step, (x, y, mask) in enumerate(zip(inputs.astype(np.float64), labels, masks)):
        past = tuple(zip(*memory[-(MEMORY - ROWS):])) or oracles.NONE

        def value(arrays, y=y, mask=mask, past=past):
            return oracle(arrays, y, mask, {}, past)
        yield value([x]), oracles.finite_differences(value, [x])[0]
        if step >= warm_up:
            memory += [(row, label if real else -1) for row, label, real in zip(x, y, mask)]


@pytest.mark.parametrize('name, oracle, warm_up', [
    ('contrastive', oracles.contrastive(0.5), 2), ('batch_hard_triplet', oracles.batch_hard(0.5), 0)])
def test_steps_equal_a_queue(mode, name, oracle, warm_up):
    """Six steps: the memory wraps around twice, in the middle of a batch. One loss has a mask."""
    inputs, labels = batches(6)
    loss = create(name, warm_up=warm_up)
    masks = np.ones((6, ROWS), np.int32)
    if loss.takes_mask:
        masks[:, 1] = 0
    step = ms.value_and_grad(loss)
    for x, y, mask, (value, gradient) in zip(inputs, labels, masks, oracle_steps(oracle, inputs, labels, masks, warm_up)):
        given, slope = step(Tensor(x), Tensor(y), *[Tensor(mask)] * loss.takes_mask)
        np.testing.assert_allclose(given.asnumpy(), value, rtol=1e-5)
        np.testing.assert_allclose(slope.asnumpy(), gradient, rtol=1e-3, atol=1e-5)
    assert loss.steps.asnumpy() == 6 and loss.position.asnumpy() == 6 * ROWS % MEMORY
    assert loss.trainable_params() == []


def test_without_a_memory_it_is_the_loss():
    (x,), (y,) = batches(1)
    loss, expected = create(memory=0), create_loss('contrastive')
    assert loss(Tensor(x), Tensor(y)).asnumpy() == expected(Tensor(x), Tensor(y)).asnumpy()
    assert list(loss.get_parameters()) == []


def test_a_saved_memory_goes_on(tmp_path):
    inputs, labels = batches(5)
    never_stopped, stopped, resumed = create(warm_up=1), create(warm_up=1), create(warm_up=1)
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


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='6 rows, the memory 4'):
        create(memory=4)(Tensor(np.ones((ROWS, D), np.float32)), Tensor(np.zeros(ROWS, np.int32)))
    for name in ('triplet', 'centroid_triplet'):
        with pytest.raises(InputError, match='remove it, or choose another loss'):
            create(name)

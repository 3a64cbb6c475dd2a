"""The schedules against loops from their definitions."""
import math

import numpy as np
import pytest

from src.training.learning_rate import LR_MODES, get_lr, schedule


def one_cycle(step, total, lr_max):
    """PyTorch's OneCycleLR with its defaults, written from its documentation: pct_start 0.3, div_factor 25,
    final_div_factor 1e4 of the first rate, cosine."""
    top, first = 0.3 * total - 1, lr_max / 25
    for start, end, begin, goal in ((0, top, first, lr_max), (top, total - 1, lr_max, first / 1e4)):
        if step <= end:
            return goal + (begin - goal) / 2 * (1 + math.cos(math.pi * (step - start) / (end - start)))
    raise AssertionError


def naive(mode, total, lr_max, lr_init, lr_end, warmup, milestones, gamma):
    values = []
    for step in range(total):
        if step < warmup:
            values.append(lr_init + (lr_max - lr_init) * (step + 1) / warmup)
            continue
        progress = (step - warmup) / max(total - warmup, 1)
        lr = lr_max
        if mode == 'steps':
            for milestone in milestones:
                if step >= (int(milestone * total) if isinstance(milestone, float) else milestone):
                    lr *= gamma
        elif mode == 'linear':
            lr = lr_max * (1 - progress) + lr_end * progress
        elif mode == 'cosine':
            lr = lr_end + 0.5 * (lr_max - lr_end) * (1 + math.cos(math.pi * progress))
        elif mode == 'one_cycle':
            lr = one_cycle(step - warmup, total - warmup, lr_max)
        elif mode == 'poly':
            lr = lr_end + (lr_max - lr_end) * (1 - progress) ** 2
        values.append(lr)
    return values


@pytest.mark.parametrize('mode', LR_MODES)
@pytest.mark.parametrize('total, warmup', [(1, 0), (7, 0), (50, 10), (13, 13), (333, 0)])
def test_equals_the_definition(mode, total, warmup):
    if mode == 'one_cycle' and total == 1:
        return  # nothing to rise over: test_one_cycle_of_few_steps
    expected = naive(mode, total, 0.3, 0.01, 1e-4, warmup, (0.4, 0.8), 0.1)
    lr = get_lr(mode, total, 0.3, 0.01, 1e-4, warmup)
    assert lr.dtype == np.float32 and lr.shape == (total,)
    np.testing.assert_allclose(lr, expected, rtol=2e-6, atol=1e-10)


@pytest.mark.parametrize('total', [1, 2, 3, 4])
def test_one_cycle_of_few_steps(total):
    lr = get_lr('one_cycle', total, 0.3)
    assert lr[0] == np.float32(0.3) or total == 4
    assert (np.diff(lr) <= 0).all() or total == 4
    assert total == 1 or np.isclose(lr[-1], 0.3 / 25e4)


def test_one_cycle_equals_pytorch():
    torch = pytest.importorskip('torch')
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=97)
    expected = []
    for _ in range(97):
        expected.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        if len(expected) < 97:
            scheduler.step()
    np.testing.assert_allclose(get_lr('one_cycle', 97, 0.3), expected, rtol=2e-6)


RECIPE = dict(lr_mode='steps', lr_max=0.1, lr_init=0.0, lr_end=0.0, lr_epochs=[], lr_steps=[], warmup='step',
              warmup_epochs=0, distributed_lr_factor=1, epoch_size=4, total_iter_num=0,
              pretrain_epoch_size=0)


def test_schedule_of_a_recipe():
    # CTL's warm-up: one value an epoch, (epoch + 1) / 10.
    lr = schedule({**RECIPE, 'lr_epochs': [12], 'warmup_epochs': 10, 'warmup': 'epoch', 'epoch_size': 14}, 3)
    expected = [0.1 * min((step // 3 + 1) / 10, 1) * (0.1 if step >= 36 else 1) for step in range(42)]
    np.testing.assert_allclose(lr, expected, rtol=1e-6)
    by_step = schedule({**RECIPE, 'warmup_epochs': 2, 'lr_mode': 'const'}, 3)
    np.testing.assert_allclose(by_step, [0.1 * min((step + 1) / 6, 1) for step in range(12)], rtol=1e-6)
    # Iterations go before epochs; several devices may have a rate of their own; a short run ends in the warm-up.
    np.testing.assert_allclose(schedule({**RECIPE, 'total_iter_num': 5, 'lr_steps': [2], 'distributed_lr_factor': 5},
                                        3, 8), [0.5, 0.5, 0.05, 0.05, 0.05], rtol=1e-6)
    short = schedule({**RECIPE, 'total_iter_num': 2, 'warmup_epochs': 1}, 3)
    np.testing.assert_allclose(short, [0.1 / 3, 0.2 / 3], rtol=1e-6)


def test_several_devices_have_a_factor_on_all_of_the_course():
    more = {**RECIPE, 'lr_mode': 'linear', 'lr_init': 0.02, 'lr_end': 0.01, 'warmup_epochs': 1, 'distributed_lr_factor': 5}
    np.testing.assert_allclose(schedule(more, 3, 8), 5 * schedule(more, 3), rtol=1e-6)


def test_epochs_trained_elsewhere_are_left_out():
    whole = schedule({**RECIPE, 'epoch_size': 30, 'lr_mode': 'cosine', 'warmup_epochs': 2}, 46)
    rest = schedule({**RECIPE, 'epoch_size': 30, 'lr_mode': 'cosine', 'warmup_epochs': 2, 'pretrain_epoch_size': 12}, 46)
    assert len(rest) == (30 - 12) * 46
    np.testing.assert_array_equal(rest, whole[12 * 46:])
    # Iterations go before epochs.
    assert len(schedule({**RECIPE, 'total_iter_num': 7, 'pretrain_epoch_size': 3}, 3)) == 7


def test_the_published_schedules():
    # metric_learn, half set on 8 devices: 30 epochs of 46 steps, x0.1 at 40 %, x0.01 at 80 %.
    lr = get_lr('steps', 30 * 46, 0.3)
    assert lr[551] == np.float32(0.3) and np.isclose(lr[552], 0.03) and np.isclose(lr[1104], 0.003)
    # PaddleCV: iterations.
    lr = get_lr('steps', 30000, 0.01, milestones=(15000, 25000))
    assert np.isclose(lr[14999], 0.01) and np.isclose(lr[15000], 1e-3) and np.isclose(lr[25000], 1e-4)


@pytest.mark.parametrize('arguments', [('cubic', 10, 0.1), ('const', 0, 0.1), ('const', 5, 0.1, 0, 0, 6)])
def test_refuses_what_makes_no_schedule(arguments):
    with pytest.raises(ValueError):
        get_lr(*arguments)

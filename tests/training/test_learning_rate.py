"""The schedules against loops from their definitions."""
import math

import numpy as np
import pytest

from src.training import get_lr


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
        elif mode == 'poly':
            lr = lr_end + (lr_max - lr_end) * (1 - progress) ** 2
        values.append(lr)
    return values


@pytest.mark.parametrize('mode', ['const', 'steps', 'linear', 'cosine', 'poly'])
@pytest.mark.parametrize('total, warmup', [(1, 0), (7, 0), (50, 10), (13, 13)])
def test_equals_the_definition(mode, total, warmup):
    expected = naive(mode, total, 0.3, 0.01, 1e-4, warmup, (0.4, 0.8), 0.1)
    lr = get_lr(mode, total, 0.3, 0.01, 1e-4, warmup)
    assert lr.dtype == np.float32 and lr.shape == (total,)
    np.testing.assert_allclose(lr, expected, rtol=1e-6)


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

"""Learning-rate schedules: one value per step, computed before training."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.common.errors import InputError
from src.common.registry import lookup

MOST_STEPS = 5 * 10 ** 7  # their rates are one array
Rates = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Plan:
    """Arguments of a schedule mode.

    total_steps, warmup_steps (int), lr_max, lr_end, gamma (float) and milestones: see get_lr.
    """
    total_steps: int
    warmup_steps: int
    lr_max: float
    lr_end: float
    milestones: Sequence[float]
    gamma: float

    @property
    def step(self) -> NDArray[np.int64]:
        """Step numbers 0, 1, ...: int (total_steps,)."""
        return np.arange(self.total_steps)

    @property
    def progress(self) -> Rates:
        """Fraction done of the steps after the warm-up: (total_steps,) float64, 0..1."""
        return np.clip((self.step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1), 0, 1)


def const(plan: Plan) -> Rates:
    """Constant at lr_max."""
    return np.full(plan.total_steps, plan.lr_max, np.float64)


def steps(plan: Plan) -> Rates:
    """Multiply by gamma at every milestone."""
    falls = [int(m * plan.total_steps) if isinstance(m, float) and m < 1 else int(m) for m in plan.milestones]
    return plan.lr_max * plan.gamma ** np.sum([plan.step >= fall for fall in falls], axis=0, dtype=np.float64)


def linear(plan: Plan) -> Rates:
    """Fall linearly from lr_max to lr_end over the steps after the warm-up."""
    return plan.lr_max + (plan.lr_end - plan.lr_max) * plan.progress


def cosine(plan: Plan) -> Rates:
    """Fall from lr_max to lr_end by half a period of a cosine.

    Loshchilov and Hutter, arXiv 1608.03983, equation 5, without restarts.
    """
    return plan.lr_end + (plan.lr_max - plan.lr_end) * (1 + np.cos(np.pi * plan.progress)) / 2


def poly(plan: Plan) -> Rates:
    """Fall from lr_max to lr_end by a polynomial of power 2."""
    return plan.lr_end + (plan.lr_max - plan.lr_end) * (1 - plan.progress) ** 2


def one_cycle(plan: Plan) -> Rates:
    """Rise from lr_max / 25 over the first 30 % of the steps, then fall to lr_max / 250,000; both by a cosine.

    Smith and Topin, arXiv 1708.07120, in the form of PyTorch's OneCycleLR with its defaults, which reaches lr_max at
    step 0.3 n - 1 and its end at the last step. lr_end is not used.
    """
    low, end = plan.lr_max / 25, plan.lr_max / 25e4
    step, last = plan.step - plan.warmup_steps, plan.total_steps - plan.warmup_steps - 1
    top = max(0.3 * (last + 1) - 1, 0.0)
    up = np.clip(step / top, 0, 1) if top else np.ones(plan.total_steps)
    down = np.clip((step - top) / max(last - top, 1), 0, 1)
    return np.where(step <= top, plan.lr_max + (low - plan.lr_max) * (1 + np.cos(np.pi * up)) / 2,
                    end + (plan.lr_max - end) * (1 + np.cos(np.pi * down)) / 2)


LR_MODES: dict[str, Callable[[Plan], Rates]] = {
    'const': const,
    'steps': steps,
    'poly': poly,
    'cosine': cosine,
    'linear': linear,
    'one_cycle': one_cycle,
}


def get_lr(mode: str, total_steps: int, lr_max: float, lr_init: float = 0.0, lr_end: float = 0.0,  # noqa: PLR0913 - public name
           warmup_steps: int = 0, milestones: Sequence[float] = (0.4, 0.8), gamma: float = 0.1, *,
           warmup_stairs: int = 1) -> Rates:
    """Learning rate of every step of a training.

    The warm-up rises linearly from lr_init and reaches lr_max at step warmup_steps; from there on the mode applies.

    Args:
        mode: a key of LR_MODES.
        total_steps: number of steps, at least 1.
        lr_max, lr_init, lr_end: learning rates.
        warmup_steps: length of the warm-up.
        milestones: steps, counted from 0, at which 'steps' falls; floats below 1 are fractions of total_steps.
        gamma: factor of 'steps'.
        warmup_stairs: number of steps for which the warm-up keeps one value, the value of the last of these steps.

    Returns:
        float32 array (total_steps,).

    Raises:
        ValueError: an unknown mode, no steps, or a warm-up outside 0..total_steps.
    """
    if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
        raise ValueError(f'{total_steps} steps with a warm-up of {warmup_steps}: the warm-up must fit')
    plan = Plan(total_steps, warmup_steps, lr_max, lr_end, milestones, gamma)
    lr = lookup(LR_MODES, mode, '--lr_mode')(plan)
    if warmup_steps:
        done = (plan.step // warmup_stairs + 1) * warmup_stairs
        lr = np.where(plan.step < warmup_steps, lr_init + (lr_max - lr_init) * done / warmup_steps, lr)
    return lr.astype(np.float32)


def schedule(recipe: Mapping[str, Any], steps_per_epoch: int, device_num: int = 1) -> Rates:
    """Learning rate of every step of a recipe: float32 (steps,).

    A recipe counts in iterations (total_iter_num) or in epochs (epoch_size). Its warm-up has one value per step
    or, with warmup 'epoch', one per epoch, (epoch + 1) / warmup_epochs of lr_max, as in CTL. Epochs that were trained
    elsewhere (pretrain_epoch_size) are left out; the other epochs keep the rates of the whole schedule.

    Raises:
        InputError: more than MOST_STEPS steps.
    """
    total = recipe['total_iter_num'] or recipe['epoch_size'] * steps_per_epoch
    done = 0 if recipe['total_iter_num'] else recipe['pretrain_epoch_size'] * steps_per_epoch
    factor = recipe['distributed_lr_factor'] if device_num > 1 else 1
    milestones = [m * steps_per_epoch for m in recipe['lr_epochs']] or recipe['lr_steps'] or (0.4, 0.8)
    warmup = recipe['warmup_epochs'] * steps_per_epoch
    if max(total, warmup) > MOST_STEPS:
        raise InputError(f'--epoch_size={recipe["epoch_size"]} --total_iter_num={recipe["total_iter_num"]}: are '
                         f'{max(total, warmup)} steps; a schedule has at most {MOST_STEPS}')
    # A short run of a long recipe ends in the warm-up.
    return get_lr(recipe['lr_mode'], max(total, warmup), recipe['lr_max'] * factor, recipe['lr_init'] * factor,
                  recipe['lr_end'] * factor, warmup, milestones,
                  warmup_stairs=steps_per_epoch if recipe['warmup'] == 'epoch' else 1)[done:total]

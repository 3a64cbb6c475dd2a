"""Learning-rate schedules: one value a step, worked out before training."""
import numpy as np

MODES = ('const', 'steps', 'poly', 'cosine', 'linear')


def get_lr(mode, total_steps, lr_max, lr_init=0.0, lr_end=0.0, warmup_steps=0, milestones=(0.4, 0.8), gamma=0.1):
    """The learning rate of every step of a training.

    The warm-up rises linearly from lr_init and reaches lr_max at step warmup_steps; the mode rules from there on.

    Args:
        mode (str): 'const' stays at lr_max; 'steps' multiplies by gamma at every milestone; 'linear', 'cosine' and
            'poly' (power 2) fall from lr_max to lr_end over the steps after the warm-up.
        total_steps (int): number of steps, at least 1.
        lr_max, lr_init, lr_end (float): learning rates.
        warmup_steps (int): length of the warm-up.
        milestones (sequence): steps, counted from 0, at which 'steps' falls; floats below 1 are fractions of
            total_steps.
        gamma (float): the factor of 'steps'.

    Returns:
        float32 array (total_steps,).

    Raises:
        ValueError: an unknown mode, no steps, or a warm-up outside 0..total_steps.
    """
    if mode not in MODES:
        raise ValueError(f'learning-rate mode {mode!r}: choose one of {", ".join(MODES)}')
    if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
        raise ValueError(f'{total_steps} steps with a warm-up of {warmup_steps}: the warm-up must fit')
    step = np.arange(total_steps)
    progress = np.clip((step - warmup_steps) / max(total_steps - warmup_steps, 1), 0, 1)
    if mode == 'const':
        lr = np.full(total_steps, lr_max, np.float64)
    elif mode == 'steps':
        falls = [int(m * total_steps) if isinstance(m, float) and m < 1 else int(m) for m in milestones]
        lr = lr_max * gamma ** np.sum([step >= fall for fall in falls], axis=0, dtype=np.float64)
    elif mode == 'linear':
        lr = lr_max + (lr_end - lr_max) * progress
    elif mode == 'cosine':
        lr = lr_end + (lr_max - lr_end) * (1 + np.cos(np.pi * progress)) / 2
    else:
        lr = lr_end + (lr_max - lr_end) * (1 - progress) ** 2
    if warmup_steps:
        lr = np.where(step < warmup_steps, lr_init + (lr_max - lr_init) * (step + 1) / warmup_steps, lr)
    return lr.astype(np.float32)

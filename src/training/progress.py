"""Progress and speed of a training, and the lines that report them."""
from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
from mindspore import Tensor, nn

from src.common.errors import InputError
from src.common.terminal import MovingLine

# Seconds between progress lines within an epoch in a log; a terminal shows one moving line instead.
LOG_SECONDS = 60


@dataclass
class Run:
    """Progress of a training, stored with every state.

    step: steps done. seconds: time of all steps except the first one of each process, which compiles. timed_steps: number
    of steps in this time. losses: sum and number of the losses of the epoch in progress. skipped: steps whose gradients
    overflowed and changed nothing. best, best_step: the best validation result and its step.
    history: one dict per epoch with epoch, step, loss (mean over the epoch), lr and, if measured, accuracy.

    Raises:
        ValueError: a number below 0, or another number of losses.
    """
    step: int = 0
    seconds: float = 0.0
    timed_steps: int = 0
    losses: list[float] = field(default_factory=lambda: [0.0, 0])
    skipped: int = 0
    # Optional, not `| None`: the annotation is evaluated when a state is read.
    best: Optional[float] = None
    best_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if min(self.step, self.seconds, self.timed_steps, self.skipped, self.best_step) < 0 or len(self.losses) != 2:
            raise ValueError('a number is out of range')
        if any(not {'epoch', 'step', 'loss', 'lr'} <= set(row) for row in self.history):
            raise ValueError('history: an epoch has no epoch, step, loss or lr')

    def validated(self, value: float) -> bool:
        """Record a validation; returns whether it is the best so far. Of equal results the later one wins."""
        if self.history and self.history[-1]['step'] == self.step:
            self.history[-1]['accuracy'] = value
        better = self.best is None or value >= self.best
        if better:
            self.best, self.best_step = value, self.step
        return better


class Clock:
    """Measures step times: validation and saving are excluded, waiting for data is not.

    Losses are fetched from the device only when they are shown, since each fetch waits for the device.

    Args:
        run: counts steps and seconds.
        step: the training step.
        total, per_epoch: steps of the training and of an epoch.
        samples: samples of a step, over all processes.
        processes: number of processes that train together.
        verbose: whether this process prints.
    """

    def __init__(self, run: Run, step: nn.Cell, total: int, per_epoch: int, samples: int, processes: int, verbose: bool):
        self.run, self.total, self.per_epoch, self.samples = run, total, per_epoch, samples
        self.processes, self.verbose = processes, verbose
        self.skipped = getattr(step.update, 'skipped', None)
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.stop: Tensor | None = None
        self.stop_before: Tensor | None = None
        self.first, self.uncounted = True, 0
        self.began = self.shown = time.perf_counter()
        self.line = MovingLine(verbose)

    def add(self, loss: Tensor, finite: Tensor, stop: Tensor) -> None:
        """Add the outputs of a step, scalars: loss, whether all is finite, number of a signal that ends the training or 0."""
        self.pending.append((loss, finite))
        self.stop_before, self.stop = self.stop, stop
        if self.first:
            # The first step compiles: its time is printed and not counted.
            loss.asnumpy()
            seconds, self.first = time.perf_counter() - self.began, False
            if self.verbose and seconds > 1:
                print(f'first step, with compilation: {seconds:.1f} s', flush=True)
            self.began, self.uncounted = time.perf_counter(), 1
            return
        run, steps = self.run, self.run.timed_steps + len(self.pending) - self.uncounted
        seconds = (run.seconds + time.perf_counter() - self.began) / steps
        self.line.show(f'step {run.step + 1}/{self.total}, {self.samples / seconds:.1f} images/s, time left '
                       f'{_left(seconds * (self.total - run.step - 1))}')

    def stop_of_all(self, noted: int) -> int:
        """Signal that ends the training, the same in all processes after the same step.

        Several processes look at the outputs of the previous step: waiting for the current step would leave the devices
        idle until the next step is sent.
        """
        if self.processes == 1:
            return noted
        return 0 if self.stop_before is None else int(self.stop_before.asnumpy())

    def late(self) -> bool:
        """Whether a progress line is due."""
        return not (self.line.active and sys.stdout.isatty()) and time.perf_counter() - self.shown > LOG_SECONDS

    def settle(self) -> float | None:
        """Count the pending steps; returns the last loss. Raises InputError: a loss is NaN or infinite."""
        self.line.clear()
        run, value = self.run, None
        for loss, finite in self.pending:
            value = float(loss.asnumpy())
            if not bool(finite.asnumpy()):
                raise diverged(run.step)
            if np.isfinite(value):
                run.losses = [run.losses[0] + value, run.losses[1] + 1]
        run.skipped = 0 if self.skipped is None else int(self.skipped.asnumpy())
        counted = len(self.pending) - self.uncounted
        if counted > 0:
            run.seconds += time.perf_counter() - self.began
            run.timed_steps += counted
        self.uncounted, self.pending = 0, []
        self.began = time.perf_counter()
        return value

    def restart(self) -> None:
        """Exclude the time since the last settled step."""
        if not self.pending:
            self.began = time.perf_counter()

    @property
    def rate(self) -> float | None:
        """Samples per second over all processes, None before the second step."""
        return self.samples * self.run.timed_steps / self.run.seconds if self.run.seconds else None

    def show_progress(self, loss: float | None) -> None:
        """Print a progress line within an epoch, if one is due."""
        if not self.late():
            return
        self.shown = time.perf_counter()
        run = self.run
        if self.verbose and run.timed_steps and run.step % self.per_epoch:
            print(f'step {run.step}/{self.total}: loss {loss:.6g}, {self.rate:.1f} images/s, time left {self._left()}',
                  flush=True)

    def close_epoch(self, epoch: int, lr: float) -> None:
        """Add the epoch to the history and print its line."""
        run = self.run
        run.history.append({'epoch': epoch, 'step': run.step, 'loss': run.losses[0] / max(run.losses[1], 1), 'lr': lr})
        run.losses = [0.0, 0]
        if self.verbose and run.timed_steps:
            skipped = f', {run.skipped} steps skipped' if run.skipped else ''
            print(f'epoch {epoch}/{-(-self.total // self.per_epoch)}: mean loss {run.history[-1]["loss"]:.6g}, '
                  f'lr {lr:.3g}, {run.seconds / run.timed_steps * 1000:.1f} ms/step, {self.rate:.1f} images/s{skipped}, '
                  f'time left {self._left()}', flush=True)

    def _left(self) -> str:
        return _left((self.total - self.run.step) * self.run.seconds / self.run.timed_steps)


def _left(seconds: float) -> str:
    """Format the remaining time as HH:MM:SS."""
    hours, rest = divmod(int(seconds), 3600)
    return f'{hours:02d}:{rest // 60:02d}:{rest % 60:02d}'


def diverged(step: int) -> InputError:
    """InputError for a loss that is NaN or infinite after `step` steps."""
    return InputError(f'the loss became NaN or infinite after step {step}: lower --lr, or check the data')

"""The training loop: start or resume, train, validate, save and report."""
from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import scipy
from mindspore import Tensor, nn

from src import __version__
from src.checkpoints.checkpoint import BEST, LAST, Recorded, save_cell
from src.common.device import Process, gather
from src.common.errors import InputError
from src.common.files import held
from src.common.records import read_record, write_json
from src.pictures import plot_curves
from src.training.learning_rate import schedule
from src.training.profiling import profiled
from src.training.progress import Clock, Run, diverged
from src.training.signals import Signals
from src.training.states import CURVES, RESULT, TrainingStates, left_by_training, set_aside
from src.training.system import System
from src.training.train_step import create_step


def fit(system: System, folder: str | Path, resume: bool | str = False, profile: str | None = None) -> dict[str, Any]:
    """Train a system by its recipe.

    Writes below `folder` (in a distributed run below folder/RANK): training states; train.ckpt, the network after the
    last step; best.ckpt, if the recipe validates; and, by rank 0, result.json and curves.png.

    Args:
        system: the system to train, before prepare().
        resume: whether to resume from the last state in the folder, if there is one; a str is the name of the state to
            resume from. If False, files of an earlier training there are moved to a sub-folder.
        profile: folder for MindSpore's profile of a few steps, None for none.

    Returns:
        the contents of result.json.

    Raises:
        InputError: a state that cannot be read or belongs to another training, a loss that is NaN or infinite, a full disk.
        SystemExit: 128 + the number of the signal that ended the training, after a state was saved.
    """
    ms.set_seed(system.recipe.seed)
    process, folder = system.process, Path(folder)
    own = folder / str(process.rank) if process.size > 1 else folder
    folders = list(dict.fromkeys([folder, own])) if process.rank == 0 else [own]
    # A folder that cannot be written must be reported now, not after hours of training.
    with held(folders, '--save_ckpt'):
        training = Training(system, folders, resume)
        began = time.perf_counter()
        training.train(profile)
        return training.report(time.perf_counter() - began)


def take_steps(system: System, step: nn.Cell, done: int, total: int, noted: Callable[[], int] = lambda: 0
               ) -> Iterator[tuple[int, Any]]:
    """Take the remaining steps of a training.

    Args:
        system, step: the system to train, and its training step.
        done, total: number of steps done, and of all steps.
        noted: the number of a signal that ends the training, or 0.

    Yields:
        (steps done, outputs of the step).
    """
    while done < total:
        for columns in system.batches(*divmod(done, system.steps_per_epoch)):
            done += 1
            yield done, step(Tensor(noted(), ms.int32), *columns)
            if done == total:
                return


def train_in_memory(system: System) -> None:
    """Train a prepared system without printing and without files. Raises InputError: a loss is NaN or infinite."""
    lr = schedule(system.recipe, system.steps_per_epoch)
    step = create_step(system.network, system.loss, system.network_columns, system.recipe, lr, system.process)
    system.network.set_train()
    finite = [result[1] for _, result in take_steps(system, step, 0, len(lr))]
    if not all(bool(one.asnumpy()) for one in finite):
        raise diverged(len(lr))
    system.network.set_train(False)


class Training:
    """One training: prepared here, then train and report.

    Args:
        system, resume: as for fit.
        folders: those that this process writes to; the last is its own, the first that of result.json if it writes one.
    """

    def __init__(self, system: System, folders: list[Path], resume: bool | str):
        process = system.process
        self.system, self.process, self.folders = system, process, folders
        self.folder, self.own = folders[0], folders[-1]
        self.verbose = process.rank == 0
        self.run = Run()
        if not resume:
            for path in folders:
                left_by_training(path)
        point = self._point(resume)
        system.prepare(self._found_before(point))
        # Not earlier: prepare() may have chosen another recipe on held-out classes.
        self.recipe = recipe = system.recipe
        self.per_epoch = system.steps_per_epoch
        self.lr = schedule(recipe, self.per_epoch, process.size)
        self.total = len(self.lr)
        self.step = create_step(system.network, system.loss, system.network_columns, recipe, self.lr, process)
        self.step.set_train()
        self.recorded = Recorded(recipe, asdict(system.found), process.size)
        self.states = self._states(self.per_epoch, recipe.keep_checkpoint_max)
        self._restore(point, bool(resume))
        self.clock = Clock(self.run, self.step, self.total, self.per_epoch, recipe.batch_size * process.size, process.size,
                           self.verbose)

    def _states(self, steps_per_epoch: int = 1, keep: int = 1) -> TrainingStates:
        return TrainingStates(self.own, 'auto_parallel' if self.process.size > 1 else 'train', steps_per_epoch, keep)

    def _point(self, resume: bool | str) -> tuple[int, int] | None:
        """Point from which the training resumes, None for its beginning."""
        states = self._states()
        if isinstance(resume, str):
            point = states.point_of(resume)
            if not point:
                raise InputError(f'--checkpoint={resume}: no training state (they are called {states.path((1, 1)).name} '
                                 'and so on); weights to start another training from go to --pretrained')
            return point
        return _last_common_point(states, self.process) if resume else None

    def _found_before(self, point: tuple[int, int] | None) -> Any:
        """`found` as the training to resume stored it, so that its choices are not made again."""
        if point is None:
            return None
        states = self._states()
        return read_record(self.system.Found, states.read(point)[1].found, str(states.path(point)))

    def _restore(self, point: tuple[int, int] | None, resume: bool) -> None:
        states = self.states
        if point:
            self.run = states.load(self.step, point, self.recorded)
            print(f'resumed after step {self.run.step} of {self.total} from {states.path(point)}')
            return
        if resume:
            print(f'--resume: no training state in {self.own} yet, starting from the beginning')
        # By now all processes have read their starting weights, which may be in this folder.
        gather([0], self.process)
        for path in self.folders:
            aside = set_aside(path)
            if aside:
                print(f'{path} held another training: moved to {aside}')

    def train(self, profile: str | None = None) -> None:
        """Take all remaining steps; profile: see fit."""
        if self.verbose:
            print('============== Starting Training ==============', flush=True)
        with Signals() as signals, profiled(profile, self.process.target) as tick:
            for step, result in take_steps(self.system, self.step, self.run.step, self.total, signals.now):
                self.clock.add(*result)
                self.run.step = step
                self._after_step(signals.noted)
                tick()
        save_cell(self.system.network, self.own / LAST, self.recorded)

    def _after_step(self, noted: int) -> None:
        """Print, validate and save when due; SystemExit if a signal ends the training."""
        run, recipe, clock, per_epoch = self.run, self.recipe, self.clock, self.per_epoch
        epoch, within = divmod(run.step - 1, per_epoch)
        end = run.step == self.total
        last = end or within + 1 == per_epoch
        validates = recipe.validation != 'none' and run.step % (
            recipe.test_iter_step or recipe.validation_epochs * per_epoch) == 0
        saves = recipe.save_checkpoint and (end or run.step % (
            recipe.save_iter_step or recipe.save_checkpoint_epochs * per_epoch) == 0)
        shows = run.step % (recipe.interval_step or per_epoch) == 0
        stop = clock.stop_of_all(noted)
        if not (last or validates or saves or shows or stop or clock.late()):
            return
        loss = clock.settle()
        if shows and self.verbose:
            print(f'epoch: {epoch + 1} step: {within + 1}, loss is {loss}', flush=True)
        clock.show_progress(loss)
        if last:
            clock.close_epoch(epoch + 1, float(self.lr[run.step - 1]))
        kept = validates or saves or end
        if kept or stop:
            self.system.before_measuring(hurried=not kept)
        if validates:
            self._validate()
        if saves or stop:
            self._save()
        if stop:
            print(f'stopped by a signal after step {run.step} of {self.total}, saved '
                  f'{self.states.path(self.states.point(run.step))}; --resume continues from there', flush=True)
            raise SystemExit(128 + stop)
        clock.restart()

    def _validate(self) -> None:
        run, value = self.run, self.system.validate()
        if run.validated(value):
            save_cell(self.system.network, self.own / BEST, self.recorded)
        if self.verbose:
            print(f'validation {self.system.measure} {value:.5f} (best {run.best:.5f} at step {run.best_step})', flush=True)

    def _save(self) -> None:
        self.states.save(self.step, self.run, self.recorded)
        # Older states are removed once all processes have saved the newer one, so that a kill leaves them a common state.
        gather([0], self.process)
        self.states.prune()

    def report(self, seconds: float) -> dict[str, Any]:
        """Write result.json and the curves, evaluate if the recipe says so; returns the result."""
        run, process, rate = self.run, self.process, self.clock.rate
        result = {
            'loss': run.history[-1]['loss'], 'validation_accuracy': run.best, 'best_step': run.best_step,
            'steps': run.step, 'skipped_steps': run.skipped, 'seconds': seconds, 'training_seconds': run.seconds,
            'samples_per_second': rate, 'device': process.target, 'device_num': process.size,
            'versions': {'project': __version__, 'python': platform.python_version(), 'mindspore': ms.__version__,
                         'numpy': np.__version__, 'scipy': scipy.__version__},
            'recipe': self.recipe, 'found': self.recorded.found, 'history': run.history}
        if self.verbose:
            write_json(self.folder / RESULT, result)
            plot_curves(run.history, self.folder / CURVES)
            if self.recipe.run_eval:
                result.update(self.system.evaluate(str(self.own / LAST)))
                write_json(self.folder / RESULT, result)
            shown = f', {rate:.1f} images/s' if rate else ''
            print(f'trained {run.step} steps on {process.target}{shown}: {self.own / LAST}, {self.folder / RESULT}')
        return result


def _last_common_point(states: TrainingStates, process: Process) -> tuple[int, int] | None:
    """Point of the newest state that every process has, None if no process has any."""
    newest = states.points()[-10:]
    rows = gather([number for at in newest + [(0, 0)] * (10 - len(newest)) for number in at], process)
    theirs = [{(int(epoch), int(step)) for epoch, step in row.reshape(-1, 2)} - {(0, 0)} for row in rows]
    common = set.intersection(*theirs)
    if not common and any(theirs):
        raise InputError(f'--resume: the {process.size} processes have no training state in common (one has '
                         f'{states.path(max(set.union(*theirs))).name}); restore the missing ones or use another '
                         'folder')
    return max(common) if common else None

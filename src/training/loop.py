"""Training from its first or its last saved step to the end, and what it leaves behind."""
import json
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import mindspore as ms
import numpy as np
import scipy
from mindspore import Tensor

from src.checkpoints.checkpoint import LAST, Recorded, save_cell
from src.common.device import Process, gather
from src.common.errors import InputError
from src.common.files import remove_unfinished, replacing
from src.pictures import plot_curves
from src.recipes.config import Recipe
from src.systems.system import System
from src.training.learning_rate import schedule
from src.training.states import BEST, CURVES, RESULT, TrainingStates, set_aside
from src.training.train_step import create_step

# Seconds from one line of progress within an epoch to the next, on a terminal and in a log.
TERMINAL_SECONDS, LOG_SECONDS = 10, 60


@dataclass
class Run:
    """How far a training has come; saved with every state, so that a resumed training goes on from it.

    step: steps done. seconds: spent in steps, without the first one of each process, which compiles. timed_steps: steps
    in these seconds. losses: sum and number of the losses of the epoch under way. skipped: steps whose gradients
    overflowed and changed nothing. best, best_step: the best validation and after how many steps it was reached.
    history: one dict an epoch with epoch, step, loss (mean over the epoch), lr and, where it was measured, accuracy.
    """
    step: int = 0
    seconds: float = 0.0
    timed_steps: int = 0
    losses: List[float] = field(default_factory=lambda: [0.0, 0])
    skipped: int = 0
    best: Optional[float] = None
    best_step: int = 0
    history: List[Dict[str, Any]] = field(default_factory=list)


class Signals:
    """Within `with`, notes SIGINT and SIGTERM instead of ending the process; `noted` is the signal's number or 0.

    Once MindSpore has run a graph, its own handler turns SIGINT into SIGTERM.
    """

    def __init__(self):
        self.noted = 0
        self._before = {}

    def __enter__(self):
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.take()
        return self

    def take(self):
        """Again: a pipeline of images that starts puts a handler of MindSpore below Python's, which ends the process."""
        for number in self._before:
            signal.signal(number, self._note)

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.noted = number


def fit(system: System, recipe: Recipe, process: Process, folder: Union[str, Path],
        resume: Union[bool, str] = False) -> Dict[str, Any]:
    """Train a system by a recipe.

    Writes below `folder` (in a distributed run below folder/RANK): training states, train.ckpt, the network after the
    last step, best.ckpt where the recipe validates, and, by rank 0, result.json and curves.png.

    Args:
        system: data, network, loss and accuracy that belong together; prepare() has not been called yet.
        resume: go on from the last state in the folder, or from the beginning when there is none; a str is the name of
            the state to go on from. Otherwise what another training left there is moved to a sub-folder.

    Returns:
        the contents of result.json.

    Raises:
        InputError: a state that cannot be read or is another training's, a loss that is no number, a full disk.
        SystemExit: 128 + the number of the signal that ended the training, after a state was saved.
    """
    training = Training(system, recipe, process, Path(folder))
    training.prepare(resume)
    began = time.perf_counter()
    training.train()
    return training.report(time.perf_counter() - began)


class Training:
    """One training: prepare, train, report. Arguments as for fit."""

    def __init__(self, system: System, recipe: Recipe, process: Process, folder: Path):
        self.system, self.recipe, self.process, self.folder = system, recipe, process, folder
        self.own = folder / str(process.rank) if process.size > 1 else folder
        self.verbose = process.rank == 0
        self.run = Run()

    def prepare(self, resume: Union[bool, str]) -> None:
        """Open the data, build the step, and put it where the training goes on."""
        system, recipe, process = self.system, self.recipe, self.process
        for path in {self.own, self.folder} if self.verbose else {self.own}:
            _make_folder(path)
        system.prepare(self._found_before(resume))
        self.per_epoch = system.steps_per_epoch
        self.lr = schedule(recipe, self.per_epoch, process.size)
        self.total = len(self.lr)
        self.step = create_step(system.network, system.loss, system.network_columns, recipe, self.lr, process)
        self.step.set_train()
        self.facts = {'recipe': recipe, 'found': system.found, 'device_num': process.size}
        self.states = self._states(self.per_epoch)
        self._restore(resume)

    def _states(self, steps_per_epoch):
        return TrainingStates(self.own, 'auto_parallel' if self.process.size > 1 else 'train', steps_per_epoch,
                              self.recipe.keep_checkpoint_max)

    def _point(self, resume):
        """Where the training goes on, None for its beginning."""
        states = self._states(1)
        if isinstance(resume, str):
            point = states.point_of(resume)
            if not point:
                raise InputError(f'--checkpoint={resume}: no training state (they are called {states.path((1, 1)).name} '
                                 'and so on); weights to start another training from go to --pretrained')
            return point
        return _last_common_point(states, self.process) if resume else None

    def _found_before(self, resume):
        """What a training that goes on found in its data when it began: what was chosen then is not chosen again."""
        point = self._point(resume)
        return self._states(1).read(point)[1].get('found') if point else None

    def _restore(self, resume):
        states, point = self.states, self._point(resume)
        if point:
            self.run = Run(**states.load(self.step, point, json.loads(json.dumps(self.facts)))['run'])
            states.start_after(point)
            print(f'resumed after step {self.run.step} of {self.total} from {states.path(point)}')
            return
        if resume:
            print(f'--resume: no training state in {self.own} yet, starting from the beginning')
        # All have read the weights they start from, which may be here.
        gather([0], self.process)
        for path in {self.own, self.folder} if self.verbose else {self.own}:
            aside = set_aside(path)
            if aside:
                print(f'{path} held another training: moved to {aside}')

    def train(self) -> None:
        """All steps that are left."""
        run, recipe, total, per_epoch = self.run, self.recipe, self.total, self.per_epoch
        every = recipe.save_iter_step or recipe.save_checkpoint_epochs * per_epoch
        measured = recipe.test_iter_step or recipe.validation_epochs * per_epoch
        shown = recipe.interval_step or per_epoch
        if self.verbose:
            print('============== Starting Training ==============', flush=True)
        with Signals() as signals:
            clock = _Clock(self)
            while run.step < total:
                epoch, skip = divmod(run.step, per_epoch)
                for columns in self.system.batches(epoch, skip):
                    signals.take()
                    noted = signals.noted
                    clock.add(*self.step(Tensor(noted, ms.int32), *columns))
                    run.step += 1
                    last = run.step in (total, (epoch + 1) * per_epoch)
                    validates = recipe.validation != 'none' and run.step % measured == 0
                    saves = recipe.save_checkpoint and (run.step % every == 0 or run.step == total)
                    shows = run.step % shown == 0
                    stop = clock.stop_of_all(noted)
                    if last or validates or saves or shows or stop or clock.late():
                        loss = clock.settle()
                        if shows and self.verbose:
                            print(f'epoch: {epoch + 1} step: {(run.step - 1) % per_epoch + 1}, loss is {loss}', flush=True)
                        clock.show_progress(loss)
                    if last:
                        self._close_epoch(epoch + 1)
                    kept = validates or saves or run.step == total
                    if kept or stop:
                        self.system.before_measuring(hurried=not kept)
                    if validates:
                        self._validate()
                    if saves or stop:
                        self._save()
                    if stop:
                        print(f'stopped by a signal after step {run.step} of {total}, saved '
                              f'{self.states.path(self.states.point(run.step))}; --resume goes on from there', flush=True)
                        raise SystemExit(128 + stop)
                    clock.restart()
                    if run.step == total:
                        break
        save_cell(self.system.network, self.own / LAST, Recorded(**self.facts))

    def _close_epoch(self, epoch):
        run = self.run
        run.history.append({'epoch': epoch, 'step': run.step, 'loss': run.losses[0] / max(run.losses[1], 1),
                            'lr': float(self.lr[run.step - 1])})
        run.losses = [0.0, 0]
        if self.verbose and run.timed_steps:
            seconds = run.seconds / run.timed_steps
            skipped = f', {run.skipped} steps skipped' if run.skipped else ''
            print(f'epoch {epoch}/{-(-self.total // self.per_epoch)}: mean loss {run.history[-1]["loss"]:.6g}, '
                  f'lr {run.history[-1]["lr"]:.3g}, {seconds * 1000:.1f} ms/step, '
                  f'{self.samples_per_step / seconds:.1f} images/s{skipped}, time left '
                  f'{_hours((self.total - run.step) * seconds)}', flush=True)

    @property
    def samples_per_step(self):
        """Over all processes."""
        return self.recipe.batch_size * self.process.size

    def _validate(self):
        run, measure = self.run, self.system.measure
        value = self.system.validate()
        if run.history and run.history[-1]['step'] == run.step:
            run.history[-1]['accuracy'] = value
        # Of equal ones the later: it has been trained for longer.
        if run.best is None or value >= run.best:
            run.best, run.best_step = value, run.step
            save_cell(self.system.network, self.own / BEST, Recorded(**self.facts))
        if self.verbose:
            print(f'validation {measure} {value:.5f} (best {run.best:.5f} at step {run.best_step})', flush=True)

    def _save(self):
        self.states.save(self.step, self.run.step, {**self.facts, 'run': asdict(self.run)})
        # Older states go when every process has saved its newer one: whenever one is killed, all have one in common.
        gather([0], self.process)
        self.states.prune()

    def report(self, seconds: float) -> Dict[str, Any]:
        """Write result.json and the curves, evaluate where the recipe says so; returns the result."""
        run, recipe, process = self.run, self.recipe, self.process
        rate = self.samples_per_step * run.timed_steps / run.seconds if run.seconds else None
        result = {
            'loss': run.history[-1]['loss'], 'validation_accuracy': run.best, 'best_step': run.best_step,
            'steps': run.step, 'skipped_steps': run.skipped, 'seconds': seconds, 'training_seconds': run.seconds,
            'samples_per_second': rate, 'device': process.target, 'device_num': process.size,
            'versions': {'python': platform.python_version(), 'mindspore': ms.__version__, 'numpy': np.__version__,
                         'scipy': scipy.__version__},
            'recipe': recipe, 'found': self.system.found, 'history': run.history}
        if self.verbose:
            write_result(result, self.folder / RESULT)
            plot_curves(run.history, self.folder / CURVES)
            if recipe.run_eval:
                result.update(self.system.evaluate(str(self.own / LAST)))
                write_result(result, self.folder / RESULT)
            shown = f', {rate:.1f} images/s' if rate else ''
            print(f'trained {run.step} steps on {process.target}{shown}: {self.own / LAST}, {self.folder / RESULT}')
        return result


class _Clock:
    """Steps under way and their time: a step's time runs from the end of the work after the one before, so waiting for
    data counts and validation does not. Losses are fetched when somebody wants to see them: each fetch waits for the device.
    """

    def __init__(self, training):
        self.training = training
        self.run = training.run
        self.pending = []
        self.stop = self.stop_before = None
        self.first = True
        self.began = self.shown = time.perf_counter()
        self.every = TERMINAL_SECONDS if sys.stdout.isatty() else LOG_SECONDS

    def add(self, loss, finite, stop):
        self.pending.append((loss, finite))
        self.stop_before, self.stop = self.stop, stop
        if self.first:
            # The first step compiles: its time is told and not counted.
            loss.asnumpy()
            seconds, self.first = time.perf_counter() - self.began, False
            if self.training.verbose and seconds > 1:
                print(f'first step, with compilation: {seconds:.1f} s', flush=True)
            self.began, self.uncounted = time.perf_counter(), 1

    def stop_of_all(self, noted):
        """The signal that ends the training, the same in all processes after the same step.

        Several processes look at what the step before brought: to wait for this step's would leave the devices idle until
        the next one is sent.
        """
        if self.training.process.size == 1:
            return noted
        return 0 if self.stop_before is None else int(self.stop_before.asnumpy())

    def late(self):
        """Whether it is time for a line of progress."""
        return time.perf_counter() - self.shown > self.every

    def settle(self):
        """Count what is pending into the run; returns the last loss."""
        run, skipped = self.run, getattr(self.training.step.update, 'skipped', None)
        loss = None
        for loss, finite in self.pending:
            loss = float(loss.asnumpy())
            if not bool(finite.asnumpy()):
                raise InputError(f'the loss became NaN or infinite after step {run.step}: lower --lr, or look at the '
                                 'data')
            if np.isfinite(loss):
                run.losses = [run.losses[0] + loss, run.losses[1] + 1]
        run.skipped = 0 if skipped is None else int(skipped.asnumpy())
        counted = len(self.pending) - getattr(self, 'uncounted', 0)
        if counted > 0:
            run.seconds += time.perf_counter() - self.began
            run.timed_steps += counted
        self.uncounted = 0
        self.pending = []
        self.began = time.perf_counter()
        return loss

    def show_progress(self, loss):
        if not self.late():
            return
        self.shown = time.perf_counter()
        training, run = self.training, self.run
        if training.verbose and run.timed_steps and run.step % training.per_epoch:
            seconds = run.seconds / run.timed_steps
            print(f'step {run.step}/{training.total}: loss {loss:.6g}, {training.samples_per_step / seconds:.1f} images/s, '
                  f'time left {_hours((training.total - run.step) * seconds)}', flush=True)

    def restart(self):
        """What came after a step that was settled does not count."""
        if not self.pending:
            self.began = time.perf_counter()


def _hours(seconds):
    hours, rest = divmod(int(seconds), 3600)
    return f'{hours:02d}:{rest // 60:02d}:{rest % 60:02d}'


def _last_common_point(states, process):
    """The point of the newest state that every process has, None where no process has any."""
    newest = states.points()[-10:]
    rows = gather([number for at in newest + [(0, 0)] * (10 - len(newest)) for number in at], process)
    theirs = [{tuple(pair) for pair in row.reshape(-1, 2).tolist()} - {(0, 0)} for row in rows]
    common = set.intersection(*theirs)
    if not common and any(theirs):
        raise InputError(f'--resume: the {process.size} processes have no training state in common (one has '
                         f'{states.path(max(set.union(*theirs))).name}); restore the missing ones or use another '
                         'folder')
    return max(common) if common else None


def _make_folder(folder):
    # What cannot be written must not come out after the first hours of training.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f'--save_ckpt: cannot make the folder {folder}, or write to it: {error.strerror}') from error


def write_result(result: Dict[str, Any], path: Union[str, Path]) -> None:
    """Write a dict as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + '\n')

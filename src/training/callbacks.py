"""What happens beside the steps of a training: progress, validation, checkpoints, stopping."""
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import Optional

import numpy as np
from mindspore.train import Callback

from src.training.checkpoint import BEST, save_cell
from src.training.distributed import gather


@dataclass
class Run:
    """How far a training has come; saved with every state, so that a resumed training goes on from it.

    step: steps done. seconds: spent in steps, without the first one of each process, which compiles. timed_steps: steps
    in these seconds. losses: sum and number of the losses of the epoch under way. best, best_step: the best validation
    accuracy and after how many steps it was reached. history: one dict an epoch with epoch, step, loss (mean over the
    epoch), lr and, where it was measured, accuracy.
    """
    step: int = 0
    seconds: float = 0.0
    timed_steps: int = 0
    losses: list = field(default_factory=lambda: [0.0, 0])
    best: Optional[float] = None
    best_step: int = 0
    history: list = field(default_factory=list)


class Position(Callback):
    """Lets an epoch that starts half-way, and epochs trained one by one, count steps as one training.

    Args:
        run (Run): says how many steps are done.
        steps_per_epoch (int): whole epochs, not what is left of the one under way.
    """

    def __init__(self, run, steps_per_epoch):
        super().__init__()
        self.run = run
        self.steps_per_epoch = steps_per_epoch

    def on_train_begin(self, run_context):
        params = run_context.original_args()
        params.cur_step_num = self.run.step
        params.batch_num = self.steps_per_epoch

    def on_train_epoch_begin(self, run_context):
        run_context.original_args().cur_epoch_num = self.run.step // self.steps_per_epoch + 1


class Record(Callback):
    """Counts steps, seconds and losses into the run and prints a line an epoch with the rate and the time left.

    Args:
        run (Run): filled.
        lr (float array): learning rate of every step.
        steps_per_epoch, samples_per_step (int): the latter over all devices.
        verbose (bool): whether this process prints.
    """

    def __init__(self, run, lr, steps_per_epoch, samples_per_step, verbose):
        super().__init__()
        self.run = run
        self.lr = lr
        self.steps_per_epoch = steps_per_epoch
        self.samples_per_step = samples_per_step
        self.verbose = verbose
        self.started = None

    def on_train_step_end(self, run_context):
        run = self.run
        loss = float(run_context.original_args().net_outputs.asnumpy())
        if self.started:
            run.seconds += time.perf_counter() - self.started
            run.timed_steps += 1
        run.step += 1
        run.losses = [run.losses[0] + loss, run.losses[1] + 1]
        if run.step % self.steps_per_epoch == 0 or run.step == len(self.lr):
            self._close_epoch()

    def _close_epoch(self):
        run = self.run
        epoch = -(-run.step // self.steps_per_epoch)
        run.history.append({'epoch': epoch, 'step': run.step, 'loss': run.losses[0] / run.losses[1],
                            'lr': float(self.lr[run.step - 1])})
        run.losses = [0.0, 0]
        if self.verbose and run.timed_steps:
            seconds = run.seconds / run.timed_steps
            left = time.strftime('%H:%M:%S', time.gmtime((len(self.lr) - run.step) * seconds))
            print(f'epoch {epoch}/{-(-len(self.lr) // self.steps_per_epoch)}: mean loss {run.history[-1]["loss"]:.6g}, '
                  f'lr {run.history[-1]["lr"]:.3g}, {seconds * 1000:.1f} ms/step, '
                  f'{self.samples_per_step / seconds:.1f} images/s, time left {left}', flush=True)


class StartClock(Callback):
    """Starts a step's time when the callbacks of the one before are done: waiting for data counts, validation does not.

    It comes last of them.

    Args:
        record (Record): whose clock it is.
    """

    def __init__(self, record):
        super().__init__()
        self.record = record

    def on_train_step_end(self, run_context):
        self.record.started = time.perf_counter()


class Validation(Callback):
    """Measures the accuracy every so many steps and keeps the network of the best one as best.ckpt.

    Args:
        run (Run): gets best, best_step and the history's accuracy.
        validate (callable): () -> float.
        every (int): steps.
        network (Cell): what best.ckpt holds.
        folder (Path): where.
        facts (dict): written with it.
        verbose (bool): whether this process prints.
    """

    def __init__(self, run, validate, every, network, folder, facts, verbose):
        super().__init__()
        self.run = run
        self.validate = validate
        self.every = every
        self.network = network
        self.folder = folder
        self.facts = facts
        self.verbose = verbose

    def on_train_step_end(self, run_context):
        run = self.run
        if run.step % self.every:
            return
        accuracy = self.validate()
        if run.history and run.history[-1]['step'] == run.step:
            run.history[-1]['accuracy'] = accuracy
        # Of equal ones the later: it has been trained for longer.
        if run.best is None or accuracy >= run.best:
            run.best, run.best_step = accuracy, run.step
            save_cell(self.network, self.folder / BEST, self.facts)
        if self.verbose:
            print(f'validation accuracy {accuracy:.5f} (best {run.best:.5f} at step {run.best_step})', flush=True)


class SaveStates(Callback):
    """Saves the training state every so many steps and at the last one.

    Older states go when every process has saved its newer one: whenever one is killed, all have one in common.

    Args:
        run (Run): saved with it.
        states (TrainingStates): where.
        cell (Cell): the train step, which holds network, loss and optimizer.
        every (int): steps.
        last (int): the last step.
        facts (dict): saved with it.
        place (Place): this process among the others.
    """

    def __init__(self, run, states, cell, every, last, facts, place):
        super().__init__()
        self.run = run
        self.states = states
        self.cell = cell
        self.every = every
        self.last = last
        self.facts = facts
        self.place = place

    def on_train_step_end(self, run_context):
        if self.run.step % self.every == 0 or self.run.step == self.last:
            self.save()

    def save(self):
        """Save the state as it is now."""
        self.states.save(self.cell, self.run.step, {**self.facts, 'run': asdict(self.run)})
        gather([0], self.place)
        self.states.prune()


class Stop(Callback):
    """Ends the training after the last step, or after the step under way when SIGINT or SIGTERM comes.

    Within `with`, the signals are noted; `signal` is then the same in all processes of a distributed training, which
    stop after the same step. Once MindSpore has run a graph, its own handler turns SIGINT into SIGTERM.

    Args:
        run (Run): says how many steps are done.
        last (int): the last step.
        place (Place): this process among the others.
    """

    def __init__(self, run, last, place):
        super().__init__()
        self.run = run
        self.last = last
        self.place = place
        self.signal = 0
        self._noted = 0
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self._noted = number

    def on_train_step_end(self, run_context):
        # A process that stopped alone would leave the others waiting for its gradients.
        self.signal = int(np.max(gather([self._noted], self.place)))
        if self.signal or self.run.step >= self.last:
            run_context.request_stop()

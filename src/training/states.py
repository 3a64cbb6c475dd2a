"""Training states: written atomically, read only if complete, and resumed only by the training that wrote them."""
from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops

from src.checkpoints.checkpoint import RECORD, Recorded, read_checkpoint, read_recorded, save_cell
from src.common.errors import InputError
from src.common.files import check_replaceable
from src.common.records import as_table, read_record
from src.recipes.entries import without_removed
from src.recipes.recipe import differences
from src.training.progress import Run

RESULT, CURVES = 'result.json', 'curves.png'
# Entries that set the learning rates; they may change if the rates of the steps done stay the same.
SCHEDULE = {'epoch_size', 'total_iter_num', 'pretrain_epoch_size', 'lr_mode', 'lr_max', 'lr_init', 'lr_end', 'lr_epochs',
            'lr_steps', 'warmup_epochs', 'warmup', 'head_first_epochs'}
Point = tuple[int, int]


def flush_subnormals(cell: nn.Cell) -> None:
    """Set subnormal numbers and -0 in the parameters of a cell to 0.

    On a CPU MindSpore's kernels keep or flush such numbers depending on the thread that runs them. Moments that have
    decayed so far would be the only difference between two runs of the same training.
    """
    for parameter in cell.get_parameters():
        values = parameter.asnumpy()
        if values.dtype.kind == 'f':
            small = np.abs(values) < np.finfo(values.dtype).tiny
            if values[small].tobytes().strip(b'\0'):
                # Not set_data: the compiled step would keep its old tensor, and later states would hold the new one.
                ops.assign(parameter, ms.Tensor(np.where(small, values.dtype.type(0), values)))


class TrainingStates:
    """The training states in a folder, named PREFIX-EPOCH_STEP.ckpt as MindSpore's ModelCheckpoint names them.

    A state holds the network, the loss, the optimizer and what a resumed training needs to know. It is identified by its
    point: (epoch, step within the epoch), both counted from 1.

    Args:
        folder: folder of the states; made when the first state is written.
        prefix: start of their file names.
        steps_per_epoch: turns a number of steps into a point.
        keep: number of the newest states to keep.
    """

    def __init__(self, folder: Path, prefix: str, steps_per_epoch: int, keep: int):
        self.folder = Path(folder)
        self.prefix = prefix
        self.steps_per_epoch = steps_per_epoch
        self.keep = keep
        self.stale: set[Point] = set()

    def point(self, step: int) -> Point:
        """Point after `step` steps of training."""
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        return epoch + 1, within + 1

    def path(self, point: Point) -> Path:
        """File of the state at a point."""
        return self.folder / f'{self.prefix}-{point[0]}_{point[1]}.ckpt'

    def point_of(self, name: str) -> Point | None:
        """Point that a file name stands for, None if it is no name of a state."""
        # Nine digits are a billion epochs; a longer number is not ours.
        found = re.fullmatch(re.escape(self.prefix) + r'-([1-9]\d{0,8})_([1-9]\d{0,8})\.ckpt', name, re.ASCII)
        return (int(found[1]), int(found[2])) if found else None

    def points(self) -> list[Point]:
        """Points of the stored states, ascending."""
        return sorted(filter(None, (self.point_of(path.name) for path in self.folder.glob('*.ckpt'))))

    def save(self, cell: nn.Cell, run: Run, recorded: Recorded) -> None:
        """Write the state after `run.step` steps, with the progress and the records of the training."""
        flush_subnormals(cell)
        point = self.point(run.step)
        save_cell(cell, self.path(point), replace(recorded, steps_per_epoch=self.steps_per_epoch, run=asdict(run)))
        self.stale.discard(point)

    def prune(self) -> None:
        """Remove the stale states, and all other states but the newest `keep`."""
        fresh = [point for point in self.points() if point not in self.stale]
        for point in [*self.stale, *fresh[:-self.keep]]:
            self.path(point).unlink(missing_ok=True)
        self.stale.clear()

    def load(self, cell: nn.Cell, point: Point, recorded: Recorded) -> Run:
        """Load the state at a point into `cell`; returns the progress of its training.

        Args:
            cell: the same cell as when the state was saved.
            point: one of points().
            recorded: recipe, found and device_num of this training. They must equal those stored in the state, except for
                entries that may change on resume, entries added since, if they are at their defaults, and entries of
                SCHEDULE, if the steps done would have had the same learning rates.

        Raises:
            InputError: the file is broken (the message offers the previous state), or of another recipe, network, loss or data.
        """
        path = self.path(point)
        state, saved = self.read(point)
        run = read_record(Run, saved.run, f'{path}: run', 'use the file as it was written')
        # As in JSON, where tuples are lists.
        mine = read_recorded(json.dumps(as_table(recorded)), str(path))
        then, now = ({'device_num': one.device_num, **one.found} for one in (saved, mine))
        others = [*differences(saved.recipe, mine.recipe),
                  # Not what the state is too old to say.
                  *((name, value, now.get(name)) for name, value in then.items() if value != now.get(name))]
        own = {p.name: p for p in cell.get_parameters()}
        # Learning rates of all steps, as stored in the optimizer.
        rates = {name for name in own if name.rpartition('.')[2].startswith('learning_rate')} if others else set()
        same = rates & set(state) and all(np.array_equal(own[name].asnumpy()[:run.step], state[name].asnumpy()[:run.step])
                              for name in rates & set(state))
        for name, before, after in others:
            told = f'{path}: was trained with {name} {before}, now it is {after}'
            if name not in SCHEDULE:
                raise InputError(f'{told}; resume with the flags it was started with, or train in another folder')
            if not same:
                raise InputError(f'{told}: the {run.step} steps that are done would have had other learning rates; resume '
                                 'with the flags it was started with, or train in another folder')
            print(f'{told}; the {run.step} steps that are done had the same learning rates')
        wrong = sorted(set(own) ^ set(state)) or [n for n in own if n not in rates and own[n].shape != state[n].shape]
        if wrong or saved.steps_per_epoch != self.steps_per_epoch:
            raise InputError(f'{path}: a training of another network or other data '
                             f'({wrong[0] if wrong else "steps per epoch"} is not the same); give the data it was '
                             'started with, or train in another folder')
        if self.point(run.step) != point:
            raise InputError(f'{path}: holds the state after step {run.step}, which is another than its name says; give it the '
                             'name that it was written under')
        for name, parameter in own.items():
            if name not in rates:
                parameter.set_data(state[name])
        # Of a training that went further; removed once this one has saved its next state.
        self.stale = {other for other in self.points() if other > point}
        return run

    def read(self, point: Point) -> tuple[dict[str, Parameter], Recorded]:
        """Parameters of the state at a point, by name, and the records of its training.

        Raises:
            InputError: the file is broken (the message offers the previous state), or see without_removed.
        """
        path = self.path(point)
        if not path.is_file():
            raise InputError(f'{path}: no such training state')
        try:
            state = read_checkpoint(path)
        except InputError as error:
            before = [other for other in self.points() if other < point]
            advice = f'remove it to resume from {self.path(before[-1]).name}' if before else 'there is none before it'
            raise InputError(f'{path}: broken or cut short; {advice}') from error
        saved = read_recorded(state.pop('facts', '{}'), path)
        return state, replace(saved, recipe=without_removed(saved.recipe, str(path)))


def left_by_training(folder: Path) -> list[Path]:
    """Files of an earlier training in a folder, which set_aside moves; other files stay.

    Raises:
        InputError: a file has such a name but was not written by a training of this project.
    """
    found = []
    for path in sorted(folder.glob('*')):
        if re.fullmatch(r'(train|best|(train|auto_parallel)-\d+_\d+)\.ckpt', path.name):
            mark = RECORD
        elif path.name == RESULT:
            mark = b'"recipe"'
        elif path.name == CURVES:
            mark = b'atplotlib'
        else:
            continue
        check_replaceable(path, [mark], '--save_ckpt')
        found.append(path)
    return found


def set_aside(folder: Path) -> Path | None:
    """Move the files of an earlier training to the first free sub-folder earlier-N; returns that folder or None."""
    old = left_by_training(folder)
    if not old:
        return None
    number = 1
    while (folder / f'earlier-{number}').exists():
        number += 1
    aside = folder / f'earlier-{number}'
    aside.mkdir()
    for path in old:
        shutil.move(str(path), aside / path.name)
    return aside


def find_training(checkpoint: str, folder: str | None, distribute: bool) -> tuple[Path, bool | str]:
    """Find the training that --checkpoint names.

    Args:
        checkpoint: folder of a training, or one of its states (of any rank).
        folder: value of --save_ckpt.
        distribute: whether the states are in folders of ranks.

    Returns:
        (folder, True for its last state or the name of a state).

    Raises:
        InputError: no such file or folder, or --save_ckpt is another folder.
    """
    path = Path(checkpoint)
    if not path.exists():
        raise InputError(f'--checkpoint={checkpoint}: no such file or folder')
    home, name = (path, True) if path.is_dir() else (path.parent.parent if distribute else path.parent, path.name)
    if folder and Path(folder).resolve() != home.resolve():
        raise InputError(f'--checkpoint={checkpoint}: a training is resumed in its own folder; give --save_ckpt={home} or '
                         'leave it out')
    return home, name

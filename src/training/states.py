"""Checkpoints and training states: written at once or not at all, read only when whole."""
import re
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import ops

from src.checkpoints.checkpoint import Recorded, read_checkpoint, read_recorded, save_cell
from src.checkpoints.records import as_table
from src.common.errors import InputError
from src.recipes.config import EVALUATION

BEST, RESULT, CURVES = 'best.ckpt', 'result.json', 'curves.png'
# Entries that may differ between a training and its going on: the data may have moved, and what comes after the training.
# Not how images are embedded: validations before and after would not compare.
MAY_DIFFER = ('data_path', 'dataset_path', 'run_eval', 'num_workers',
              *(name for name in EVALUATION if name not in ('mirror', 'turned')))


def flush_subnormals(cell):
    """Set what is too small for a normal float in the parameters of a cell, and -0, to 0.

    On a CPU MindSpore's kernels keep or flush such numbers as the thread happens to be set that runs them: moments that
    have decayed that far would differ between two runs of the same training, though nothing else does.
    """
    for parameter in cell.get_parameters():
        values = parameter.asnumpy()
        if values.dtype.kind == 'f':
            small = np.abs(values) < np.finfo(values.dtype).tiny
            if values[small].tobytes().strip(b'\0'):
                # Not set_data: the compiled step then went on with the tensor it knew, and later states held this one.
                ops.assign(parameter, ms.Tensor(np.where(small, values.dtype.type(0), values)))


class TrainingStates:
    """The training states in a folder, named PREFIX-EPOCH_STEP.ckpt as MindSpore's ModelCheckpoint names them.

    A state holds the network, the loss, the optimizer and the facts a resumed training goes on from. Where one is
    asked for by its point, that is (epoch, step within the epoch), both counted from 1.

    Args:
        folder: where they are; made when the first one is written.
        prefix (str): how their names begin.
        steps_per_epoch (int): by which a number of steps becomes a point.
        keep (int): how many of the newest stay.
    """

    def __init__(self, folder, prefix, steps_per_epoch, keep):
        self.folder = Path(folder)
        self.prefix = prefix
        self.steps_per_epoch = steps_per_epoch
        self.keep = keep
        self.stale = set()

    def point(self, step):
        """The point after `step` steps of training."""
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        return epoch + 1, within + 1

    def path(self, point):
        """The file of the state at a point."""
        return self.folder / f'{self.prefix}-{point[0]}_{point[1]}.ckpt'

    def point_of(self, name):
        """The point that a file name says, None where it is no name of a state."""
        found = re.fullmatch(re.escape(self.prefix) + r'-([1-9]\d*)_([1-9]\d*)\.ckpt', name)
        return found and (int(found[1]), int(found[2]))

    def points(self):
        """Where there are states, ascending."""
        return sorted(filter(None, (self.point_of(path.name) for path in self.folder.glob('*.ckpt'))))

    def start_after(self, point):
        """Count the states after a point as stale: they go once this training has saved its next one."""
        self.stale = {other for other in self.points() if other > point}

    def save(self, cell, step, facts):
        """Write the state after `step` steps, with a dict of facts."""
        flush_subnormals(cell)
        save_cell(cell, self.path(self.point(step)), Recorded(**facts, steps_per_epoch=self.steps_per_epoch))
        self.stale.discard(self.point(step))

    def prune(self):
        """Remove the stale states and all but the newest `keep` others."""
        fresh = [point for point in self.points() if point not in self.stale]
        for point in [*self.stale, *fresh[:-self.keep]]:
            self.path(point).unlink(missing_ok=True)
        self.stale.clear()

    def load(self, cell, point, facts):
        """Put the state at a point into `cell`.

        Args:
            cell (Cell): as it was when the state was saved.
            point (tuple): of points().
            facts (dict): 'recipe', 'found' and 'device_num' of this training, which must be those of the state, bar
                MAY_DIFFER and what the state is older than, where it is off.

        Returns:
            dict of the facts it was saved with.

        Raises:
            InputError: the file is broken (the one before it is offered), or of another recipe, network, loss or data.
        """
        path = self.path(point)
        state, saved = self.read(point)
        then, now = _settings(saved), _settings(facts)
        for name in sorted(set(then) | set(now)):
            # What is newer than the state and off did not exist then.
            newer = name not in then and '.' not in name and not now[name]
            if then.get(name) != now.get(name) and not newer:
                raise InputError(f'{path}: was trained with {name} {then.get(name)}, now it is {now.get(name)}; resume '
                                 'with the flags it was started with, or train in another folder')
        mine = {p.name: p for p in cell.get_parameters()}
        wrong = sorted(set(mine) ^ set(state)) or [n for n in mine if mine[n].shape != state[n].shape]
        if wrong or saved.get('steps_per_epoch') != self.steps_per_epoch:
            raise InputError(f'{path}: a training of another network or other data '
                             f'({wrong[0] if wrong else "steps per epoch"} is not the same); give the data it was '
                             'started with, or train in another folder')
        for name, parameter in mine.items():
            parameter.set_data(state[name])
        return saved

    def read(self, point):
        """The parameters of the state at a point, {name: Parameter}, and the facts it was saved with.

        Raises:
            InputError: the file is broken; the state before it is offered.
        """
        path = self.path(point)
        if not path.is_file():
            raise InputError(f'{path}: no such training state')
        try:
            state = read_checkpoint(path)
        except InputError as error:
            before = [other for other in self.points() if other < point]
            advice = f'remove it to go on from {self.path(before[-1]).name}' if before else 'there is none before it'
            raise InputError(f'{path}: broken or cut short; {advice}') from error
        return state, as_table(read_recorded(state.pop('facts', '{}'), path))


def _settings(facts):
    """Recipe, what was found and number of devices as one flat dict, options as `loss_options.margin`."""
    settings = {'device_num': facts.get('device_num')}
    for part in ('recipe', 'found'):
        for entry, value in facts.get(part, {}).items():
            if entry not in MAY_DIFFER:
                settings.update({f'{entry}.{name}': one for name, one in value.items()} if isinstance(value, dict)
                                else {entry: value})
    return settings


def set_aside(folder):
    """Move what another training left in a folder to its first free sub-folder earlier-N; returns that or None."""
    folder = Path(folder)
    old = [path for path in folder.glob('*') if path.suffix == '.ckpt' or path.name in (RESULT, CURVES)]
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


def find_training(checkpoint, folder, distribute):
    """Where the training is that --checkpoint names.

    Args:
        checkpoint (str): a training's folder, or one of its states (of any rank).
        folder (str or None): --save_ckpt.
        distribute (bool): whether the states are in folders of ranks.

    Returns:
        (folder, True for its last state or the name of a state).

    Raises:
        InputError: there is no such file or folder, or --save_ckpt is another folder.
    """
    path = Path(checkpoint)
    if not path.exists():
        raise InputError(f'--checkpoint={checkpoint}: no such file or folder')
    home, name = (path, True) if path.is_dir() else (path.parent.parent if distribute else path.parent, path.name)
    if folder and Path(folder).resolve() != home.resolve():
        raise InputError(f'--checkpoint={checkpoint}: a training goes on in its own folder; give --save_ckpt={home} or '
                         'leave it out')
    return home, name

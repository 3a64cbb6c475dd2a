"""Checkpoints of a whole training: written at once or not at all, read only when whole."""
import json
import logging
import re
from contextlib import contextmanager
from pathlib import Path

import mindspore as ms

from src.errors import InputError
from src.files import replacing
from src.networks.weights import read_weights

LAST, BEST = 'train.ckpt', 'best.ckpt'


@contextmanager
def _own_words_only():
    # MindSpore logs several lines of its own before it raises; what is raised becomes one line of ours.
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def save_cell(cell, path, facts=None):
    """Write the parameters of `cell` with a checksum as a MindSpore checkpoint, and a dict of facts with them as JSON.

    Raises:
        InputError: the file cannot be written; a file of that name from before is left as it was.
    """
    with replacing(path) as temporary, _own_words_only():
        try:
            ms.save_checkpoint(cell, str(temporary), append_dict={'facts': json.dumps(facts)} if facts else None, crc_check=True)
        except (RuntimeError, ValueError) as error:
            raise OSError(str(error).splitlines()[0]) from error
        finally:
            # MindSpore writes to a temporary name of its own first.
            temporary.with_suffix('.tmp').unlink(missing_ok=True)
        temporary.chmod(0o644)


def read_checkpoint(path):
    """The parameters of a checkpoint written by save_cell.

    Returns:
        dict of name -> Parameter, and 'facts' -> JSON where it was saved with facts.

    Raises:
        InputError: no such file, cut short, or changed since it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'{path}: no such checkpoint')
    with _own_words_only():
        try:
            return ms.load_checkpoint(str(path), crc_check=True)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise InputError(f'{path}: not a whole checkpoint of this project; use another one') from error


def saved_recipe(path):
    """The recipe a checkpoint of this project was trained by, as a dict; None in another project's checkpoint.

    Raises:
        InputError: the file cannot be read.
    """
    return json.loads(read_weights(path).get('facts', '{}')).get('recipe')


class TrainingStates:
    """The training states in a folder, named PREFIX-EPOCH_STEP.ckpt as MindSpore's ModelCheckpoint names them.

    A state holds the network, the loss, the optimizer and the facts a resumed training goes on from. Epochs and steps
    within an epoch count from 1.

    Args:
        folder: where they are; made when the first one is written.
        prefix (str): how their names begin.
        steps_per_epoch (int): by which EPOCH_STEP becomes a number of steps.
        keep (int): how many of the newest stay. The older ones go after the newer one is in place.
    """

    def __init__(self, folder, prefix, steps_per_epoch, keep):
        self.folder = Path(folder)
        self.prefix = prefix
        self.steps_per_epoch = steps_per_epoch
        self.keep = keep
        self.stale = []

    def replace_existing(self):
        """Count the states of an earlier training as stale: they go once this training has saved its first."""
        self.stale = [self.path(step) for step in self.steps()]

    def path(self, step):
        """The file of the state after `step` steps of training."""
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        return self.folder / f'{self.prefix}-{epoch + 1}_{within + 1}.ckpt'

    def steps(self):
        """The steps after which there are states, ascending."""
        names = (re.fullmatch(re.escape(self.prefix) + r'-(\d+)_(\d+)\.ckpt', p.name) for p in self.folder.glob('*.ckpt'))
        return sorted((int(m[1]) - 1) * self.steps_per_epoch + int(m[2]) for m in names if m)

    def save(self, cell, step, facts):
        """Write the state after `step` steps, with a dict of facts, and remove those that are no longer kept."""
        save_cell(cell, self.path(step), {**facts, 'steps_per_epoch': self.steps_per_epoch})
        for old in self.stale:
            if old != self.path(step):
                old.unlink(missing_ok=True)
        self.stale = []
        for old in self.steps()[:-self.keep]:
            self.path(old).unlink(missing_ok=True)

    def load(self, cell, step):
        """Put the state after `step` steps into `cell`.

        Returns:
            dict of the facts it was saved with.

        Raises:
            InputError: the file is broken (the one before it is offered), or of another network, loss or recipe.
        """
        path = self.path(step)
        try:
            state = read_checkpoint(path)
        except InputError as error:
            before = [s for s in self.steps() if s < step]
            advice = f'remove it to go on from {self.path(before[-1]).name}' if before else 'there is none before it'
            raise InputError(f'{path}: broken or cut short; {advice}') from error
        facts = json.loads(state.pop('facts', '{}'))
        mine = {p.name: p for p in cell.get_parameters()}
        wrong = sorted(set(mine) ^ set(state)) or [n for n in mine if mine[n].shape != state[n].shape]
        if wrong:
            raise InputError(f'{path}: a training of another network or recipe (they differ in {wrong[0]}); '
                             'resume with the flags it was started with')
        if facts.pop('steps_per_epoch', None) != self.steps_per_epoch:
            raise InputError(f'{path}: made with another --batch_size or other data; resume with the flags it was started with')
        for name, parameter in mine.items():
            parameter.set_data(state[name])
        return facts

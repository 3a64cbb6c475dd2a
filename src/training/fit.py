"""Training from its first or its last saved step to the end, and what it leaves behind."""
import json
import os
import platform
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import scipy
from mindspore.train import LossMonitor, Model

from src.errors import InputError
from src.files import remove_unfinished, replacing
from src.training.callbacks import Position, Record, Run, SaveStates, StartClock, Stop, Validation
from src.training.checkpoint import LAST, TrainingStates, save_cell
from src.training.distributed import gather
from src.training.learning_rate import get_lr
from src.training.optimizer import create_optimizer
from src.training.plots import plot_curves
from src.training.train_step import TrainStep, WithLoss


def schedule(recipe, steps_per_epoch, device_num=1):
    """The learning rate of every step of a recipe: float32 (steps,).

    A recipe counts in iterations (total_iter_num) or in epochs (epoch_size).
    """
    steps = recipe.total_iter_num or recipe.epoch_size * steps_per_epoch
    factor = recipe.distributed_lr_factor if device_num > 1 else 1
    milestones = [m * steps_per_epoch for m in recipe.lr_epochs] or recipe.lr_steps or (0.4, 0.8)
    warmup = recipe.warmup_epochs * steps_per_epoch
    # A short run of a long recipe ends in the warm-up.
    return get_lr(recipe.lr_mode, max(steps, warmup), recipe.lr_max * factor, recipe.lr_init * factor,
                  recipe.lr_end * factor, warmup, milestones)[:steps]


def _last_common_place(states, place):
    """The place of the newest state that every process has, None where no process has any."""
    newest = states.places()[-10:]
    rows = gather([number for at in newest + [(0, 0)] * (10 - len(newest)) for number in at], place)
    theirs = [{tuple(pair) for pair in row.reshape(-1, 2).tolist()} - {(0, 0)} for row in rows]
    common = set.intersection(*theirs)
    if not common and any(theirs):
        raise InputError(f'--resume: the {place.size} processes have no training state in common (one has '
                         f'{states.path(max(set.union(*theirs))).name}); restore the missing ones or use another '
                         'folder')
    return max(common) if common else None


def _make_folder(folder):
    # What cannot be written must not come out after the first hours of training.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
    except OSError as error:
        raise InputError(f'--save_ckpt: cannot make the folder {folder}: {error.strerror}') from error
    if not os.access(folder, os.W_OK):
        raise InputError(f'--save_ckpt: {folder} is not writable')


def fit(system, recipe, place, folder, resume=False):
    """Train a system by a recipe.

    Writes below `folder` (in a distributed run below folder/RANK): training states, train.ckpt, the network after the
    last step, best.ckpt where the recipe validates, and, by rank 0, result.json and curves.png.

    Args:
        system: data, network, loss and accuracy that belong together; see src/systems.
        recipe (EasyDict): of src.config.
        place (Place): of src.training.distributed.
        folder: for all that is written.
        resume (bool or str): go on from the last state in the folder, or from the beginning when there is none; a str
            is the name of the state to go on from.

    Returns:
        dict, the contents of result.json.

    Raises:
        InputError: a state that cannot be read or is another training's, a loss that is no number, a full disk.
        SystemExit: 128 + the number of the signal that ended the training, after a state was saved.
    """
    folder = Path(folder)
    own = folder / str(place.rank) if place.size > 1 else folder
    verbose = place.rank == 0
    per_epoch = system.steps_per_epoch
    lr = schedule(recipe, per_epoch, place.size)
    total = len(lr)
    params = system.network.trainable_params() + system.loss.trainable_params()
    optimizer = create_optimizer(recipe, params, lr, getattr(system.loss, 'center_weight', 1.0))
    cell = TrainStep(WithLoss(system.network, system.loss, system.inputs), optimizer, recipe.loss_scale,
                     recipe.clip_norm, place.size)
    facts = {'recipe': json.loads(json.dumps(recipe)), 'device_num': place.size}
    for path in {own, folder} if verbose else {own}:
        _make_folder(path)
    states = TrainingStates(own, 'auto_parallel' if place.size > 1 else 'train', per_epoch, recipe.keep_checkpoint_max)
    run, start = Run(), None
    if isinstance(resume, str):
        start = states.place_of(resume)
        if not start:
            raise InputError(f'--checkpoint={resume}: no training state (they are called {states.path((1, 1)).name} '
                             'and so on); weights to start another training from go to --pretrained')
    elif resume:
        start = _last_common_place(states, place)
    if start:
        run = Run(**states.load(cell, start, facts)['run'])
        states.start_after(start)
        print(f'resumed after step {run.step} of {total} from {states.path(start)}')
    else:
        states.start_after()
        if resume:
            print(f'--resume: no training state in {own} yet, starting from the beginning')

    stop = Stop(run, total, place)
    save = SaveStates(run, states, cell, recipe.save_iter_step or recipe.save_checkpoint_epochs * per_epoch, total,
                      facts, place)
    callbacks = [Position(run, per_epoch)]
    callbacks += [LossMonitor(recipe.interval_step or per_epoch)] if verbose else []
    record = Record(run, lr, per_epoch, recipe.batch_size * place.size, verbose)
    callbacks += [record]
    if recipe.validation != 'none':
        callbacks += [Validation(run, system.validate, recipe.test_iter_step or recipe.validation_epochs * per_epoch,
                                 system.network, own, facts, verbose)]
    callbacks += [save, stop, StartClock(record)]
    model = Model(cell)
    began = time.perf_counter()
    with stop:
        if verbose:
            print('============== Starting Training ==============', flush=True)
        while run.step < total and not stop.signal:
            epoch, skip = divmod(run.step, per_epoch)
            try:
                with system.reading():
                    model.train(1, system.train_dataset(epoch, skip), callbacks, dataset_sink_mode=False)
            except ValueError as error:
                if 'NAN or INF' not in str(error):
                    raise
                raise InputError(f'the loss became NaN or infinite after step {run.step}: lower --lr, or look at the '
                                 'data') from error
        if stop.signal:
            save.save()
            print(f'stopped by a signal after step {run.step} of {total}, saved '
                  f'{states.path(states.place(run.step))}; --resume goes on from there', flush=True)
            raise SystemExit(128 + stop.signal)
    save_cell(system.network, own / LAST, facts)
    system.network.set_train(False)

    result = {
        'loss': run.history[-1]['loss'], 'validation_accuracy': run.best, 'best_step': run.best_step, 'steps': run.step,
        'seconds': time.perf_counter() - began, 'training_seconds': run.seconds,
        'samples_per_second': recipe.batch_size * place.size * run.timed_steps / run.seconds if run.seconds else None,
        'device': place.target, 'device_num': place.size,
        'versions': {'python': platform.python_version(), 'mindspore': ms.__version__, 'numpy': np.__version__,
                     'scipy': scipy.__version__},
        'recipe': facts['recipe'], 'history': run.history}
    if verbose:
        write_result(result, folder / 'result.json')
        plot_curves(run.history, folder / 'curves.png')
        if recipe.run_eval:
            recipe.checkpoint = str(own / LAST)
            result.update(system.evaluate())
            write_result(result, folder / 'result.json')
        rate = f', {result["samples_per_second"]:.1f} images/s' if run.seconds else ''
        print(f'trained {run.step} steps on {place.target}{rate}: {own / LAST}, {folder / "result.json"}')
    return result


def write_result(result, path):
    """Write a dict as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + '\n')

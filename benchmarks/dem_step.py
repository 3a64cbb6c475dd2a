"""DEM's training step: the network's graph alone, through train.py's pipeline and callbacks, and the published way.

    python benchmarks/dem_step.py [--data_path=FOLDER] [--epochs=3]

The published way reads image by image through a Python generator, shuffles and batches in the pipeline, and prints the
loss with a LossMonitor. All three run the same network and optimizer in one process on the data of CUB, att.
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor
from mindspore.train import LossMonitor, Model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.config import create_recipe  # noqa: E402
from src.samples.dem_sample import make_dem_sample  # noqa: E402
from src.set_parser import parse_args  # noqa: E402
from src.systems import create_system  # noqa: E402
from src.training.callbacks import Position, Record, Run, StartClock  # noqa: E402
from src.training.distributed import set_up  # noqa: E402
from src.training.optimizer import create_optimizer  # noqa: E402
from src.training.train_step import TrainStep, WithLoss  # noqa: E402


class Rows:
    """One image a call, as the published generator gives them."""

    def __init__(self, *columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns[0])

    def __getitem__(self, row):
        return tuple(column[row] for column in self.columns)


def create_step(system, recipe, steps):
    """A fresh train step of the recipe."""
    lr = np.full(steps, recipe.lr_max, np.float32)
    params = system.network.trainable_params()
    return TrainStep(WithLoss(system.network, system.loss, system.inputs), create_optimizer(recipe, params, lr),
                     recipe.loss_scale, recipe.clip_norm)


def main():
    """Print milliseconds per step of all three, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data_path', help='default: data that the project makes')
    parser.add_argument('--epochs', type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.data_path:
            make_dem_sample(folder)
        flags = parse_args('train', ['--dataset=CUB', f'--data_path={args.data_path or folder}', '--validation=none'])
        recipe = create_recipe(flags)
        place = set_up('CPU')
        ms.set_seed(1)
        system = create_system(recipe, place)
    per_epoch = system.steps_per_epoch
    steps = per_epoch * args.epochs
    train = system.train

    step = create_step(system, recipe, 10 * steps)
    batch = [Tensor(train.train_semantics[0][:recipe.batch_size]), Tensor(train.train_features[:recipe.batch_size])]
    step.set_train()
    step(*batch).asnumpy()
    began = time.perf_counter()
    for _ in range(steps):
        step(*batch).asnumpy()
    pure = (time.perf_counter() - began) / steps

    run = Run()
    record = Record(run, np.full(10 * steps, recipe.lr_max), per_epoch, recipe.batch_size, False)
    callbacks = [Position(run, per_epoch), LossMonitor(recipe.interval_step), record, StartClock(record)]
    model = Model(step)
    model.train(1, system.train_dataset(0, 0), callbacks, dataset_sink_mode=False)
    began = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        model.train(1, system.train_dataset(epoch, 0), callbacks, dataset_sink_mode=False)
    ours = (time.perf_counter() - began) / steps

    rows = ds.GeneratorDataset(Rows(train.train_semantics[0], train.train_features), ['label', 'data'], shuffle=True)
    rows = rows.batch(recipe.batch_size, drop_remainder=True)
    began = time.perf_counter()
    model.train(args.epochs, rows, [LossMonitor(recipe.interval_step)], dataset_sink_mode=False)
    published = (time.perf_counter() - began) / steps

    print(f'CUB att, {train.train_features.shape[1]}-d features, batch {recipe.batch_size}, {steps} steps each, CPU')
    print(f'graph alone (the limit)      {pure * 1e3:8.2f} ms/step')
    print(f'train.py\'s way               {ours * 1e3:8.2f} ms/step   {ours / pure:.2f} of the limit')
    print(f'published way                {published * 1e3:8.2f} ms/step   {published / pure:.2f} of the limit, '
          f'{published / ours:.2f} of ours')


if __name__ == '__main__':
    main()

"""What each choice of the recipe called `ranked` contributes, on held-out seen classes of CUB: a table of docs/RESULTS.md.

    python benchmarks/dem_ablation.py --data_path=FOLDER [--splits=3]

Every row changes one entry of the recipe, trains on two thirds of the seen classes and classifies the images of the
other third among themselves; the test classes are not looked at. A split is a seed.
"""
import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.device import set_up  # noqa: E402
from src.recipes.command_line import parse_args  # noqa: E402
from src.recipes.recipe import Recipe  # noqa: E402
from src.systems import create_system  # noqa: E402
from src.training.loop import fit  # noqa: E402

CHANGES = {
    'the recipe': {},
    'mean squared error instead of the softmax': {'loss_name': 'mse', 'loss_options': {}, 'dropout': None,
                                                  'epoch_size': 12},
    'no dropout': {'dropout': None},
    'dropout of the hidden layer alone': {'dropout': [0.0, 0.5]},
    'no label smoothing': {'loss_options': {'scale': 30.0, 'label_smoothing': 0.0}},
    'scale 20': {'loss_options': {'scale': 20.0, 'label_smoothing': 0.1}},
    'features as they are': {'feature_scaling': 'none'},
    'features as they are, final ReLU': {'feature_scaling': 'none', 'output_relu': True},
    'attributes centred without the root': {'semantics_scaling': 'centred'},
    'attributes as they are': {'semantics_scaling': 'none'},
    'hidden layer of 1,024': {'hidden_dim': 1024},
    'learning rate 1e-4': {'lr_max': 1e-4},
    'learning rate 6e-4': {'lr_max': 6e-4},
    'constant learning rate': {'lr_mode': 'const'},
    '12 epochs': {'epoch_size': 12},
    'nearest by Euclidean distance': {'metric': 'euclidean'},
}


def validation_accuracy(data_path, seed, changes):
    """Accuracy on the held-out seen classes after the last epoch."""
    plain = parse_args('train', ['--dataset=CUB', '--recipe=ranked', f'--data_path={data_path}']).make_recipe()
    entries = {**plain, 'network_options': dict(plain.network_options)}
    for name, value in {**changes, 'seed': seed, 'validation': 'seen_classes', 'validation_fraction': 1 / 3,
                        'run_eval': False}.items():
        where = entries['network_options'] if name in ('hidden_dim', 'output_relu') else entries
        where[name] = value
    recipe = Recipe(entries)
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        process = set_up('CPU')
        ms.set_seed(seed)
        history = fit(create_system(recipe, process), folder)['history']
    return history[-1]['accuracy']


def main():
    """Print a row for every change: mean over the splits, and the splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data_path', required=True)
    parser.add_argument('--splits', type=int, default=3)
    args = parser.parse_args()
    for name, changes in CHANGES.items():
        found = [100 * validation_accuracy(args.data_path, seed, changes) for seed in range(1, args.splits + 1)]
        print(f'{name:45} {np.mean(found):5.1f} %   ({", ".join(f"{value:.1f}" for value in found)})', flush=True)


if __name__ == '__main__':
    main()

"""What each choice of the recipe `chosen` contributes on the val classes of a benchmark, over paired seeds.

    python benchmarks/gbu_ablation.py --data_path=xlsa17/data/CUB --output=FOLDER [--seeds=5] [--device_target=CPU]

Every row changes entries of the recipe, trains on the seen classes that are no val classes and is measured with the val
classes as the unseen ones; test images are not looked at. A seed draws the initial weights, the batches and the images
that play the seen test. FOLDER/ablation.json holds what was measured: the same command goes on where it was stopped.
Printed: mean and standard deviation over the seeds of T1 and H (at the best gamma) of networks and regression together,
the mean difference to the recipe at the same seeds, the same of the networks alone, and H without calibration.
"""
import argparse
import contextlib
import io
import json
import sys
from pathlib import Path

import mindspore as ms
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.device import set_up  # noqa: E402
from src.common.files import replacing  # noqa: E402
from src.datasets.gbu import open_gbu  # noqa: E402
from src.recipes.command_line import parse_args  # noqa: E402
from src.recipes.recipe import Recipe  # noqa: E402
from src.systems.generalised import Trial, changed  # noqa: E402

ONE = {'network': 'semantic', 'network_options': {'hidden_dim': 700, 'output_relu': False, 'sigmas': [0.01, 0.001]}}
CHANGES = {
    'the recipe': {},
    'one network': {'network_options.members': 1},
    'class normalisation, one network': {'network': 'class_normalised', 'dropout': None,
                                         'network_options': {'hidden_dim': 1024, 'output_relu': False}},
    'mean squared error, one network': {**ONE, 'loss_name': 'mse', 'loss_options': {}, 'dropout': None},
    'features without the root': {'feature_scaling': 'principal'},
    'semantics without the root': {'semantics_scaling': 'centred'},
    'no whitening': {'kernel_options.shrinkage': None},
    'linear kernel (ridge regression)': {'kernel_options.width': 0.0},
    'scale 15': {'loss_options.scale': 15.0},
    'scale 60': {'loss_options.scale': 60.0},
    'no label smoothing': {'loss_options.label_smoothing': 0.0},
    'no dropout': {'dropout': None},
    'hidden layers of 350': {'network_options.hidden_dim': 350},
    'hidden layers of 1,400': {'network_options.hidden_dim': 1400},
}


def measure(recipe, bench, process, fitted):
    """{share of the regression, or 'only': [T1, H at the best gamma, H without calibration]} of one training."""
    data = bench.choosing(recipe.seed)
    trial = Trial(Recipe({**recipe, 'candidates': [], 'kernel_candidates': []}), process)
    trial.fitted = fitted
    with contextlib.redirect_stdout(io.StringIO()):
        ms.set_seed(recipe.seed)
        curves = trial.run(data, len(data.train_labels) / len(bench.trainval))
    return {str(extra.get('kernel_options.share', 'only')): [curve.unseen_alone, curve.at(curve.best_gamma())['H'],
                                                             curve.at(0.0)['H']] for extra, curve in curves}


def table(measured):
    """Lines of the table of what was measured: {name: {seed: {share: [T1, H, H_0]}}}."""
    def rows(name, share):
        return {seed: 100 * np.array(one.get(share, one.get('only'))) for seed, one in measured.get(name, {}).items()
                if share in one or 'only' in one}
    heads = ('change', 'T1', 'H', 'to the recipe, paired: T1, H', 'networks alone: T1, H', 'H, gamma 0', 'seeds')
    lines = [f'| {" | ".join(heads)} |', '|' + '---|' * len(heads)]
    base = rows('the recipe', '0.5')
    for name in CHANGES:
        mixed, alone = rows(name, '0.5'), rows(name, '0.0')
        if not mixed:
            continue
        values, paired = np.array(list(mixed.values())), [value - base[seed] for seed, value in mixed.items() if seed in base]
        mean, spread, apart = values.mean(0), values.std(0), np.mean(paired, 0) if paired else np.full(3, np.nan)
        networks = np.mean(list(alone.values()), 0)
        lines.append(f'| {name} | {mean[0]:.1f} ± {spread[0]:.1f} | {mean[1]:.1f} ± {spread[1]:.1f} | {apart[0]:+.1f}, '
                     f'{apart[1]:+.1f} | {networks[0]:.1f}, {networks[1]:.1f} | {mean[2]:.1f} | {len(mixed)} |')
    share = {key: np.array([100 * np.array(one[key]) for one in measured.get('the recipe', {}).values() if key in one])
             for key in ('0.3', '0.7', '1.0')}
    lines += [f'| share of the regression {key} | {v.mean(0)[0]:.1f} ± {v.std(0)[0]:.1f} | {v.mean(0)[1]:.1f} ± '
              f'{v.std(0)[1]:.1f} | | | {v.mean(0)[2]:.1f} | {len(v)} |' for key, v in share.items() if len(v)]
    return '\n'.join(lines)


def main():
    """Measure what is missing, seed by seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data_path', required=True)
    parser.add_argument('--output', required=True)
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--device_target', default='CPU')
    args = parser.parse_args()
    stored = Path(args.output) / 'ablation.json'
    measured = json.loads(stored.read_text()) if stored.is_file() else {}
    process, bench = set_up(args.device_target), open_gbu(args.data_path)
    for seed in map(str, range(1, args.seeds + 1)):
        fitted: dict = {}
        for name, changes in CHANGES.items():
            if seed in measured.get(name, {}):
                continue
            plain = parse_args('train', ['--dataset=GBU', f'--data_path={args.data_path}', f'--seed={seed}']).make_recipe()
            measured.setdefault(name, {})[seed] = measure(changed(plain, changes), bench, process, fitted)
            with replacing(stored) as part:
                part.write_text(json.dumps(measured, indent=1))
            print(f'seed {seed}, {name}', file=sys.stderr, flush=True)
    print(table(measured))


if __name__ == '__main__':
    main()

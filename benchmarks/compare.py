"""Recipes against each other over paired seeds: mean, spread, paired differences, and whether so many seeds can tell.

    python benchmarks/compare.py OUT --seeds=3 --all='--dataset_path=Emoji --validation=seen_classes' \\
        'softmax: --loss_name=softmax --recipe=small' 'supcon: --loss_name=supcon --recipe=many_classes' \\
        'then: --loss_name=multi_similarity --recipe=few_classes --pretrained={supcon}/train.ckpt'

A recipe is a name and flags of train.py; {NAME} stands for the folder of that recipe's training from the same seed. Seeds
are 1, 2, ..., all recipes of a seed before the next. Each training is OUT/NAME/SEED, with its output in OUT/NAME/SEED.log:
run it again to go on where it was stopped, or with more seeds or recipes; what is finished is not trained again. Recipes are
compared with the first. The figure is that of --run_eval=True, else the last validation; with --validation=seen_classes a
seed holds out its own classes, the same ones for all recipes. OUT/table.txt and OUT/compare.png hold what is printed.
"""
import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.accuracy import paired_difference  # noqa: E402
from src.common.errors import InputError  # noqa: E402
from src.common.files import replacing  # noqa: E402
from src.common.run import run  # noqa: E402
from src.pictures import comparison_picture  # noqa: E402
from src.recipes.command_line import parse_args  # noqa: E402

LEVEL = 0.95


def read_recipes(texts, common):
    """'NAME: flags' -> {name: flags with those of all before them}."""
    recipes = {}
    for text in texts:
        name, colon, flags = text.partition(':')
        if not colon or not re.fullmatch(r'[\w.-]+', name) or name in recipes:
            raise InputError(f'{text!r}: expected NAME: FLAGS, a name of its own of letters, digits, _, - and .')
        recipes[name] = [*shlex.split(common), *shlex.split(flags)]
    return recipes


def flags_of(recipes, name, seed, out):
    """The flags of one training, with the folders of others filled in."""
    def folder(match):
        if match[1] not in recipes:
            raise InputError(f'{name}: {match[0]} is none of the recipes {", ".join(recipes)}')
        return str(out / match[1] / str(seed))
    return [*(re.sub(r'{([^{}]*)}', folder, flag) for flag in recipes[name]), f'--seed={seed}']


def read_result(folder, flags):
    """Figures of a finished training: (after the last step, best validation - last or None); None where it is not finished.

    Raises:
        InputError: it was trained by another recipe, or nothing was measured.
    """
    file = folder / 'result.json'
    if not file.is_file():
        return None
    result = json.loads(file.read_text())
    recipe = json.loads(json.dumps(parse_args('train', flags).make_recipe()))
    other = sorted(name for name in {*recipe, *result['recipe']} if recipe.get(name) != result['recipe'].get(name))
    if other:
        raise InputError(f'{folder}: was trained with another {", ".join(other)}; choose another name or folder')
    validated = [row['accuracy'] for row in result['history'] if row.get('accuracy') is not None]
    bias = max(validated) - validated[-1] if validated else None
    if recipe['run_eval']:
        return (result['accuracy'], bias) if 'accuracy' in result else None
    if result['history'][-1].get('accuracy') is None:
        raise InputError(f'{folder}: nothing was measured after its last step; give --validation=seen_classes or '
                         '--run_eval=True')
    return validated[-1], bias


def train(flags, folder):
    """One training as a process of its own; goes on where an earlier one was stopped."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f'{folder.name}.log')
    with open(log, 'a') as output:
        code = subprocess.call([sys.executable, '-u', str(ROOT / 'train.py'), *flags, f'--save_ckpt={folder}', '--resume'],
                               stdout=output, stderr=subprocess.STDOUT)
    if code:
        last = (log.read_text().splitlines() or [''])[-1]
        raise InputError(f'{folder}: training ended with code {code}: {last} (all of it in {log})')


def table(values, biases):
    """Recipes' figures by seed -> (lines, {recipe: (mean, low, high)}), in points of per cent.

    values: recipe -> {seed: 0..1}. biases: recipe -> list of best validation - last, may be empty.
    """
    names = list(values)
    seeds = sorted({seed for found in values.values() for seed in found})
    width = max(len(name) for name in names)
    lines = [f'{"%":{width}}  ' + ''.join(f'{f"seed {seed}":>8}' for seed in seeds) + '    mean      sd  best epoch - last']
    for name in names:
        found = 100 * np.array([values[name].get(seed, np.nan) for seed in seeds])
        known = found[np.isfinite(found)]
        spread = f'{known.std(ddof=1):8.2f}' if len(known) > 1 else '       -'
        mean = f'{known.mean():8.2f}' if len(known) else '       -'
        bias = f'{100 * np.mean(biases[name]):+19.2f}' if biases[name] else f'{"-":>19}'
        lines.append(f'{name:{width}}  ' + ''.join('       -' if np.isnan(one) else f'{one:8.2f}' for one in found)
                     + mean + spread + bias)
    differences = {}
    if len(names) > 1:
        lines += ['', f'difference from {names[0]}, paired by seed, {LEVEL:.0%} interval (t)']
    for name in names[1:]:
        both = [seed for seed in seeds if seed in values[name] and seed in values[names[0]]]
        if not both:
            lines.append(f'{name:{width}}  no seed in common yet')
            continue
        found = paired_difference(*(100 * np.array([values[one][seed] for seed in both]) for one in (name, names[0])), LEVEL)
        differences[name] = found[:3]
        if len(both) == 1:
            lines.append(f'{name:{width}}  {found.mean:+.2f}  one seed establishes nothing')
            continue
        enough = f'{found.seeds} seeds of this spread would be needed' if found.seeds else 'no number of seeds would tell'
        lines.append(f'{name:{width}}  {found.mean:+.2f}  [{found.low:+.2f}, {found.high:+.2f}]  '
                     + ('established' if found.established else f'not established: {enough}')
                     + f'; {len(both)} seeds show differences above {found.smallest:.2f}')
    return lines, differences


def compare(recipes, seeds, out, only_report=False):
    """Train what is not finished, then print, write and return the table's lines."""
    values, biases = {name: {} for name in recipes}, {name: [] for name in recipes}
    for seed in range(1, seeds + 1):
        for name in recipes:
            flags, folder = flags_of(recipes, name, seed, out), out / name / str(seed)
            found = read_result(folder, flags)
            if found is None and not only_report:
                print(f'{name}, seed {seed}: {folder}', flush=True)
                train(flags, folder)
                found = read_result(folder, flags)
            if found:
                values[name][seed] = found[0]
                biases[name] += [] if found[1] is None else [found[1]]
    lines, differences = table(values, biases)
    print('\n'.join(lines))
    with replacing(out / 'table.txt') as part:
        part.write_text('\n'.join([*lines, '', *(f'{name}: {shlex.join(flags)}' for name, flags in recipes.items()), '']))
    comparison_picture({name: {seed: 100 * value for seed, value in found.items()} for name, found in values.items()},
                       differences, '%', out / 'compare.png')
    return lines


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='folder for all trainings')
    parser.add_argument('recipes', nargs='+', metavar='NAME: FLAGS')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--all', default='', help='flags of all recipes, before their own')
    parser.add_argument('--report', action='store_true', help='train nothing, print what is finished')
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error('--seeds: at least 1')
    # Relative paths are those of this folder, in which the trainings run too.
    compare(read_recipes(args.recipes, args.all), args.seeds, args.out, args.report)


if __name__ == '__main__':
    run(main)

"""Compare recipes over paired seeds: mean, spread, paired differences, and whether so many seeds can tell.

    python benchmarks/compare.py OUT --seeds=3 --all='--dataset_path=Emoji --validation=seen_classes --recipe=pretrained' \\
        'softmax: --loss_name=softmax --pretrained=mobilenet_v2.pth' \\
        'cosine: --loss_name=norm_softmax --pretrained=mobilenet_v2.pth' \\
        'then: --loss_name=multi_similarity --pretrained={cosine}/train.ckpt'
    python benchmarks/compare.py OUT @benchmarks/dem_ablation.txt --seeds=2 --all=--data_path=FOLDER

A recipe is a name and flags of train.py; {NAME} stands for the folder of that recipe's training from the same seed. @FILE
reads arguments from a file, one a line. Seeds are 1, 2, ...; all recipes of a seed are trained before the next seed. Each
training is OUT/NAME/SEED and its output OUT/NAME/SEED.log. The same command continues where it was stopped; with more seeds
or recipes it trains only what is missing. Recipes are compared with the first.

The figure is the accuracy of --run_eval=True, else that of the last validation; with --validation=seen_classes a seed holds
out its own classes, the same ones for all recipes. After it follows a table for every other measure that result.json of all
finished trainings has. OUT/table.txt holds what is printed, OUT/compare.png the first table as a picture.
"""
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import tools
from paired import comparison_picture, paired_difference

from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import read_json
from src.common.run import run
from src.recipes.command_line import parse_args

LEVEL = 0.95
# The figure that every result has; the other measures are named in its `measures`.
FIGURE = 'accuracy'


def read_recipes(texts, common):
    """{name: flags} of texts 'NAME: FLAGS', with the flags of all recipes before their own."""
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
    """Read the result of a training.

    Returns:
        ({measure: 0..1}, whose FIGURE is that after the last step; best validation - last, or None), or None where the
        training is not finished.

    Raises:
        InputError: it was trained by another recipe, or nothing was measured.
    """
    file = folder / 'result.json'
    if not file.is_file():
        return None
    advice = 'remove its folder to train it again'
    result = read_json(file, advice)
    history = result.get('history') if isinstance(result, dict) else None
    if not (isinstance(history, list) and history and all(isinstance(row, dict) for row in history)
            and isinstance(result.get('recipe'), dict)):
        raise InputError(f'{file}: not the result of a training; {advice}')
    asked = parse_args('train', flags).make_recipe()
    if 'candidates' in asked:  # a training stores the recipe that was chosen
        asked = asked.changed({**result['found']['choice'], 'candidates': [], 'kernel_candidates': []})
    recipe = json.loads(json.dumps(asked))
    other = sorted(name for name in {*recipe, *result['recipe']} if recipe.get(name) != result['recipe'].get(name))
    if other:
        raise InputError(f'{folder}: was trained with another {", ".join(other)}; choose another name or folder')
    validated = [row['accuracy'] for row in result['history'] if row.get('accuracy') is not None]
    bias = max(validated) - validated[-1] if validated else None
    if recipe['run_eval']:
        return ({FIGURE: result['accuracy'], **result.get('measures', {})}, bias) if 'accuracy' in result else None
    if result['history'][-1].get('accuracy') is None:
        raise InputError(f'{folder}: nothing was measured after its last step; give --validation=seen_classes or '
                         '--run_eval=True')
    return {FIGURE: validated[-1]}, bias


def train(flags, folder, program='train.py'):
    """Run one training as a process of its own; it continues where an earlier one was stopped."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f'{folder.name}.log')
    with open(log, 'a') as output:
        code = subprocess.call([sys.executable, '-u', str(tools.ROOT / program), *flags, f'--save_ckpt={folder}', '--resume'],
                               stdout=output, stderr=subprocess.STDOUT)
    if code:
        last = (log.read_text().splitlines() or [''])[-1]
        raise InputError(f'{folder}: training ended with code {code}: {last} (all of it in {log})')


def table(values, biases):
    """The table of one measure, in points of per cent: (lines, {recipe: (mean, low, high) of its differences}).

    Args:
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


def common_measures(results):
    """The measures that all finished trainings have, FIGURE first, without copies of FIGURE (Recall@1 of metric learning)."""
    found = [figures for of_recipe in results.values() for figures in of_recipe.values()]
    return [FIGURE, *(name for name in (found[0] if found else ()) if all(name in figures for figures in found)
                      and any(figures[name] != figures[FIGURE] for figures in found))]


def compare(recipes, seeds, out, only_report=False, program='train.py'):
    """Train what is not finished, then print, write and return the lines of the tables."""
    results, biases = {name: {} for name in recipes}, {name: [] for name in recipes}
    for seed in range(1, seeds + 1):
        for name in recipes:
            flags, folder = flags_of(recipes, name, seed, out), out / name / str(seed)
            found = read_result(folder, flags)
            if found is None and not only_report:
                print(f'{name}, seed {seed}: {folder}', flush=True)
                train(flags, folder, program)
                found = read_result(folder, flags)
            if found:
                results[name][seed] = found[0]
                biases[name] += [] if found[1] is None else [found[1]]
    lines = []
    for measure in common_measures(results):
        values = {name: {seed: figures[measure] for seed, figures in found.items()} for name, found in results.items()}
        if measure == FIGURE:
            lines, differences = table(values, biases)
            comparison_picture({name: {seed: 100 * value for seed, value in found.items()} for name, found in values.items()},
                               differences, '%', out / 'compare.png')
        else:
            lines += ['', f'{measure}:', *table(values, dict.fromkeys(recipes, ()))[0]]
    print('\n'.join(lines))
    with replacing(out / 'table.txt') as part:
        part.write_text('\n'.join([*lines, '', *(f'{name}: {shlex.join(flags)}' for name, flags in recipes.items()), '']))
    return lines


def main(argv=None):
    """Compare the recipes of the command line."""
    parser = tools.parser(__doc__, seeds=3, report=(False, 'train nothing, print what is finished'),
                          program=('train.py', 'script that trains, below the project\'s folder'))
    parser.fromfile_prefix_chars = '@'
    parser.convert_arg_line_to_args = lambda line: [] if line.startswith('#') or not line.strip() else [line]
    parser.add_argument('out', type=Path, help='folder for all trainings')
    parser.add_argument('recipes', nargs='+', metavar='NAME: FLAGS')
    parser.add_argument('--all', action='append', default=[], help='flags of all recipes, before their own; several are joined')
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error('--seeds: at least 1')
    # Relative paths are those of this folder, in which the trainings run too.
    compare(read_recipes(args.recipes, ' '.join(args.all)), args.seeds, args.out, args.report, args.program)


if __name__ == '__main__':
    run(main)

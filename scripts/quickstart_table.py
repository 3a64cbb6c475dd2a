"""Print the table that ends scripts/quickstart.sh, from the result.json of each of its trainings.

usage: python scripts/quickstart_table.py FOLDER

`before training` is what the evaluation of eval.py measures of the network with its initial weights; `chance` is what it
measures of random embeddings or prototypes, the mean of five draws.
"""
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import mindspore as ms
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.device import set_up  # noqa: E402
from src.common.errors import InputError  # noqa: E402
from src.common.records import read_json, read_record  # noqa: E402
from src.common.run import run  # noqa: E402
from src.recipes.recipe import read_recipe  # noqa: E402
from src.systems import create_system  # noqa: E402

# System, data, measure as result.json names it, folder of the training.
ROWS = (
    ('DEM', 'features, unseen classes', 'accuracy', 'dem'),
    ('metric_learn: softmax', 'products, new classes', 'Recall@1', 'softmax'),
    ('  and then triplet', 'products, new classes', 'Recall@1', 'triplet'),
    ('PaddleCV: arcmargin', 'products, new classes', 'Recall@1', 'arcmargin'),
    ('  and then npairs', 'products, new classes', 'Recall@1', 'npairs'),
    ('CTL', 'persons, among images', 'instance mAP', 'ctl'),
    ('CTL', 'persons, among centroids', 'centroid mAP', 'ctl'),
    ('zero-shot from pictures', 'products, unseen classes', 'T1', 'zero_shot'),
)
HEAD = ('system', 'drawn data', 'measure', 'before training', 'after', 'chance', 'seconds', 'files')
NAMED = 'named.txt'
DRAWS = 5


def without_training(result, process):
    """The measures of a training's network with its initial weights, and those of random outputs."""
    changes = {'pretrained': None} if 'pretrained' in result['recipe'] else {}
    recipe = read_recipe({**result['recipe'], **changes}, 'result.json')
    system = create_system(recipe, process)
    # What was chosen on val classes is not chosen again.
    chosen = 'chosen_on' in result['found']
    system.prepare(read_record(system.Found, result['found'], 'result.json: found') if chosen else None)
    ms.set_seed(recipe.seed)
    # What prepare() fits to the data beside the training, as kernel ridge regression, is left out too.
    system.network = system.build_network(system.recipe, system.found)
    system.network.set_train(False)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = os.path.join(folder, 'train.ckpt')
        before = system.evaluate(checkpoint)['measures']
        if hasattr(system, 'embed'):
            system.embed = lambda images, *_: rng.normal(size=(len(images), 64)).astype(np.float32)
        else:
            made = system.prototypes
            system.prototypes = lambda semantics: rng.normal(size=made(semantics).shape).astype(np.float32)
        draws = [system.evaluate(checkpoint)['measures'] for _ in range(DRAWS)]
    return before, {name: np.mean([draw[name] for draw in draws]) for name in before}


def named_row(folder):
    """The row of the pictures of a class that was added after the training, by the answers of infer.py."""
    # The command stands above its answers.
    lines = [line.split('\t') for line in (folder / NAMED).read_text().splitlines() if line.count('\t') == 4]
    right = [Path(path).parent.name == name for path, rank, name, *_ in lines if rank == '1']
    return ('  and a class added later', 'products, its pictures', 'named right', '', f'{sum(right)} of {len(right)}', '', '',
            f'{folder.name}/{NAMED}')


def main():
    if len(sys.argv) != 2:
        raise InputError('usage: python scripts/quickstart_table.py FOLDER')
    folder = Path(sys.argv[1])
    with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        process, rows, known = set_up(), [HEAD], {}
        for system, data, measure, name in ROWS:
            result = read_json(folder / name / 'result.json', 'run scripts/quickstart.sh again')
            # A second stage begins with the network of the first.
            first = {'triplet': 'softmax', 'npairs': 'arcmargin'}.get(name, name)
            if first not in known:
                known[first] = without_training(result, process)
            before, chance = (figures[measure] for figures in known[first])
            rows.append((system, data, measure, f'{before:.3f}', f'{result["measures"][measure]:.3f}', f'{chance:.3f}',
                         f'{result["seconds"]:.0f}', name))
        rows.append(named_row(folder / 'zero_shot'))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for number, row in enumerate(rows):
        print('  '.join(cell.rjust(width) if 3 <= place <= 6 else cell.ljust(width)
                        for place, (cell, width) in enumerate(zip(row, widths))).rstrip())
        if number == 0:
            print('  '.join('-' * width for width in widths))


if __name__ == '__main__':
    run(main)

"""The table that ends the quick start."""
import importlib.util
import json

import numpy as np
import pytest

from src.common.device import set_up
from src.common.errors import InputError
from src.recipes.recipe import make_recipe
from src.samples.image_sample import make_products
from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location('quickstart_table', ROOT / 'scripts' / 'quickstart_table.py')
table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(table)


def test_rows_hold_the_figures_of_each_training(tmp_path, monkeypatch, capsys):
    for number, (*_, measure, name) in enumerate(table.ROWS):
        (tmp_path / name).mkdir(exist_ok=True)
        measures = {one[2]: 0.5 + number / 100 for one in table.ROWS if one[3] == name}
        (tmp_path / name / 'result.json').write_text(json.dumps({'measures': measures, 'seconds': 12.3}))
    answers = [f'/a b/red_mug/{i}.jpg\t{rank}\t{name}\t0.5\tunseen\n' for i in range(3)
               for rank, name in enumerate(('red_mug' if i else 'red_fan', 'red_sofa'), 1)]
    (tmp_path / 'zero_shot' / table.NAMED).write_text('\n$ python infer.py\n' + ''.join(answers))
    asked = []
    monkeypatch.setattr(table, 'without_training', lambda result, process: asked.append(result) or [
        {one[2]: value for one in table.ROWS} for value in (0.125, 0.0625)])
    monkeypatch.setattr('sys.argv', ['quickstart_table.py', str(tmp_path)])
    table.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ['system', 'drawn'] and len(lines) == 3 + len(table.ROWS)
    for line, (system, _, measure, name) in zip(lines[2:], table.ROWS):
        assert line.startswith(system) and line.split()[-5::4] == ['0.125', name] and line.split()[-3:-1] == ['0.062', '12']
    assert '2 of 3' in lines[-1]
    # A second stage begins with the network of the first, which is measured once.
    assert len(asked) == len({name for *_, name in table.ROWS}) - 2


def test_no_training_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.argv', ['quickstart_table.py', str(tmp_path)])
    with pytest.raises(InputError, match=f'{tmp_path}/dem/result.json: No such .*; run scripts/quickstart.sh again'):
        table.main()


def test_before_training_and_chance_are_measured(tmp_path):
    make_products(tmp_path / 'products', classes=8, images_per_class=4, size=32, test_classes=5)
    recipe = make_recipe('SOP', 'triplet', 'quick', {
        'dataset_path': str(tmp_path / 'products'), 'image_size': 32, 'batch_size': 9, 'backbone_options.width': 4,
        'pretrained': 'softmax/train.ckpt'})
    before, chance = table.without_training({'recipe': recipe, 'found': {}}, set_up('CPU'))
    assert before.keys() == chance.keys() and 0 <= before['Recall@1'] <= 1
    # 3 of 19 others are of the class: five draws of 20 queries have a deviation of 0.04.
    assert abs(chance['Recall@1'] - 3 / 19) < 0.15
    assert np.isfinite(list(chance.values())).all()

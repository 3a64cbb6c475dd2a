"""benchmarks/compare.py: what it trains, continues, refuses and prints."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import train
from benchmarks import compare
from src.common.errors import InputError
from src.networks.resnet import ResNet18
from src.recipes.command_line import parse_args

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ['one: --loss_name=softmax --recipe=small', 'two: --loss_name=triplet --recipe=small --pretrained={one}/train.ckpt']
COMMON = '--dataset_path=D --validation=seen_classes'
MEASURES = {'Recall@1': 0.3, 'MAP@R': 0.2}
FIGURES = {'one': [0.50, 0.52, 0.51], 'two': [0.53, 0.55, 0.555]}


@pytest.fixture
def trained(monkeypatch):
    """Trainings that write what a real one does; [(flags, folder)] of those that were started."""
    started = []

    def fake(flags, folder, program):
        started.append((flags, folder))
        seed, recipe = int(folder.name), parse_args('train', flags).make_recipe()
        last = FIGURES[folder.parent.name][seed - 1]
        history = [{'accuracy': accuracy} for accuracy in (last + 0.01 * seed, None, last)]
        folder.mkdir(parents=True)
        (folder / 'result.json').write_text(json.dumps({'recipe': recipe, 'history': history}))

    monkeypatch.setattr(compare, 'train', fake)
    return started


def run(out, seeds, recipes=RECIPES, more=()):
    compare.main([str(out), *recipes, f'--all={COMMON}', f'--seeds={seeds}', *more])


def test_trains_in_pairs_and_only_what_is_not_finished(trained, tmp_path, capsys):
    run(tmp_path, 2, more=['--report'])
    assert not trained
    run(tmp_path, 1)
    assert [folder for _, folder in trained] == [tmp_path / 'one/1', tmp_path / 'two/1']
    assert f'--pretrained={tmp_path}/one/1/train.ckpt' in trained[1][0] and '--seed=1' in trained[1][0]
    assert 'one seed establishes nothing' in capsys.readouterr().out
    run(tmp_path, 3)
    assert [folder for _, folder in trained[2:]] == [tmp_path / f'{name}/{seed}' for seed in (2, 3) for name in ('one', 'two')]
    run(tmp_path, 3, more=['--report'])
    assert len(trained) == 6
    said = capsys.readouterr().out
    differences = 100 * (np.array(FIGURES['two']) - FIGURES['one'])
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    assert f'two  {differences.mean():+.2f}  [{low:+.2f}, {high:+.2f}]  established' in said
    assert f'{100 * np.mean(FIGURES["one"]):.2f}    {100 * np.std(FIGURES["one"], ddof=1):.2f}' in said
    # The best epoch of seed k is k points above the last.
    assert said.count('+2.00') == 4
    assert (tmp_path / 'table.txt').read_text().startswith('%      seed 1')
    assert Image.open(tmp_path / 'compare.png').width > 300


def test_another_recipe_under_the_same_name_is_refused(trained, tmp_path):
    run(tmp_path, 1)
    with pytest.raises(InputError, match='one/1: was trained with another batch_size, lr_max; choose another'):
        run(tmp_path, 1, [RECIPES[0] + ' --batch_size=8 --lr=0.5', RECIPES[1]])


@pytest.mark.parametrize('recipes, message', [
    (['softmax --recipe=small'], 'expected NAME: FLAGS'), (['a: --seed=1', 'a: --seed=2'], 'a name of its own'),
    (['../a: x'], 'expected NAME'), (['a: --pretrained={b}/train.ckpt'], '{b} is none of the recipes a')])
def test_bad_recipes_are_named(trained, tmp_path, recipes, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, 1, recipes)


@pytest.mark.parametrize('text', ['x', '[]', '', '"text"', '{"history": [{}]}', '{"recipe": 5, "history": [{}]}',
                                  '{"recipe": {}, "history": [5]}', '[' * 100000])
def test_a_result_that_is_none_is_named(tmp_path, text):
    (tmp_path / 'result.json').write_text(text)
    with pytest.raises(InputError, match='result.json: .*remove its folder to train it again'):
        compare.read_result(tmp_path, [])


def test_nothing_measured_is_named_and_the_tests_figure_comes_first(tmp_path):
    flags = ['--dataset_path=D', '--loss_name=softmax', '--recipe=small']
    result = {'recipe': parse_args('train', flags).make_recipe(), 'history': [{'accuracy': 0.5}, {}]}
    (tmp_path / 'result.json').write_text(json.dumps(result))
    with pytest.raises(InputError, match='nothing was measured'):
        compare.read_result(tmp_path, flags)
    flags += ['--run_eval=True', '--validation=seen_classes']
    result = {'recipe': parse_args('train', flags).make_recipe(), 'history': [{'accuracy': 0.5}, {'accuracy': 0.4}]}
    (tmp_path / 'result.json').write_text(json.dumps(result))
    # The first result.json is written before the evaluation.
    assert compare.read_result(tmp_path, flags) is None
    (tmp_path / 'result.json').write_text(json.dumps({**result, 'accuracy': 0.3, 'measures': MEASURES}))
    assert compare.read_result(tmp_path, flags) == ({'accuracy': 0.3, **MEASURES}, pytest.approx(0.1))


def test_figures_of_different_seeds_are_compared_in_pairs():
    lines, differences = compare.table({'a': {1: 0.5, 2: 0.6}, 'b': {2: 0.7, 3: 0.9}, 'c': {}}, {'a': [], 'b': [0.1], 'c': []})
    assert differences['b'][0] == pytest.approx(10) and differences['b'][1] == -np.inf and 'c' not in differences
    assert lines[-1].startswith('c  no seed in common')


def test_measures_that_all_results_have_follow_the_accuracy(trained, tmp_path, capsys):
    run(tmp_path, 2, [RECIPES[0], RECIPES[1] + ' --run_eval=True'])
    for name in ('one', 'two'):
        for seed in (1, 2):
            file = tmp_path / name / str(seed) / 'result.json'
            result = json.loads(file.read_text())
            result['recipe']['run_eval'] = True
            measures = {'Recall@1': 0.5, 'MAP@R': 0.1 * seed, **({'R-precision': 0.2} if name == 'one' else {})}
            file.write_text(json.dumps({**result, 'accuracy': 0.5, 'measures': measures}))
    capsys.readouterr()
    run(tmp_path, 2, more=['--report', '--all=--run_eval=True'])
    first, *rest = capsys.readouterr().out.split('\n\nMAP@R:\n')
    # Recall@1 is the accuracy, and not all results have R-precision.
    assert '50.00' in first and len(rest) == 1 and 'R-precision' not in first + rest[0] and 'Recall@1' not in first
    assert rest[0].splitlines()[1].split() == ['one', '10.00', '20.00', '15.00', '7.07', '-']
    assert '2 seeds show differences above' in rest[0]


@pytest.mark.parametrize('file', ['dem_ablation', 'gbu_ablation'])
def test_the_recipes_of_a_list_exist(monkeypatch, file):
    taken = {}
    monkeypatch.setattr(compare, 'compare', lambda recipes, seeds, out, report, program: taken.update(recipes))
    compare.main(['out', f'@{ROOT}/benchmarks/{file}.txt', '--all=--data_path=D'])
    made = [parse_args('train', flags).make_recipe() for flags in taken.values()]
    assert len(made) > 15 and all(recipe != made[0] and recipe.data_path == 'D' for recipe in made[1:])


@pytest.mark.slow
@pytest.mark.parametrize('loss, more', [
    ('norm_softmax', ['--batch_size=10', '--set=lr_epochs=[1]']), ('proxy_anchor', ['--batch_size=10']),
    ('recall_at_k', ['--batch_size=16', '--set=chunk_size=8', '--set=lr_epochs=[1]'])])
def test_recipes_from_pretrained_weights_train_a_small_network(products, tmp_path, monkeypatch, loss, more):
    monkeypatch.setattr(ResNet18, 'blocks', (1, 1, 1, 1))
    train.main(['--recipe=newer', f'--loss_name={loss}', '--epoch_size=2', f'--dataset_path={products}',
                '--model=resnet18', '--set=backbone_options.width=8', '--image_size=32',
                '--run_eval=True', '--device_target=CPU', f'--save_ckpt={tmp_path}', *more])
    assert 0 <= json.loads((tmp_path / 'result.json').read_text())['accuracy'] <= 1


@pytest.mark.by_hand
def test_two_stages_as_processes(products, tmp_path):
    tiny = ['--model=resnet18', '--set=backbone_options.width=8', '--image_size=16', '--batch_size=8', '--epoch_size=1',
            '--device_target=CPU']
    command = [sys.executable, str(ROOT / 'benchmarks' / 'compare.py'), str(tmp_path / 'out'), '--seeds=2',
               f'--all=--dataset_path={products} --validation=seen_classes --validation_fraction=0.3 {" ".join(tiny)}',
               'first: --loss_name=norm_softmax --recipe=pretrained',
               'second: --loss_name=supcon --recipe=pretrained --pretrained={first}/train.ckpt']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert 'starting from' in (tmp_path / 'out/second/2.log').read_text()
    assert '2 seeds show differences above' in done.stdout
    failing = subprocess.run([*command, 'third: --loss_name=supcon --recipe=pretrained --dataset_path=no'], cwd=tmp_path,
                             env=environment, capture_output=True, text=True)
    assert failing.returncode == 2 and failing.stderr.count('\n') == 1
    assert 'third/1: training ended with code 2' in failing.stderr

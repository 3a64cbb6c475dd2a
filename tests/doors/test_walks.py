"""The walks of CONTRIBUTING.md in a copy of the checkout: the files and lines that stand there, then the doors."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.accuracy import recall_at_k
from src.checkpoints.checkpoint import read_checkpoint
from src.samples.image_sample import make_reid
from tests.doors.walk_files import FILES

ROOT = Path(__file__).resolve().parents[2]
WALKS = {name: ' '.join(text.split()) for name, text in re.findall(
    r'^\*\*(An? [^*]*)\.\*\* (.*?)(?=\n\n|\Z)', (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8'), re.M | re.S)}
LOSSES = ('src/losses/__init__.py', 'LOSSES: Dict[str, LossRow] = {\n')
BACKBONES, HEADS = (('src/networks/__init__.py', f'{table} = {{\n') for table in ('BACKBONES', 'HEADS'))
SMALL = '--recipe=small', '--image_size=32', '--batch_size=8', '--total_iter_num=2', '--save_ckpt=out'
pytestmark = pytest.mark.by_hand


class Checkout:
    """A copy in which one walk is taken; every edit must be named in its text."""

    def __init__(self, folder, walk):
        self.root, self.text, self.edits = folder / 'project', WALKS[walk], 0
        self.root.mkdir()
        shutil.copytree(ROOT / 'src', self.root / 'src', ignore=shutil.ignore_patterns('__pycache__'))
        for door in ('train', 'eval', 'export', 'infer'):
            shutil.copy(ROOT / f'{door}.py', self.root)

    def _named(self, *names):
        self.edits += 1
        assert all(f'`{name}`' in self.text for name in names), (names, self.text)

    def add(self, path, text):
        """A file that the walk names."""
        self._named(path)
        assert not (self.root / path).exists()
        (self.root / path).write_text(text)

    def insert(self, path, before, text, named=None):
        """Text behind `before`, which the file has once; `named`: what the walk says of it, None for the text itself."""
        self._named(path, *([text.strip()] if named is None else named))
        old = (self.root / path).read_text()
        assert old.count(before) == 1
        (self.root / path).write_text(old.replace(before, before + text))

    def run(self, door, *flags, code=0):
        """Standard output of a door, or standard error where it is to refuse."""
        done = subprocess.run([sys.executable, f'{door}.py', '--device_target=CPU', *flags], cwd=self.root, text=True,
                              capture_output=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def use(self, *flags):
        """Train, evaluate and export metric learning; returns the contents of result.json."""
        self.run('train', *SMALL, '--num_workers=1', *flags)
        assert 'Recall@1' in self.run('eval', '--save_ckpt=out')
        assert 'largest difference' in self.run('export', '--save_ckpt=out', '--file_name=net')
        return json.loads((self.root / 'out' / 'result.json').read_text())


@pytest.fixture
def walk(tmp_path):
    return lambda name: Checkout(tmp_path, name)


def test_every_walk_is_performed_here():
    performed = set(re.findall(r"walk\('([^']*)'\)", Path(__file__).read_text()))
    assert set(WALKS) == performed


def test_a_pair_loss_and_a_small_network(walk, products):
    made = walk('A pair loss')
    made.add('src/losses/mine.py', FILES['pair'])
    made.insert(*LOSSES, "    'mine': pair('mine.MyLoss'),\n")
    assert made.edits == 2
    recipe = made.use(f'--dataset_path={products}', '--loss_name=mine', '--model=resnet18', '--set', 'loss_options.power=2',
                      '--set', 'backbone_options.width=8')['recipe']
    assert (recipe['loss_name'], recipe['loss_options']) == ('mine', {'power': 2.0})


def test_an_element_loss(walk, products, tmp_path):
    made = walk('An element loss')
    made.add('src/losses/mine.py', FILES['element'])
    made.insert(*LOSSES, "    'mine': element('mine.MyLoss'),\n")
    assert made.edits == 2
    width = ['--model=resnet18', '--set=backbone_options.width=8', '--loss_name=mine']
    result = made.use(f'--dataset_path={products}', *width, '--set', 'loss_options.heat=3')
    assert result['recipe']['loss_options'] == {'heat': 3.0}
    states = read_checkpoint(made.root / 'out' / 'train-1_2.ckpt')
    assert states['loss.weight'].shape == (result['found']['class_num'], 64)
    # Persons with few images fill their batches with repeated ones, which have a mask.
    make_reid(tmp_path, 'duke', identities=8)
    printed = made.run('train', '--dataset=DukeMTMC-reID', f'--data_path={tmp_path}', *SMALL, '--num_workers=1', *width,
                       '--set=sampler=identities', '--set=small_classes=mask', '--run_eval=False')
    assert 'trained 2 steps' in printed


def test_a_backbone(walk, products):
    made = walk('A backbone')
    made.add('src/networks/mine.py', FILES['backbone'])
    made.insert(*BACKBONES, "    'mine': 'mine.MyBackbone',\n")
    assert made.edits == 2
    assert made.use(f'--dataset_path={products}', '--model=mine')['recipe']['backbone'] == 'mine'
    assert read_checkpoint(made.root / 'out' / 'train.ckpt')['conv.weight'].shape == (8, 3, 4, 4)


def test_a_head(walk, products):
    made = walk('A head')
    made.add('src/networks/my_head.py', FILES['head'])
    made.insert(*HEADS, "    'mine': 'my_head.MyHead',\n")
    assert made.edits == 2
    made.use(f'--dataset_path={products}', '--model=resnet18', '--set=backbone_options.width=8', '--set', 'head=mine',
             '--set=head_options.share=0.5')
    assert np.abs(read_checkpoint(made.root / 'out' / 'train.ckpt')['centre']).max() > 0


def test_an_augmentation(walk, products):
    made, path = walk('An augmentation'), 'src/datasets/augmentation.py'
    made.insert(path, 'AFFINE_FROM = 1.25\n', f'\n\n{FILES["augmentation"].rstrip()}\n', ['_mine(size, OPTIONS)'])
    made.insert(path, "AUGMENTATIONS: Dict[str, Callable[..., Augment]] = {", "'mine': _mine, ", ["'mine': _mine"])
    assert made.edits == 2
    recipe = made.use(f'--dataset_path={products}', '--model=resnet18', '--set=backbone_options.width=8',
                      '--set', "augmentation={'mine': {'chance': 1}}")['recipe']
    assert recipe['augmentation'] == {'mine': {'chance': 1}}


def test_a_learning_rate_mode(walk, products):
    made, path = walk('A learning-rate mode'), 'src/training/learning_rate.py'
    made.insert(path, 'import InputError\n', f'\n\n{FILES["mode"].rstrip()}\n', ['mine(plan)'])
    made.insert(path, 'LR_MODES: dict[str, Callable[[Plan], Rates]] = {\n', "    'mine': mine,\n")
    assert made.edits == 2
    result = made.use(f'--dataset_path={products}', '--model=resnet18', '--set=backbone_options.width=8', '--lr_mode=mine')
    # The rate of the second and last step.
    assert [row['lr'] for row in result['history']] == [pytest.approx(result['recipe']['lr_max'] / 2)]


def test_a_measure(walk, products):
    made = walk('A measure')
    made.add('src/accuracy/mine.py', FILES['measure'])
    made.insert('src/accuracy/__init__.py', "MEASURES: Dict[str, str] = {\n", "    'mine': 'mine.mine',\n")
    made.insert('src/systems/metric_learning.py', "    measures = (", "'mine', ", ["'mine'", 'measures'])
    assert made.edits == 3
    result = made.use(f'--dataset_path={products}', '--model=resnet18', '--set=backbone_options.width=8', '--run_eval=True')
    value = result['measures']['half R-precision']
    assert 0 < value <= 1
    assert f'half R-precision = {value:.5f}' in made.run('eval', '--save_ckpt=out')


def test_a_dataset_of_re_identification(walk, tmp_path):
    make_reid(tmp_path, 'duke', identities=8)
    for old, new in (('bounding_box_train', 'train'), ('query', 'query'), ('bounding_box_test', 'gallery')):
        folder = tmp_path / 'shop' / new
        folder.mkdir(parents=True)
        for path in (tmp_path / 'DukeMTMC-reID' / old).iterdir():
            person, camera, frame = path.stem.split('_')
            shutil.move(path, folder / f'person{person}-camera{camera[1:]}-{frame}{path.suffix}')
    made = walk('A dataset of re-identification')
    made.add('src/datasets/mine.py', FILES['reid'])
    made.insert('src/datasets/__init__.py', "    'Market1501': 'market1501.Market1501',\n", "    'Mine': 'mine.Mine',\n")
    assert made.edits == 2
    assert 'Market1501, Mine, lists' in made.run('train', '--dataset=Its', code=2)
    made.run('train', '--dataset=Mine', f'--data_path={tmp_path}', '--loss_name=ctl', *SMALL, '--num_workers=1',
             '--model=resnet18', '--set=backbone_options.width=8')
    assert 'centroid: mAP' in made.run('eval', '--dataset=Mine', f'--data_path={tmp_path}', '--save_ckpt=out')


def test_a_recipe(walk):
    made = walk('A recipe')
    made.insert('src/recipes/metric_learning.py', 'RECIPES: Dict[Tuple[str, str, str], Dict[str, Any]] = {\n',
                "    ('SOP', 'softmax', 'mine'): dict(SMALL_ELEMENT, epoch_size=2),\n")
    made.insert('src/recipes/recipe.py', 'PURPOSES = {\n', "    'mine': 'what it is for',\n")
    assert made.edits == 2
    assert 'what it is for' in made.run('train', '--list_recipes')
    shown = made.run('train', '--loss_name=softmax', '--recipe=mine', '--show_recipe')
    assert 'recipe mine of SOP softmax: given by --recipe' in shown and 'epoch_size = 2' in shown


def test_an_entry_of_recipes(walk):
    made = walk('An entry of recipes')
    made.insert('src/recipes/entries.py', "_EMBEDDING: Dict[str, Entry] = {\n",
                "    'mine': Entry(RATE, 0.0, 'what it is for', METRIC),\n")
    assert 'mine = 0.5' in made.run('train', '--loss_name=softmax', '--set', 'mine=0.5', '--show_recipe')
    assert 'what it is for' not in made.run('train', '--help')
    made.insert('src/recipes/flags.py', 'FLAGS = [\n', "    Flag(('--mine',), (TRAIN,), METRIC, 'mine'),\n")
    assert 'what it is for' in made.run('train', '--help')
    assert 'mine = 0.5' in made.run('train', '--loss_name=softmax', '--mine=0.5', '--show_recipe')
    assert '--mine=-1: expected' in made.run('train', '--loss_name=softmax', '--mine=-1', '--show_recipe', code=2)


def test_a_system(walk, tmp_path):
    rng, raw = np.random.default_rng(0), 0.0
    for part in ('train', 'test'):
        # Two directions of sixteen tell the classes; the others, larger, hide them.
        labels = np.repeat(np.arange(12), 16)
        angles = labels * 2 * np.pi / 12
        rows = np.concatenate([np.stack([np.cos(angles), np.sin(angles)], 1), rng.standard_normal((192, 14)) / 2], 1)
        np.savez(tmp_path / f'{part}.npz', embeddings=rows.astype(np.float32), labels=labels,
                 paths=np.array([f'{i}.jpg' for i in range(192)]))
        raw = recall_at_k(rows, labels)[1]
    made = walk('A system')
    made.add('src/systems/projection.py', FILES['system'])
    made.add('src/recipes/projection.py', FILES['recipes'])
    made.insert('src/recipes/systems.py', 'SYSTEMS: Dict[str, SystemRow] = {\n',
                "    'projection': SystemRow('projection.Projection', 'projection of features', ('features',), 'projection', "
                "'loss_name', 'norm_softmax', False),\n")
    made.insert('src/recipes/recipe.py', 'PURPOSES = {\n', "    'projected': 'a square matrix on frozen embeddings',\n")
    assert made.edits == 4
    of = ['--dataset=features', f'--data_path={tmp_path}']
    shown = made.run('train', *of, '--show_recipe', '--set', 'loss_options.temperature=0.2')
    assert 'recipe projected of features norm_softmax' in shown and "loss_options = {'temperature': 0.2}" in shown
    assert not re.search('^(train_mode|network|feature_scaling|image_size) =', shown, re.M)
    helped = made.run('train', '--help', '--dataset=features')
    assert 'features' in helped and re.search(r'highest learning rate\s+\[0\.001\]', helped)
    assert 'a square matrix on frozen embeddings' in made.run('train', '--list_recipes')
    assert 'expected a finite number' in made.run('train', *of, '--lr=fast', code=2)
    made.run('train', *of, '--lr=0.02', '--validation=test_classes', '--set', 'save_checkpoint_epochs=1', '--save_ckpt=out')
    result = json.loads((made.root / 'out' / 'result.json').read_text())
    assert result['found'] == {'width': 16} and result['recipe']['system'] == 'projection'
    assert result['steps'] == 10 * (192 // 32) and result['accuracy'] > raw + 0.1
    made.run('train', *of, '--loss_name=supcon', '--save_ckpt=pairs')
    # The same weights after the last state is taken up again.
    last = read_checkpoint(made.root / 'out' / 'train.ckpt')['matrix']
    (made.root / 'out' / 'train-10_6.ckpt').unlink()
    assert 'resumed after step 54 of 60' in made.run('train', *of, '--lr=0.02', '--validation=test_classes', '--resume',
                                                     '--set', 'save_checkpoint_epochs=1', '--save_ckpt=out')
    again = read_checkpoint(made.root / 'out' / 'train.ckpt')['matrix']
    np.testing.assert_array_equal(again, last)
    assert not np.array_equal(again, np.eye(16))
    assert json.loads((made.root / 'out' / 'result.json').read_text())['accuracy'] == result['accuracy']
    made.run('eval', f'--data_path={tmp_path}', '--save_ckpt=out', '--dataset=features', '--result_file=figures.json')
    figures = json.loads((made.root / 'figures.json').read_text())
    assert figures['measures'] == result['measures'] and figures['accuracy'] == result['accuracy']
    for form in ('MINDIR', 'ONNX'):
        assert 'largest difference' in made.run('export', '--save_ckpt=out', f'--file_format={form}', '--batch_size=0')
    assert {'projection.mindir', 'projection.onnx'} <= {path.name for path in made.root.iterdir()}
    for file in ('out', 'projection.mindir'):
        refused = made.run('infer', f'--ckpt_file={file}', f'--images={tmp_path}', code=2)
        assert len(refused.splitlines()) == 1 and 'images' in refused, refused
    assert 'projection of features, which takes no images' in made.run('infer', '--ckpt_file=out', '--images=.', code=2)

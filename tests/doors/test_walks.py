"""The walks of CONTRIBUTING.md in a copy of the checkout: one file and one line, then trained, evaluated and exported."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.checkpoints.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
PAIR_LOSS = '''"""Squared distances within a class."""
from src.losses.loss import Loss
from src.losses.pairs import same_class, squared_distances


class TogetherLoss(Loss):
    batch = 'groups'

    def construct(self, embeddings, labels):
        return (squared_distances(embeddings) * same_class(labels)).mean()
'''
ELEMENT_LOSS = '''"""A linear classifier whose logits are multiplied."""
import mindspore as ms
from mindspore import Parameter, ops
from mindspore.common.initializer import Normal, initializer

from src.losses.loss import Loss
from src.losses.softmax import cross_entropy


class HotLoss(Loss):
    batch = 'shuffle'
    needs = ('num_classes', 'embedding_size')

    def __init__(self, num_classes, embedding_size, heat=2.0):
        super().__init__()
        self.weight = Parameter(initializer(Normal(0.01), (num_classes, embedding_size), ms.float32), name='weight')
        self.heat = heat

    def construct(self, embeddings, labels):
        return cross_entropy(self.heat * ops.matmul(embeddings, self.weight.T), labels).mean()
'''
BACKBONE = '''"""One convolution."""
from mindspore import mint, nn

from src.networks.backbone import Backbone


class Glance(Backbone):
    out_channels = 8

    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 4, 4, pad_mode='valid', has_bias=True)

    def construct(self, images):
        return mint.nn.functional.relu(self.conv(images))
'''
MODE = '''

def alternating(plan):
    """Every other step half."""
    return plan.lr_max * np.where(plan.step % 2, 0.5, 1.0)


LR_MODES['alternating'] = alternating
'''


class Checkout:
    def __init__(self, folder, data):
        self.root, self.data = folder / 'project', data
        self.root.mkdir()
        shutil.copytree(ROOT / 'src', self.root / 'src', ignore=shutil.ignore_patterns('__pycache__'))
        for door in ('train', 'eval', 'export', 'infer'):
            shutil.copy(ROOT / f'{door}.py', self.root)

    def add(self, path, text, registry, line):
        """One file, and one line in a table."""
        (self.root / path).write_text(text)
        table = self.root / registry[0]
        before = table.read_text()
        assert before.count(registry[1]) == 1
        table.write_text(before.replace(registry[1], f'{registry[1]}\n    {line}'))

    def run(self, door, *flags):
        done = subprocess.run([sys.executable, f'{door}.py', '--device_target=CPU', *flags], cwd=self.root, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def use(self, *flags):
        """Train, evaluate and export; returns the recipe."""
        self.run('train', f'--dataset_path={self.data}', '--recipe=small', '--save_ckpt=out', '--image_size=32',
                 '--batch_size=8', '--total_iter_num=2', *flags)
        assert 'Recall@1' in self.run('eval', '--save_ckpt=out')
        assert 'largest difference' in self.run('export', '--save_ckpt=out', '--file_name=net')
        return json.loads((self.root / 'out' / 'result.json').read_text())['recipe']


LOSS_TABLE = ('src/losses/__init__.py', 'LOSSES: Dict[str, LossRow] = {')
BACKBONE_TABLE = ('src/networks/__init__.py', 'BACKBONES = {')


@pytest.fixture
def checkout(tmp_path, products):
    return Checkout(tmp_path, products)


@pytest.mark.by_hand
def test_a_loss_of_each_kind_a_backbone_and_a_mode(checkout):
    checkout.add('src/losses/together.py', PAIR_LOSS, LOSS_TABLE, "'together': pair('together.TogetherLoss'),")
    checkout.add('src/losses/hot.py', ELEMENT_LOSS, LOSS_TABLE, "'hot': element('hot.HotLoss'),")
    checkout.add('src/networks/glance.py', BACKBONE, BACKBONE_TABLE, "'glance': 'glance.Glance',")
    mode = checkout.root / 'src/training/learning_rate.py'
    mode.write_text(mode.read_text() + MODE)
    used = checkout.use('--loss_name=together', '--model=glance')
    assert (used['loss_name'], used['backbone'], used['batch_size']) == ('together', 'glance', 8)
    states = read_checkpoint(checkout.root / 'out' / 'train-1_2.ckpt')
    assert 'conv.weight' in states and not any(name.startswith('loss.') for name in states)
    used = checkout.use('--loss_name=hot', '--model=glance', '--set', 'loss_options.heat=3', '--lr_mode=alternating')
    assert (used['loss_options'], used['backbone'], used['lr_mode']) == ({'heat': 3.0}, 'glance', 'alternating')
    states = read_checkpoint(checkout.root / 'out' / 'train-1_2.ckpt')
    result = json.loads((checkout.root / 'out' / 'result.json').read_text())
    assert states['loss.weight'].shape == (result['found']['class_num'], 8)
    assert [row['lr'] for row in result['history']] == [pytest.approx(used['lr_max'] / 2)]    # the second step's

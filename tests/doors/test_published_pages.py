"""Every command of the published pages, taken from the pages' text, on small generated data.

At most paths, lengths and sizes are put in or added; two CPU processes stand for eight devices. What cannot run here is
in CANNOT with its reason; a command of a page that is in neither list fails. All of it took 45 minutes on one core that ten
other programs used too.
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
import pytest

from src.datasets.samplers import create_sampler
from src.losses import loss_class
from src.networks import create_network
from src.recipes.command_line import parse_args
from src.samples.dem_sample import make_dem_sample
from src.samples.image_sample import make_products, make_reid
from tests.conftest import ROOT, SHARED_DATA
from tests.processes import free_port
from tests.scripts.test_launchers import SHELLS, Project

SEEDS = SHARED_DATA.parent / 'seeds'
pytestmark = pytest.mark.skipif(not SEEDS.is_dir(), reason=f'no published pages: {SEEDS} does not exist')
STARTS = r'python \w+\.py|(?:sh|bash) [\w./]+\.sh|pip install|cd [\w/$]|mv |unzip |sed |head '


def commands(page):
    """The commands of a page in order, lines joined where a backslash says so (blanks may follow it), without comments."""
    found = []
    for line in re.sub(r'\\[ \t]*(?:\n|$)', ' ', page).splitlines():
        line = re.sub(r'^\s*(?:用法|Usage)[::]\s*', '', line)
        # One page has lost the line breaks of its fenced blocks.
        for part in re.findall('```(.*?)```', line) or ([line] if re.match(STARTS, line) else []):
            for command in re.split(rf'(?<!&& )(?<!\| )\b(?={STARTS})', part):
                command = ' '.join(re.sub(r'\s#.*', '', command).replace(' \\', ' ').split())
                if re.match(STARTS, command):
                    found.append(command)
    return found


PAGES = {page.name: page.read_text(encoding='utf-8') for page in sorted(SEEDS.glob('*.*'))} if SEEDS.is_dir() else {}
COMMANDS = list(dict.fromkeys(command for page in PAGES.values() for command in commands(page)))
CANNOT = {
    r'pip install -r (1\.[58]_)?requirements\.txt': 'the network; scripts/run_tests.sh installs requirements.txt',
    r'mv (\./)?(data|DEM_data)\.zip (DEM_data\.zip|/data)|unzip DEM_data\.zip|cd /data': "the user's download, and /data",
    r'cd /\$\{模型文件夹名称\}': "a name of the user's",
}
NETWORK = '--image_size=32 --num_workers=1 --set backbone_options.width=8'
IMAGES = f'--total_iter_num=1 --batch_size=6 {NETWORK}'
PERSONS = 'SOLVER.MAX_EPOCHS 1 SOLVER.IMS_PER_BATCH 3 TEST.IMS_PER_BATCH 8 DATASETS.NAMES dukemtmcreid'
PERSONS = f'--image_size=32,32 --num_workers=1 --set backbone_options.width=8 {PERSONS}'


class Step(NamedTuple):
    """A command of the pages (a regular expression), what is added to it, what takes the place of its placeholders, a
    word of its output, and a file below the checkout that it leaves."""
    command: str
    more: str = ''
    put: dict = {}
    word: str = ''
    leaves: str = ''


def _mode(dataset, mode, folder='/YourCkptPath'):
    return {'[AwA|CUB]': dataset, '[att|word|fusion]': mode, '/YourCkptPath': f'../out_{mode}',
            '[SAVE_CKPT]': f'../out_{mode}', '[CKPT_PATH]': f'../out_{mode}/train.ckpt'}


TRAIN_DEM, EVAL_DEM = r'python train\.py --data_path=/YourDataPath .*', r'python eval\.py --data_path=/YourDataPath .*'
EIGHT = r'(sh|bash) run_distribute_train\.sh \[RANK_TABLE_FILE\].*'
ONE = r'(sh|bash) run_standalone_train\.sh \[DATASET_PATH\].*'
START = '$HOME/small.ckpt'
# Blocks of commands that belong together, the folder they run in, and the shell that runs them for real.
BLOCKS = {
    'dem': ('scripts', 'dash', [
        Step(r'sh run_standalone_train_ascend\.sh CUB att .*', '--epoch_size=1', leaves='output/train.ckpt'),
        Step(r'sh run_standalone_eval_ascend\.sh CUB att \S+ \.\./output/train\.ckpt', word='accuracy _ CUB _ att = ')]),
    'dem placeholders': ('scripts', 'bash', [
        Step(r'sh run_standalone_train_ascend\.sh \[AwA\|CUB\].*', '--epoch_size=1', _mode('AwA', 'att'),
             leaves='out_att/result.json'),
        Step(r'sh run_standalone_eval_ascend\.sh \[AwA\|CUB\].*', '', _mode('AwA', 'att'), 'accuracy _ AwA _ att = ')]),
    'dem doors': ('scripts/..', 'dash', [
        Step(TRAIN_DEM, '--epoch_size=1', {**_mode('AwA', 'fusion'), '/YourCkptPath': 'out_fusion'},
             '============== Starting Training', 'out_fusion/train.ckpt'),
        Step(EVAL_DEM, '', {**_mode('AwA', 'fusion'), '/YourCkptPath': 'out_fusion'}, 'accuracy _ AwA _ fusion = '),
        Step(r'python export\.py --save_ckpt=.*', '', {**_mode('AwA', 'fusion'), '[CKPT_PATH]': 'out_fusion'},
             leaves='awa_fusion.mindir')]),
    'dem on eight': ('scripts', 'dash', [
        Step(r'sh run_distributed_train_ascend\.sh .*', '--epoch_size=1', leaves='train_parallel/1/train.ckpt'),
        Step(r'sh run_standalone_eval_ascend\.sh CUB att \S+ \.\./train_parallel/7/.*', '',
             {'/7/auto_parallel-120_11.ckpt': '/1/auto_parallel-1_*.ckpt'}, 'accuracy _ CUB _ att = ')]),
    'metric_learn': ('scripts', 'bash', [
        Step(ONE, IMAGES, {'[CKPT_PATH]': START, '[DEVICE_ID]': '0', '[LOSS_NAME]': 'quadruplet'}, 'starting from',
             'train_quadruplet/train.log'),
        Step(r'bash run_eval\.sh \[DATASET_PATH\] \[CKPT_PATH\] .*', '',
             {'[CKPT_PATH]': '../train_quadruplet/train.ckpt', '[DEVICE_ID]': '0'}, "result: {'acc': ", 'eval/eval.log'),
        Step(r'sh run_eval\.sh \[DATASET_PATH\] \[CHECKPOINT_PATH\]', NETWORK, {'[CHECKPOINT_PATH]': START},
             "result: {'acc': ")]),
    'metric_learn on eight': ('scripts', 'dash', [
        Step(EIGHT, IMAGES, {'[PRETRAINED_CKPT_PATH]': '-', '[LOSS_NAME]': 'softmax'}, '',
             'train_parallel/0/train.ckpt'),
        Step(EIGHT, IMAGES, {'[PRETRAINED_CKPT_PATH]': '../train_parallel/0/train.ckpt', '[LOSS_NAME]': 'triplet'},
             'held another training: moved to', 'train_parallel/0/earlier-1/train.ckpt')]),
    'metric_learn published weights': ('scripts', 'dash', [
        Step(r'sh run_eval\.sh ~/Stanford_Online_Products ~/ResNet50\.ckpt', '--image_size=64 --num_workers=1', {},
             "result: {'acc': ")]),
    'metric_learn export': ('scripts/..', 'bash', [
        Step(r'python export\.py --ckpt_file \[CKPT_PATH\]', '--height=32 --width=32', {'[CKPT_PATH]': '~/ResNet50.ckpt'},
             'head bias, weight', 'resnet50.mindir')]),
    'metric_learn data': ('', 'both', [
        *(Step(rf"cd Stanford_Online_Products && sed '1d' Ebay_{part}\.txt .*") for part in ('train', 'test')),
        *(Step(rf'cd Stanford_Online_Products && head .* {part}_{size}\.txt') for part in ('train', 'test')
          for size in ('half', 'tiny'))]),
    'paddle data': ('scripts/..', 'both', [Step(r'cd data/'), Step(r'sh download_sop\.sh', '', {}, 'is there already')]),
    'paddle': ('scripts/..', 'bash', [
        Step(r'python train_elem\.py .*', IMAGES, {'${path_to_pretrain_imagenet_model}': START,
                                                   '${output_model_path}': 'elem'}, 'recipe paddle', 'elem/train.ckpt'),
        Step(r'python train_pair\.py .*', IMAGES, {'${path_to_pretrain_arcmargin_model}': 'elem/train.ckpt',
                                                   '${output_model_path}': 'pair'}, 'recipe paddle', 'pair/train.ckpt'),
        Step(r'python eval\.py --model=ResNet50 .*', '', {'${path_to_pretrain_model}': 'pair'}, 'Recall@1 = '),
        Step(r'python infer\.py --model=ResNet50 .*', '', {'${path_to_pretrain_model}': 'pair/train.ckpt'},
             'embeddings of', 'embeddings.npy')]),
    'ctl on one': ('scripts/..', 'bash', [
        Step(r'bash \./test/train_performance_1p\.sh .*', PERSONS, {}, 'centroid: mAP = ',
             'train_performance_1p/train.log')]),
    'ctl on eight': ('scripts/..', 'dash', [
        Step(r'bash \./test/train_full_8p\.sh .*', PERSONS, leaves='train_parallel/1/train.log'),
        Step(r'bash \./test/train_performance_8p\.sh .*', PERSONS, leaves='train_performance_8p/1/train.log')]),
}
STEPS = [step for *_, steps in BLOCKS.values() for step in steps]


def of_pages(step):
    """The first command of the pages that a step means."""
    return next(command for command in COMMANDS if re.fullmatch(step.command, command))


def filled(command, put, places):
    for old, new in {**places, **put}.items():
        command = command.replace(old, new)
    assert not re.search(r'\[[A-Z]\w*|\$\{', command), f'nothing was put in for a placeholder: {command}'
    return command


def test_every_command_is_run_or_has_a_reason():
    assert len(COMMANDS) > 30
    for command in COMMANDS:
        entries = {pattern for pattern in [*(step.command for step in STEPS), *CANNOT] if re.fullmatch(pattern, command)}
        assert len(entries) == 1, command
    for pattern in [*(step.command for step in STEPS), *CANNOT]:
        assert any(re.fullmatch(pattern, command) for command in COMMANDS), pattern


class Checkout:
    """A copy of what users have, with data and checkpoints below HOME, and `python` the one of the tests."""

    def __init__(self, folder):
        self.root, self.home = folder / 'project', folder / 'home'
        self.root.mkdir()
        for name in ('src', 'scripts', 'test', 'data'):
            shutil.copytree(ROOT / name, self.root / name,
                            ignore=shutil.ignore_patterns('__pycache__', 'Stanford_Online_Products'))
        for door in ROOT.glob('*.py'):
            shutil.copy(door, self.root)
        (folder / 'bin').mkdir()
        python = folder / 'bin' / 'python'
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.home.mkdir()
        self.env = {name: value for name, value in os.environ.items()
                    if name not in ('DEVICE_ID', 'RANK_TABLE_FILE', 'PYTHON', 'WORKER_NUM')}
        self.env.update(HOME=str(self.home), DEVICE_TARGET='CPU', DEVICE_NUM='2',
                        PATH=os.pathsep.join([str(python.parent), str(Path(sys.executable).parent), os.environ['PATH']]))
        self.products = self.home / 'Stanford_Online_Products'
        make_products(self.products, classes=8, images_per_class=6, size=40)
        (self.root / 'data' / 'Stanford_Online_Products').symlink_to(self.products)
        self.places = {
            '/data/DEM_data': str(self.home / 'DEM_data'), '/YourDataPath': str(self.home / 'DEM_data'),
            '[DATA_PATH]': str(self.home / 'DEM_data'), '[hccl配置文件,.json格式]': '-', '[RANK_TABLE_FILE]': '-',
            '[DATASET_PATH]': str(self.products), '/data/xxx/': f'{self.home}/'}

    def run(self, step, shell, cwd, before=''):
        command = f'{filled(of_pages(step), step.put, self.places)} {step.more}'
        # `sh` and `bash` of the page are the shell under test.
        command = re.sub(r'^(sh|bash) ', f'{shell} ', command)
        done = subprocess.run([shutil.which(shell), '-c', before + command], cwd=self.root / cwd, text=True,
                              capture_output=True, env=dict(self.env, MASTER_PORT=free_port()), timeout=900)
        assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
        assert step.word in done.stdout + done.stderr, f'{command}\n{done.stdout}'
        assert not step.leaves or (self.root / step.leaves).is_file(), command


def save_published(path, **options):
    """A checkpoint of the published structure: the backbone's names, and the head's without any."""
    network = create_network('resnet50', **options)
    values = {p.name: p.asnumpy() for p in network.get_parameters()}
    values.update(weight=np.zeros((4, network.out_channels), np.float32), bias=np.zeros(4, np.float32))
    ms.save_checkpoint([{'name': name, 'data': ms.Tensor(value)} for name, value in values.items()], str(path))


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    made = Checkout(tmp_path_factory.mktemp('pages'))
    make_dem_sample(made.home / 'DEM_data')
    make_reid(made.home, 'duke', identities=8)
    save_published(made.home / 'ResNet50.ckpt')
    save_published(made.home / 'small.ckpt', width=8)
    return made


REAL = [name for name, (_, shell, _) in BLOCKS.items() if shell != 'both']


@pytest.mark.by_hand
@pytest.mark.parametrize('name', REAL)
def test_blocks(checkout, name):
    folder, shell, steps = BLOCKS[name]
    shutil.rmtree(checkout.root / 'train_parallel', ignore_errors=True)
    for step in steps:
        checkout.run(step, shell if shutil.which(shell) else 'sh', folder)


@pytest.mark.parametrize('shell', SHELLS)
def test_blocks_of_data(tmp_path, shell):
    checkout = Checkout(tmp_path)
    *_, (to_data, download) = BLOCKS['paddle data']
    checkout.run(download, shell, '.', of_pages(to_data) + '\n')
    for step in BLOCKS['metric_learn data'][2]:
        checkout.run(step, shell, checkout.home)
    rows = [line.split() for line in (checkout.products / 'Ebay_train.txt').read_text().splitlines()[1:]]
    wanted = [f'{row[3]} {row[1]}' for row in rows]
    for name in ('train', 'train_half', 'train_tiny'):
        assert (checkout.products / f'{name}.txt').read_text().splitlines() == wanted
    assert len((checkout.products / 'test_half.txt').read_text().splitlines()) == 24


LAUNCHED = [step for step in STEPS if re.match(r'\(?(sh|bash)', step.command) and 'download' not in step.command]


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('step', LAUNCHED, ids=lambda step: step.command[:60])
def test_launchers_under_each_shell(tmp_path, shell, step):
    """With a stand-in for Python: what it is called with is read by the parser of the door. Several devices by a rank table,
    as the pages say; test_launchers.py starts them by msrun too, whose own start takes seconds."""
    project = Project(tmp_path)
    table = project.rank_table(2)
    files = {name: project.root / 'output' / name for name in ('train.ckpt',)}
    for path in files.values():
        path.parent.mkdir(exist_ok=True)
        path.write_text('')
    checkpoint, data = f"'{project.checkpoint}'", f"'{project.data}'"
    places = {'/data/DEM_data': data, '[DATA_PATH]': data, '[hccl配置文件,.json格式]': f"'{table}'",
              '[RANK_TABLE_FILE]': f"'{table}'", '[DATASET_PATH]': data, '~/Stanford_Online_Products': data, '/data/xxx/': data,
              '[CKPT_PATH]': checkpoint, '[CHECKPOINT_PATH]': checkpoint, '[PRETRAINED_CKPT_PATH]': checkpoint,
              '~/ResNet50.ckpt': checkpoint, '../train_parallel/7/auto_parallel-120_11.ckpt': checkpoint}
    put = {name: value for name, value in step.put.items() if name not in places and name.startswith('[')}
    if '_eval_' in step.command:
        put['[SAVE_CKPT]'] = checkpoint
    command = re.sub(r'^(sh|bash) ', f'{shell} ', filled(of_pages(step), {**put, **places}, {}))
    cwd = project.root if './test' in command else project.root / 'scripts'
    done = subprocess.run([shutil.which(shell), '-c', f'{command} {step.more}'], cwd=cwd, text=True, timeout=60,
                          capture_output=True, env=dict(project.env, DEVICE_NUM='2', RANK_TABLE_FILE=str(table)))
    assert done.returncode == 0, done.stderr
    notes = project.notes()
    assert len(notes) == (2 if 'distribute' in command or '8p' in command else 1)
    for note in notes:
        door = Path(note['args'][0]).stem
        read = parse_args(door, note['args'][1:])
        if door == 'train':
            recipe = read.make_recipe()
            assert ('SOLVER' not in step.more) or (recipe.epoch_size, recipe.batch_size, recipe.dataset) == (
                1, 12, 'DukeMTMC-reID')
        if len(notes) == 2:
            assert note['env']['HCCL_CONNECT_TIMEOUT'] == '600'


def test_the_configuration_of_metric_learn():
    """The three lists of config.py: as flags they give the recipe that is there without them."""
    page = PAGES['metric_learn_readme_page.txt']
    entries = re.findall(r'"(\w+)":("?[^,”"]+[”"]?),? *#', page.replace('”', '"'))
    assert len(entries) == 3 * 16
    for start, loss in enumerate(('softmax', 'triplet', 'quadruplet')):
        flags = [f'--{name}={value.strip(chr(34))}' for name, value in entries[16 * start:16 * (start + 1)]]
        given = parse_args('train', ['--dataset=SOP', f'--loss_name={loss}', *flags])
        assert given.options.save_ckpt == './'
        plain = parse_args('train', ['--dataset=SOP', f'--loss_name={loss}']).make_recipe()
        assert given.make_recipe() == {**plain, 'class_num': 5184}


def test_the_parameters_of_dem():
    """The page has one list for all doors."""
    names = re.findall(r'^(--\w+):', PAGES['dem_readme_cn.md'], re.M)
    assert len(names) == 12
    values = {'--device_target': 'CPU', '--device_id': '0', '--distribute': 'False', '--device_num': '8',
              '--dataset': 'CUB', '--train_mode': 'att', '--batch_size': '100', '--interval_step': '100',
              '--epoch_size': '100', '--data_path': '/d', '--save_ckpt': '/c', '--file_format': 'MINDIR'}
    for door in ('train', 'eval', 'export'):
        parse_args(door, [f'{name}={values[name]}' for name in names])


def test_the_defaults_of_paddle():
    page = PAGES['paddle_metric_learning_page.txt']
    defaults = dict(re.findall(r'• (\w+): [^\n]*?默认: "?([\w.]+?)"?\.\n', page))
    recipe = parse_args('train', ['--dataset=SOP', '--recipe=paddle', '--loss_name=softmax']).make_recipe()
    assert (recipe.backbone, recipe.batch_size, recipe.test_batch_size, recipe.lr_max, recipe.total_iter_num) == (
        defaults['model'].lower(), int(defaults['train_batch_size']), int(defaults['test_batch_size']),
        float(defaults['lr']), int(defaults['total_iter_num']))
    arc = parse_args('train', ['--dataset=SOP', '--recipe=paddle', '--loss_name=arcmargin']).make_recipe()
    assert arc.loss_options == {'scale': float(defaults['arc_scale']), 'margin': float(defaults['arc_margin']),
                                'easy_margin': defaults['arc_easy_margin'] == 'True'}
    assert parse_args('train', ['--dataset=SOP']).options.save_ckpt == defaults['model_save_dir']


def test_steps_an_epoch_of_the_published_logs():
    """46, 62 and 62 on the half list with 8 devices: the recipes wrap around to fill the last batch of every device."""
    steps = re.findall(r'^epoch: ?1 step: ?(\d+), loss is', PAGES['metric_learn_readme_page.txt'], re.M)
    assert steps == ['46', '62', '62']
    lines = (SHARED_DATA / 'Stanford_Online_Products' / 'Ebay_train.txt').read_text().splitlines()
    labels = np.array([int(line.split()[1]) for line in lines[1:29438]])
    for loss, published in zip(('softmax', 'triplet', 'quadruplet'), steps):
        recipe = parse_args('train', ['--dataset=SOP', f'--loss_name={loss}']).make_recipe()
        ranks = [create_sampler(loss_class(loss).batch, labels, batch_size=recipe.batch_size, seed=recipe.seed, rank=rank,
                                size=8, last_batch=recipe.last_batch, instances=recipe.samples_each_class,
                                small_classes=recipe.small_classes) for rank in range(8)]
        assert [sampler.steps_per_epoch for sampler in ranks] == [int(published)] * 8
        epochs = 1 if loss == 'softmax' else 3
        seen = np.concatenate([sampler.epoch(e)[0].reshape(-1) for sampler in ranks for e in range(epochs)])
        assert len(np.unique(seen)) == len(labels), f'{loss} leaves images out'

"""Bad input to every door: one line on standard error that names the file or flag, exit code 2, nothing written."""
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from src.common.errors import InputError
from src.recipes.command_line import parse_args

ROOT = Path(__file__).resolve().parents[2]
DOORS = [name for name in ('train', 'eval', 'export', 'infer') if (ROOT / f'{name}.py').is_file()]
TRAIN_FEATURES = 'train_cub_googlenet_bn'
# A network that is drawn in no time.
SMALL = ['--recipe=small', '--model=resnet18', '--set=backbone_options.width=8']


@pytest.fixture
def refused(here, tmp_path, monkeypatch):
    """Function (door, flags) -> the line on standard error; nothing may be left in the working folder."""
    def call(door, *flags):
        code, _, err = here(door, *flags)
        assert code == 2
        assert err.count('\n') == 1 and ': error: ' in err, err
        assert not [path for path in Path().rglob('*') if path.is_file()]
        return err
    folder = tmp_path / 'work'
    folder.mkdir()
    monkeypatch.chdir(folder)
    return call


@pytest.fixture(scope='module')
def trained(dem_data, tmp_path_factory):
    """The folder of a short DEM training, which --distribute=False leaves alone."""
    folder = tmp_path_factory.mktemp('trained')
    importlib.import_module('train').main([
        '--dataset=CUB', f'--data_path={dem_data}', f'--save_ckpt={folder}', '--total_iter_num=2',
        '--device_target=CPU', '--distribute=False', '--validation=none', '--run_eval=False'])
    return folder


@pytest.fixture
def cub(dem_data, tmp_path):
    """A copy of the data to spoil."""
    shutil.copytree(dem_data / 'CUB_data', tmp_path / 'data' / 'CUB_data')
    return tmp_path / 'data'


@pytest.mark.parametrize('door', DOORS)
def test_as_a_process(door, tmp_path):
    done = subprocess.run([sys.executable, ROOT / f'{door}.py', '--no_such_flag=1'], cwd=tmp_path, text=True,
                          capture_output=True)
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    assert done.stderr == f'{ROOT / door}.py: error: unrecognized arguments: --no_such_flag=1\n'


def test_distribute_false_is_false(trained):
    assert (trained / 'train.ckpt').is_file() and not (trained / '0').exists()


@pytest.mark.parametrize('door', DOORS)
@pytest.mark.parametrize('flag', ['--batch_size=zero', '--device_target=TPU', '--dataset=SUN', '--device_id=-1'])
def test_values_of_every_door(refused, door, flag):
    assert flag.split('=')[0] in refused(door, flag)


@pytest.mark.parametrize('flag', [
    '--train_mode=words', '--distribute=maybe', '--loss_name=lifted', '--batch_size=0', '--batch_size=1.5', '--lr=fast',
    '--lr=nan', '--lr=-1', '--lr_steps=5,x', '--seed=-1', '--warmup_epochs=-1', '--embedding_size=-5', '--epoch_size=0',
    '--validation=train', '--validation_fraction=1.5', '--recipe=best', '--batch_size=100000',
    '--distribute=True', '--device_target=Ascend', '--device_target=GPU', '--pretrained'])
def test_values_of_training(refused, dem_data, flag, monkeypatch):
    for name in ('RANK_ID', 'MS_ROLE'):
        monkeypatch.delenv(name, raising=False)
    if flag.startswith('--device_target=') and any(Path('/dev').glob({'--device_target=Ascend': 'davinci[0-9]*'}.get(
            flag, 'nvidia[0-9]*'))):
        pytest.skip('this machine has that device')
    flags = ['--dataset=CUB', f'--data_path={dem_data}', '--device_target=CPU', flag]
    assert flag.split('=')[0] in refused('train', *flags)


@pytest.mark.parametrize('flag', ['--batch_size=99999', '--batch_size=7', '--class_num=3',
                                  '--loss_name=npairs --lr=0.1 --margin=1', '--validation=seen_images',
                                  '--loss_name=eml --samples_each_class=1', '--train_mode=att',
                                  '--lr_mode=const --lr_steps=5', '--epoch_size=2 --warmup_epochs=3',
                                  '--dataset_path=/no/products', '--image_size=0'])
def test_values_of_metric_learning(refused, products, flag):
    flags = [f'--dataset_path={products}', *SMALL, '--loss_name=triplet', '--device_target=CPU', *flag.split()]
    assert flag.split('=')[-2].split()[-1] in refused('train', *flags)


@pytest.mark.parametrize('flags, words', [
    ('--loss_name=triplet --set=sampler=groups', 'sampler=groups: --loss_name=triplet needs batches of triplet'),
    ('--loss_name=npairs --set=sampler=shuffle', 'sampler=shuffle: --loss_name=npairs needs batches of pairs'),
    ('--loss_name=eml --set=small_classes=mask', '--loss_name=eml: counts all images of a batch'),
    ('--loss_name=triplet --set=loss_options.reduction=all', 'reduction=all: choose mean or sum'),
    ('--set=backbone_options.width=0', 'width is 0'), ('--seed=4294967296', '--seed=4294967296'),
    ('--loss_name=ctl --batch_size=8', '--loss_name=ctl: needs a head with a neck'),
    ('--loss_name=xbm --set=memory=4', 'memory=4: must hold the 12 rows'),
    ('--loss_name=triplet --set=memory=50', 'memory=50: TripletLoss compares only certain rows'),
    ('--gather=True', '--gather=True: needs a pair loss'),
    ('--set=momentum=1', 'below 1'),
    ('--set=chunk_size=4', 'chunk_size=4: BatchNorm would see chunks'),
    ('--save_ckpt=/proc', '--save_ckpt: cannot make the folder /proc, or write to it')])
def test_what_does_not_go_together_in_metric_learning(refused, products, flags, words):
    assert words in refused('train', f'--dataset_path={products}', *SMALL, '--batch_size=12', '--device_target=CPU',
                            '--image_size=32', *flags.split())


@pytest.mark.parametrize('flags, words', [
    ('--recipe=ranked --set=network_options.sigmas=[0.1]', 'expected widths of at least 1 and 2 sigmas'),
    ('--set=network_options.hidden_dim=0', 'expected widths of at least 1'),
    ('--set=metric=manhattan', 'metric=manhattan: expected one of euclidean, cosine'),
    ('--set=dropout=0.1,0.2', '--set dropout=[0.1, 0.2]: is for a network with one path'),
    ('--recipe=ranked --dataset=AwA --train_mode=word --set=dropout=0.1,0.2', '--set dropout=[0.1, 0.2]: '),
    ('--recipe=ranked --dataset=AwA --train_mode=fusion --set=dropout=0.1,0.2', '--set dropout=[0.1, 0.2]: ')])
def test_what_does_not_go_together_in_zero_shot_learning(refused, dem_data, flags, words):
    assert words in refused('train', '--dataset=CUB', f'--data_path={dem_data}', '--device_target=CPU', *flags.split())


def test_a_device_id_in_the_environment_that_is_no_number(monkeypatch):
    """Before MindSpore is imported, which ends the process at 20 digits and at a negative number."""
    for value in ('first', '-1', '1' * 20, '²', ''):
        monkeypatch.setenv('DEVICE_ID', value)
        with pytest.raises(InputError, match=f'DEVICE_ID={value} in the environment'):
            parse_args('train', ['--dataset=CUB'])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5000])


def other_variable(path):
    scipy.io.savemat(path, {'features': np.zeros((3000, 1024), np.float32)})


def nan(path):
    features = scipy.io.loadmat(path)[TRAIN_FEATURES]
    features[17, 3] = np.nan
    scipy.io.savemat(path, {TRAIN_FEATURES: features})


@pytest.mark.parametrize('door', ['train', 'eval'])
@pytest.mark.parametrize('harm', [os.unlink, truncate, other_variable, nan])
def test_data(refused, cub, trained, door, harm):
    path = cub / 'CUB_data' / f'{TRAIN_FEATURES}.mat'
    harm(path)
    assert str(path) in refused(door, '--dataset=CUB', f'--data_path={cub}', '--device_target=CPU',
                                *[f'--save_ckpt={trained}'] * (door == 'eval'))


@pytest.mark.parametrize('door', ['train', 'eval'])
def test_missing_data_folder(refused, trained, door):
    flags = ['--dataset=CUB', '--device_target=CPU', *[f'--save_ckpt={trained}'] * (door == 'eval')]
    assert '/no/data' in refused(door, *flags, '--data_path=/no/data')
    if door == 'train':  # a checkpoint knows where its data was
        assert '--data_path' in refused(door, *flags)


@pytest.mark.parametrize('door', ['eval', 'export', 'train'])
def test_checkpoints(refused, dem_data, products, trained, tmp_path, door):
    flag = '--save_ckpt' if door != 'train' else '--pretrained'
    flags = [f'--dataset_path={products}', *SMALL] if door == 'train' else ['--dataset=CUB']
    flags += ['--device_target=CPU'] + [f'--data_path={dem_data}'] * (door == 'eval')
    broken = tmp_path / 'broken.ckpt'
    broken.write_bytes((trained / 'train.ckpt').read_bytes()[:-1000])
    assert str(broken) in refused(door, *flags, f'{flag}={broken}')
    assert '/no/such.ckpt' in refused(door, *flags, f'{flag}=/no/such.ckpt')
    if door == 'train':
        assert f'{trained}/train.ckpt' in refused(door, *flags, f'{flag}={trained}/train.ckpt')
    else:
        assert '--dataset' in refused(door, *flags, '--dataset=AwA', f'{flag}={trained}')
        empty = tmp_path / 'empty'
        empty.mkdir()
        # What a killed training leaves is no checkpoint.
        (empty / '.train-1_5.77.part.ckpt').write_bytes(b'half')
        assert str(empty) in refused(door, *flags, f'{flag}={empty}')


def test_air_needs_ascend(refused, trained):
    if any(Path('/dev').glob('davinci[0-9]*')):
        pytest.skip('this machine has Ascend')
    assert 'AIR' in refused('export', '--dataset=CUB', f'--save_ckpt={trained}', '--device_target=CPU',
                            '--file_format=AIR')


def test_a_folder_is_no_name_of_an_exported_model(refused, trained):
    assert f'--file_name={trained}: is a folder' in refused('export', f'--save_ckpt={trained}', '--device_target=CPU',
                                                            f'--file_name={trained}')


@pytest.mark.parametrize('door, flag', [
    ('eval', 'result_file'), ('eval', 'picture'), ('infer', 'output'), ('infer', 'centroids'), ('infer', 'picture')])
def test_what_cannot_be_written_is_refused_before_any_work(refused, trained, door, flag):
    assert f'cannot write {trained}: it is a folder' in refused(door, f'--{flag}={trained}')
    name = trained / 'train.ckpt' / 'result'
    assert f'cannot write {name}: no file' in refused(door, f'--{flag}={name}')


@pytest.mark.parametrize('door, flags, name', [
    ('train', ['--total_iter_num=2', '--save_ckpt=out', '--validation=none'], 'out/train-1_2.ckpt'),
    ('export', ['--file_name=net'], 'net.mindir'),
    ('export', ['--file_name=net', '--file_format=ONNX'], 'net.onnx')])
def test_full_disk(refused, dem_data, trained, door, flags, name):
    flags = ['--dataset=CUB', '--device_target=CPU', *flags]
    flags += [f'--data_path={dem_data}'] * (door != 'export') + [f'--save_ckpt={trained}'] * (door != 'train')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The way a test can have a full disk: no file may grow beyond 64 kB.
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        assert name in refused(door, *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_cannot_be_made(refused, dem_data, tmp_path):
    path = tmp_path / 'file'
    path.write_text('mine')
    assert str(path) in refused('train', '--dataset=CUB', f'--data_path={dem_data}', '--device_target=CPU',
                                f'--save_ckpt={path}')
    assert path.read_text() == 'mine'


def test_figures_that_were_measured_before_an_error_are_written(here, trained, dem_data, tmp_path, monkeypatch):
    from src.page import Page
    from src.systems.open_set import keeping

    def fails(*_):
        with keeping({'accuracy': 0.5}, Page('measured', {}), str(tmp_path / 'page.html')):
            raise InputError('--false_match_rate=0.1: too few\nimages')
    monkeypatch.setattr('src.systems.trained.evaluate', fails)
    flags = ['--dataset=CUB', f'--data_path={dem_data}', f'--save_ckpt={trained}', '--device_target=CPU']
    code, _, errors = here('eval', *flags, f'--result_file={tmp_path}/result.json')
    assert code == 2 and errors.endswith('error: --false_match_rate=0.1: too few images\n')
    assert json.loads((tmp_path / 'result.json').read_text()) == {'accuracy': 0.5} and (tmp_path / 'page.html').is_file()
    (tmp_path / 'mine.json').write_text('{"mine": 1}')
    assert '--result_file' in here('eval', *flags, f'--result_file={tmp_path}/mine.json')[2]
    assert (tmp_path / 'mine.json').read_text() == '{"mine": 1}'

"""--data_url and --train_url, with a stand-in for moxing whose storage is a folder."""
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from src.common.device import Process
from src.common.errors import InputError
from src.recipes.command_line import parse_args
from src.training import modelarts
from src.training.modelarts import copies, with_data

DEM = ['--dataset=CUB', '--train_mode=att', '--device_target=CPU', '--total_iter_num=2', '--run_eval=False']


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """The folder that stands for obs://."""
    folder = tmp_path / 'obs'
    folder.mkdir()

    def here(path):
        return str(folder / path[len('obs://'):]) if path.startswith('obs://') else path
    moxing = ModuleType('moxing')
    moxing.file = SimpleNamespace(
        copy_parallel=lambda source, target: shutil.copytree(here(source), here(target), dirs_exist_ok=True),
        copy=lambda source, target: shutil.copy(here(source), here(target)))
    monkeypatch.setitem(sys.modules, 'moxing', moxing)
    monkeypatch.setattr(modelarts, 'CACHE', tmp_path)
    return folder


def test_train_py_copies_in_and_out(here, storage, dem_data, tmp_path):
    shutil.copytree(dem_data / 'CUB_data', storage / 'bucket' / 'CUB_data')
    code, out, err = here('train', *DEM, '--data_url=obs://bucket', '--train_url=obs://results/one',
                          f'--save_ckpt={tmp_path}/out')
    assert code == 0, err
    assert json.loads((storage / 'results' / 'one' / 'result.json').read_text())['steps'] == 2
    assert (storage / 'results' / 'one' / 'train.ckpt').read_bytes() == (tmp_path / 'out' / 'train.ckpt').read_bytes()
    assert f'--data_url: copying obs://bucket to {tmp_path}/data_0\n' in out


@pytest.mark.parametrize('flag, words', [
    ('--data_url=obs://bucket', '--data_url=obs://bucket: is copied by moxing, which is not installed here'),
    ('--train_url=s3://results', '--train_url=s3://results: is copied by moxing'),
    ('--data_url=/no/such', '--data_url=/no/such: no such folder')])
def test_what_cannot_be_copied_is_one_line_before_the_training(here, tmp_path, flag, words):
    code, _, err = here('train', *DEM, flag, f'--save_ckpt={tmp_path}/out')
    assert code == 2 and len(err.splitlines()) == 1 and words in err and not (tmp_path / 'out').exists()


def test_each_process_copies_its_own_part_however_it_ends(storage, tmp_path):
    folder = tmp_path / 'out'
    for name in ('0/a.ckpt', '1/b.ckpt', 'result.json'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for rank, wanted in ((1, ['1/b.ckpt']), (0, ['0/a.ckpt', '1/b.ckpt', 'result.json'])):
        with pytest.raises(SystemExit), copies(None, 'obs://results', folder, Process('CPU', rank, rank, 2)) as data:
            assert data is None
            raise SystemExit(143)
        results = storage / 'results'
        assert sorted(str(path.relative_to(results)) for path in results.rglob('*.*')) == wanted


def test_folders_of_this_machine_need_no_moxing(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'train.ckpt').write_text('weights')
    with copies(str(tmp_path), f'{tmp_path}/results', tmp_path / 'out', Process('CPU', 0, 0, 1)) as data:
        assert data == str(tmp_path)
    assert Path(tmp_path / 'results' / 'train.ckpt').read_text() == 'weights'


@pytest.mark.parametrize('flags, entry', [
    (['--dataset=CUB'], 'data_path'), (['--dataset=Market1501'], 'data_path'), (['--loss_name=softmax'], 'dataset_path'),
    (['--train_list=a.txt'], None)])
def test_the_data_is_that_of_the_system(flags, entry):
    recipe = parse_args('train', flags).make_recipe()
    if entry:
        assert with_data(recipe, '/cache/data')[entry] == '/cache/data' and with_data(recipe, None) is recipe
    else:
        with pytest.raises(InputError, match='not for --train_list=a.txt'):
            with_data(recipe, '/cache/data')


def test_a_copy_that_fails_is_one_line(storage):
    with pytest.raises(InputError, match='--data_url=obs://none: cannot be copied: .*No such file'):
        with copies('obs://none', None, 'out', Process('CPU', 0, 0, 1)):
            pass

"""Trainings that are killed or stopped, as processes: resumed, they end with the same weights bit for bit."""
import os
import random
import re
import shutil
import signal

import pytest

from benchmarks.kill_and_resume import Training, dem_flags, differences, resnet_flags, train_killed, train_whole

pytestmark = pytest.mark.slow

STEPS = 84


@pytest.fixture(scope='module', autouse=True)
def all_instructions():
    """Processes compute as a user's, not with the instructions of the tests' own (tests/conftest.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
        yield


@pytest.fixture(scope='module')
def dem(dem_data, tmp_path_factory):
    """(flags, folder of a training never stopped, its seconds)."""
    flags, folder = dem_flags(dem_data, STEPS), tmp_path_factory.mktemp('whole') / 'out'
    return flags, folder, train_whole(flags, folder)


def states(folder):
    """Names of the training states, oldest first."""
    names = [name for name in os.listdir(folder) if re.fullmatch(r'train-\d+_\d+\.ckpt', name)]
    return sorted(names, key=lambda name: [int(number) for number in re.findall(r'\d+', name)])


def test_dem_killed_at_random_moments(dem, tmp_path):
    flags, whole, seconds = dem
    hits = train_killed(flags, tmp_path / 'out', 4, random.Random(), seconds)
    assert hits >= 2
    assert differences(whole, tmp_path / 'out') == []
    assert sorted(os.listdir(whole)) == sorted(os.listdir(tmp_path / 'out'))


def test_the_comparison_can_fail(dem, tmp_path):
    _, whole, _ = dem
    other = tmp_path / 'other'
    shutil.copytree(whole, other)
    older, last = states(other)
    shutil.copy(other / older, other / last)
    (other / 'best.ckpt').unlink()
    found = set(differences(whole, other))
    assert {'best.ckpt', f'{last}: fc1.weight', f'{last}: moment1.fc1.weight', f'{last}: facts'} <= found


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_dem_stopped_by_a_signal(dem, tmp_path, number):
    flags, whole, _ = dem
    folder = tmp_path / 'out'
    training = Training(flags, folder)
    training.read_until('step: 5,')
    training.process.send_signal(number)
    # While it computes MindSpore may make SIGINT a SIGTERM.
    assert training.end((128 + number, 143)) == ''
    found = re.fullmatch(r'stopped by a signal after step (\d+) of 84, saved (.*); --resume continues from there',
                         training.lines[-1])
    step = int(found[1])
    assert 5 <= step < STEPS
    assert found[2] == str(folder / states(folder)[-1])
    assert sum('loss is' in line for line in training.lines) == step
    resumed = Training(flags, folder, '--resume')
    assert resumed.end() == ''
    assert f'resumed after step {step} of 84' in '\n'.join(resumed.lines)
    assert sum('loss is' in line for line in resumed.lines) == STEPS - step
    assert differences(whole, folder) == []


def test_from_a_named_state_in_an_empty_folder_and_after_the_end(dem, tmp_path, here):
    flags, whole, _ = dem
    folder = tmp_path / 'out'
    shorter = [f'--total_iter_num={STEPS - 28}' if 'total_iter_num' in flag else flag for flag in flags]
    training = Training(shorter, folder, '--resume')
    assert training.end() == '' and 'no training state' in '\n'.join(training.lines)
    # With more steps it becomes the training that was to have them from the beginning.
    training = Training(flags, folder, '--resume')
    assert training.end() == ''
    assert f'total_iter_num {STEPS - 28}, now it is {STEPS}; the {STEPS - 28} steps that are done had the same' in '\n'.join(
        training.lines)
    assert differences(whole, folder) == []
    older, last = states(folder)
    # What a kill in the middle of writing leaves.
    (folder / '.train-3_28.999999999.part.ckpt').write_bytes(b'half')
    again = Training(flags, folder, f'--checkpoint={folder / older}')
    assert again.end() == ''
    assert f'from {folder / older}' in '\n'.join(again.lines)
    assert differences(whole, folder) == [] and not list(folder.glob('.*'))
    # In this process, since no step is left to take.
    code, out, _ = here('train', *flags, f'--checkpoint={folder}')
    assert code == 0 and f'from {folder / last}' in out
    assert differences(whole, folder) == []


def test_refusals(dem, here, tmp_path):
    """The first as a process."""
    flags, whole, _ = dem
    folder = tmp_path / 'out'
    shutil.copytree(whole, folder)
    older, last = states(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refused(*more):
        kept = [flag for flag in flags if flag.split('=')[0] not in {m.split('=')[0] for m in more}]
        if more == ('--resume', '--lr=0.5'):
            errors = Training(kept, folder, *more).end(2)
        else:
            code, _, errors = here('train', *kept, f'--save_ckpt={folder}', *more)
            assert code == 2
        assert errors.count('\n') == 1 and 'error: ' in errors
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        return errors

    assert 'lr_max 1e-05, now it is 0.5: the 84 steps that are done would have had other learning rates' in refused(
        '--resume', '--lr=0.5')
    assert 'batch_size 100, now it is 50' in refused('--resume', '--batch_size=50')
    assert 'total_iter_num 84, now it is 60: the 84 steps' in refused('--resume', '--total_iter_num=60')
    assert '--checkpoint=train.ckpt: no training state' in refused(f'--checkpoint={folder}/train.ckpt')
    assert '--checkpoint=/nowhere' in refused('--checkpoint=/nowhere')
    assert '--save_ckpt' in refused(f'--checkpoint={whole}')
    (folder / last).write_bytes(before[last][:-1000])
    before[last] = before[last][:-1000]
    errors = refused('--resume')
    assert f'{last}: broken' in errors and f'remove it to resume from {older}' in errors
    (folder / last).unlink()
    Training(flags, folder, '--resume').end()
    assert differences(whole, folder) == []


@pytest.mark.by_hand
@pytest.mark.parametrize('loss', ['triplet', 'softmax'])
def test_resnet50_killed_and_stopped(products, tmp_path, loss):
    flags = resnet_flags(products, loss, 40)
    whole, folder = tmp_path / 'whole', tmp_path / 'out'
    start, first, end = train_whole(flags, whole)
    rng = random.Random()
    training = Training(flags, folder)
    training.read_until('step: 1,')
    assert training.end_by(signal.SIGKILL, rng.uniform(0, (end - first) / 2))
    training.process.communicate()
    if loss == 'softmax':
        training = Training(flags, folder, '--resume')
        training.read_until('Starting Training')
        training.process.send_signal(signal.SIGTERM)
        assert training.end(143) == ''
    resumed = Training(flags, folder, '--resume')
    assert resumed.end() == ''
    assert differences(whole, folder) == []
    # Each is 0.9 GB.
    shutil.rmtree(whole)
    shutil.rmtree(folder)

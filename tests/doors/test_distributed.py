"""Two real processes on the CPU through the launcher, in a copy of the project."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kill_and_resume import Training, differences, parameters
from tests.processes import free_port, on_all_processors

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


class Launch:
    """run_distributed_train_ascend.sh (DEM) or run_distribute_train.sh as a process in a copy of the project."""

    def __init__(self, project, script, *args):
        env = {name: value for name, value in os.environ.items() if name not in ('DEVICE_ID', 'RANK_TABLE_FILE')}
        env.update(DEVICE_TARGET='CPU', DEVICE_NUM='2', PYTHON=sys.executable, MASTER_PORT=free_port())
        self.project = project
        self.output = project / 'train_parallel'
        with on_all_processors():
            self.process = subprocess.Popen(['sh', f'scripts/{script}', '-', *map(str, args)], cwd=project, env=env,
                                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def end(self, seconds=120):
        """(exit code, standard output, standard error)."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        finally:
            self.process.terminate()
        assert not self.processes()
        return self.process.returncode, out, err

    def processes(self):
        """Of this project, that still run."""
        found = []
        for entry in Path('/proc').iterdir():
            try:
                if entry.name.isdigit() and str(self.project).encode() in (entry / 'cmdline').read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def log(self, rank):
        path = self.output / str(rank) / 'train.log'
        return path.read_text() if path.exists() else ''

    def wait_for(self, word):
        while word not in self.log(0):
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)

    def kill_rank(self, rank):
        for pid in self.processes():
            environment = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
            command = Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
            if f'RANK_ID={rank}'.encode() in environment and command[0] == sys.executable.encode():
                os.kill(pid, signal.SIGKILL)
                return
        raise AssertionError(f'rank {rank} is not there')


def copy_project(folder):
    project = folder / 'project'
    project.mkdir()
    for name in ('src', 'scripts'):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'train.py', project)
    return project


def launch_dem(project, data, *more):
    return Launch(project, 'run_distributed_train_ascend.sh', 'CUB', 'att', data, '--total_iter_num=20', '--lr=1e-5',
                  '--save_iter_step=4', '--test_iter_step=8', '--interval_step=1', '--batch_size=50',
                  '--validation=seen_images', *more)


def assert_ranks_equal(output):
    """All parameters of all checkpoints."""
    names = sorted(path.name for path in (output / '0').glob('*.ckpt'))
    assert names == sorted(path.name for path in (output / '1').glob('*.ckpt')) and names
    for name in names:
        (mine, _), (theirs, _) = parameters(output / '0' / name), parameters(output / '1' / name)
        assert mine.keys() == theirs.keys()
        differing = [key for key in mine if mine[key].tobytes() != theirs[key].tobytes()]
        assert not differing, differing


@pytest.fixture(scope='module')
def dem_pair(dem_data, tmp_path_factory):
    """The train_parallel folder of two processes never stopped, and the launcher's output."""
    launch = launch_dem(copy_project(tmp_path_factory.mktemp('pair')), dem_data)
    code, out, err = launch.end()
    assert code == 0, err
    return launch.output, out


def test_layout(dem_pair):
    output, out = dem_pair
    for rank in '01':
        assert {path.name for path in (output / rank).iterdir()} == {
            'auto_parallel-1_16.ckpt', 'auto_parallel-1_20.ckpt', 'best.ckpt', 'train.ckpt', 'train.log'}
    assert sorted(str(path.relative_to(output)) for path in output.rglob('*.json')) == ['result.json']
    assert not list(output.glob('*.ckpt')) and not list(output.rglob('.*'))
    result = json.loads((output / 'result.json').read_text())
    assert (result['device_num'], result['steps']) == (2, 20)
    assert 'loss is' in out
    # The scheduler ran the same door, but neither loaded nor wrote.
    assert 'Starting' not in (output / 'scheduler.log').read_text()


def test_two_processes_are_one_with_twice_the_batch(dem_pair, dem_data, tmp_path):
    output, _ = dem_pair
    assert_ranks_equal(output)
    # The published learning rate is five times as high on several devices.
    Training(['--dataset=CUB', f'--data_path={dem_data}', '--device_target=CPU', '--total_iter_num=20', '--lr=5e-5',
              '--batch_size=100', '--validation=seen_images'], tmp_path / 'one').end()
    one, _ = parameters(tmp_path / 'one' / 'train.ckpt')
    two, _ = parameters(output / '0' / 'train.ckpt')
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5, err_msg=name)


def test_a_killed_rank_ends_all_and_resume_ends_with_the_same_weights(dem_pair, dem_data, tmp_path):
    project = copy_project(tmp_path)
    launch = launch_dem(project, dem_data)
    launch.wait_for('step: 9,')
    launch.kill_rank(1)
    killed = time.monotonic()
    code, _, err = launch.end(30)
    assert code == 137 and 'rank 1 ended with exit code 137' in err and time.monotonic() - killed < 30
    # A rank may be a state ahead of the other.
    ahead = launch.output / '0' / 'auto_parallel-1_16.ckpt'
    if not ahead.exists():
        shutil.copy(dem_pair[0] / '0' / ahead.name, ahead)
    # As --resume, in the folder that is named.
    launch = launch_dem(project, dem_data, '--checkpoint=./train_parallel')
    code, out, err = launch.end()
    assert code == 0, err
    assert 'resumed after step' in out
    for rank in '01':
        assert differences(launch.output / rank, dem_pair[0] / rank) == []


def test_sigterm_stops_all_after_the_same_step(dem_data, tmp_path):
    project = copy_project(tmp_path)
    launch = launch_dem(project, dem_data)
    # The launcher looks once a second, in which a fast machine does 15 of the 20 steps.
    launch.wait_for('step: 1,')
    launch.process.terminate()
    code, _, _ = launch.end(60)
    assert code == 143
    lines = [[line for line in launch.log(rank).splitlines() if 'stopped by a signal' in line] for rank in (0, 1)]
    assert [len(found) for found in lines] == [1, 1]
    steps = [found[0].partition(', saved')[0] for found in lines]
    assert steps[0] == steps[1]
    step = int(steps[0].split()[-3])
    assert (launch.output / '0' / f'auto_parallel-1_{step}.ckpt').is_file()
    assert_ranks_equal(launch.output)


def test_a_resnet_with_frozen_batch_norm_is_one_process_with_twice_the_batch(products, tmp_path):
    """With BatchNorm that trains, whose statistics are of one device: tests/systems/test_reid_system.py."""
    project = copy_project(tmp_path)
    flags = ['--recipe=small', '--image_size=32', '--total_iter_num=3', '--num_workers=1', '--save_checkpoint_epochs=1',
             '--lr=0.01', '--model=resnet18', '--set=backbone_options.width=8', '--set=backbone_options.frozen_batch_norm=True']
    launch = Launch(project, 'run_distribute_train.sh', products, '-', 'softmax', '--batch_size=6', *flags)
    code, _, err = launch.end()
    assert code == 0, err
    assert_ranks_equal(launch.output)
    subprocess.run([sys.executable, project / 'train.py', f'--dataset_path={products}', '--loss_name=softmax',
                    '--device_target=CPU', f'--save_ckpt={tmp_path / "one"}', '--run_eval=True', '--batch_size=12', *flags],
                   check=True, stdout=subprocess.DEVNULL)
    assert 0 <= json.loads((tmp_path / 'one' / 'result.json').read_text())['recall']['1'] <= 1
    one, _ = parameters(tmp_path / 'one' / 'train.ckpt')
    two, _ = parameters(launch.output / '0' / 'train.ckpt')
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5, err_msg=name)

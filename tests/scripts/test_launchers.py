"""The launchers run as a user runs them, with a stand-in for Python that notes how it was called."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELLS = [pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell), reason=f'no {shell} here'))
          for shell in ('dash', 'bash')]
STAND_IN = '''#!{python}
import json, os, signal, subprocess, sys, time
child = subprocess.Popen(['sleep', '100']) if os.environ.get('CHILD') else None
pids = [os.getpid()] + ([child.pid] if child else [])
note = dict(args=sys.argv[1:], cwd=os.getcwd(), pids=pids, env=dict(os.environ))
def stop(*_):
    print('stopped in good order')
    sys.exit(int(os.environ.get('STOP_CODE', 0)))
signal.signal(signal.SIGTERM, stop)
path = os.path.join(os.environ['NOTES'], str(os.getpid()))
with open(path, 'w') as file:
    json.dump(note, file)
os.rename(path, path + '.json')
if os.environ.get('MS_ROLE') == 'MS_SCHED':
    sys.exit(0)
rank = os.environ.get('RANK_ID')
print('hello from', rank)
if rank and os.environ.get('FAIL') == rank:
    time.sleep(0.5)
    print('rank', rank, 'broke', file=sys.stderr)
    sys.exit(7)
time.sleep(float(os.environ.get('SLEEP', 0)))
print('goodbye from', rank)
sys.exit(int(os.environ.get('CODE', 0)))
'''


class Project:
    """A copy of the launchers in a folder with a space in its name, with the stand-in first in PATH."""

    def __init__(self, folder):
        self.root = folder / 'the project'
        self.notes_folder = folder / 'notes'
        self.data = folder / 'my data'
        for path in (self.root, self.notes_folder, self.data, folder / 'bin'):
            path.mkdir()
        for name in ('scripts', 'test'):
            shutil.copytree(ROOT / name, self.root / name)
        self.python = folder / 'bin' / 'python'
        self.python.write_text(STAND_IN.format(python=sys.executable))
        self.python.chmod(0o755)
        self.checkpoint = folder / 'start.ckpt'
        self.checkpoint.write_text('')
        keep = {name: value for name, value in os.environ.items()
                if name not in ('DEVICE_ID', 'DEVICE_NUM', 'DEVICE_TARGET', 'RANK_TABLE_FILE', 'PYTHON', 'WORKER_NUM')}
        # msrun is real; it lives beside the Python of the tests.
        self.env = dict(keep, NOTES=str(self.notes_folder),
                        PATH=os.pathsep.join([str(self.python.parent), str(Path(sys.executable).parent), keep['PATH']]))

    def start(self, shell, script, *args, cwd=None, **env):
        return subprocess.Popen([shell, script, *map(str, args)], cwd=cwd or self.root / 'scripts', text=True,
                                env=dict(self.env, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *args, **options):
        process = self.start(*args, **options)
        out, err = process.communicate(timeout=50)
        return process.returncode, out, err

    def notes(self):
        return [json.loads(path.read_text()) for path in self.notes_folder.glob('*.json')]

    def wait_for_notes(self, count):
        end = time.monotonic() + 40
        while len(self.notes()) < count:
            assert time.monotonic() < end, f'only {len(self.notes())} of {count} processes began'
            time.sleep(0.05)

    def rank_table(self, devices=8, servers=1):
        numbers = [{'device_id': str(devices - 1 - rank), 'device_ip': '192.168.0.1', 'rank_id': str(rank)}
                   for rank in range(devices)]
        path = self.root.parent / 'rank table.json'
        path.write_text(json.dumps({'version': '1.0', 'status': 'completed', 'server_list': [
            {'server_id': f'10.0.0.{i}', 'device': numbers[i::servers]} for i in range(servers)]}))
        return path


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def running(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def survivors(project):
    """Processes of the launch that are still there: the trainings, what they started, and the shells around them."""
    left = [pid for note in project.notes() for pid in note['pids'] if running(pid)]
    for entry in Path('/proc').iterdir():
        try:
            if entry.name.isdigit() and str(project.root).encode() in (entry / 'cmdline').read_bytes():
                left += [int(entry.name)] * running(entry.name)
        except OSError:
            pass
    return left


@pytest.mark.parametrize('shell', SHELLS)
def test_dem_on_one_device_from_the_scripts_folder(project, shell):
    code, out, _ = project.run(shell, 'run_standalone_train_ascend.sh', 'CUB', 'att', project.data, '../output',
                               '--epoch_size=2', CODE='5', DEVICE_ID='3', DEVICE_TARGET='CPU')
    [note] = project.notes()
    assert code == 5 and 'goodbye' in out
    assert note['args'] == [f'{project.root}/train.py', '--dataset=CUB', '--train_mode=att',
                            f'--data_path={project.data}', '--save_ckpt=../output', '--device_id=3',
                            '--device_target=CPU', '--epoch_size=2']
    assert note['cwd'] == str(project.root / 'scripts')


@pytest.mark.parametrize('shell', SHELLS)
def test_dem_evaluation_from_elsewhere_with_relative_paths(project, shell):
    code, out, _ = project.run(shell, 'the project/scripts/run_standalone_eval_ascend.sh', 'AwA', 'fusion', 'my data',
                               'start.ckpt', cwd=project.root.parent)
    [note] = project.notes()
    assert code == 0 and 'goodbye' in out
    assert note['args'][1:] == ['--dataset=AwA', '--train_mode=fusion', '--data_path=my data', '--save_ckpt=start.ckpt']
    assert Path(note['cwd'], note['args'][0]).parent == project.root


@pytest.mark.parametrize('shell', SHELLS)
def test_metric_learn_on_one_device_keeps_log_streams_and_exit_code(project, shell):
    code, out, err = project.run(shell, 'run_standalone_train.sh', project.data, project.checkpoint, '2', 'triplet',
                                 RANK_ID='none', FAIL='none')
    [note] = project.notes()
    folder = project.root / 'train_triplet'
    assert (code, out, err) == (7, 'hello from none\n', 'rank none broke\n')
    assert sorted((folder / 'train.log').read_text().splitlines()) == ['hello from none', 'rank none broke']
    assert note['args'] == [f'{project.root}/train.py', f'--dataset_path={project.data}',
                            f'--ckpt_path={project.checkpoint}', '--loss_name=triplet', f'--save_ckpt={folder}',
                            '--device_id=2']


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('none', ['-', 'none'])
def test_metric_learn_from_scratch(project, shell, none):
    assert project.run(shell, 'run_standalone_train.sh', project.data, none, '0', 'softmax')[0] == 0
    assert not [arg for arg in project.notes()[0]['args'] if arg.startswith('--ckpt_path')]


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('given, environment, device', [(['4'], {'DEVICE_ID': '1'}, ['--device_id=4']),
                                                        ([], {'DEVICE_ID': '1'}, ['--device_id=1']), ([], {}, [])])
def test_metric_learn_evaluation(project, shell, given, environment, device):
    code, out, _ = project.run(shell, 'run_eval.sh', project.data, project.checkpoint, *given, '--x=1', **environment)
    assert code == 0 and (project.root / 'eval' / 'eval.log').read_text() == out
    assert project.notes()[0]['args'] == [f'{project.root}/eval.py', f'--dataset_path={project.data}',
                                          f'--ckpt_path={project.checkpoint}', *device, '--x=1']


def test_a_list_of_images_under_a_cdpath(project):
    listed = project.root / 'my list.txt'
    listed.write_text('a.jpg 1\n')
    code, _, err = project.run('sh', 'run_eval.sh', listed, project.checkpoint, CDPATH=f'{project.root}:.', HOME='')
    assert code == 0 and not err and f'--dataset_path={listed}' in project.notes()[0]['args']


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_one_device_in_good_order(project, shell, number):
    process = project.start(shell, 'run_standalone_train.sh', project.data, '-', '0', 'softmax', SLEEP='60',
                            STOP_CODE='9')
    project.wait_for_notes(1)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 9 and 'stopped in good order' in out and not survivors(project)


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('start', ['table', '-'])
def test_eight_devices(project, shell, start):
    old = project.root / 'train_parallel' / '7'
    old.mkdir(parents=True)
    (old / 'auto_parallel-120_11.ckpt').write_text('precious')
    (old / 'train.log').write_text('yesterday')
    table = project.rank_table() if start == 'table' else '-'
    code, out, err = project.run(shell, 'the project/scripts/run_distributed_train_ascend.sh', table, 'CUB', 'att',
                                 'my data', '--checkpoint=./start.ckpt', cwd=project.root.parent, MASTER_PORT='8751')
    assert code == 0, err
    assert 'hello from 0\ngoodbye from 0\n' in out
    notes = project.notes()
    ranks = {note['env']['RANK_ID']: note for note in notes if note['env'].get('MS_ROLE') != 'MS_SCHED'}
    assert len(notes) == (8 if start == 'table' else 9) and sorted(ranks) == [str(rank) for rank in range(8)]
    output = project.root / 'train_parallel'
    for rank, note in ranks.items():
        device = str(7 - int(rank)) if start == 'table' else rank
        assert note['args'] == [
            f'{project.root}/train.py', '--epoch_size=120', '--dataset=CUB', '--train_mode=att',
            f'--data_path={project.data}', f'--save_ckpt={output}', '--distribute=True', '--device_num=8',
            f'--checkpoint={project.root.parent}/./start.ckpt', f'--device_id={device}']
        env = note['env']
        assert (env['RANK_SIZE'], env['DEVICE_ID']) == ('8', device)
        if start == 'table':
            assert env['RANK_TABLE_FILE'] == str(table) and 'MS_ROLE' not in env
        else:
            assert (env['MS_ROLE'], env['MS_WORKER_NUM'], env['MS_SCHED_PORT']) == ('MS_WORKER', '8', '8751')
            assert 'RANK_TABLE_FILE' not in env
        assert env['PATH'] == project.env['PATH'] and note['cwd'] == str(output / rank)
        assert (output / rank / 'train.log').read_text() == f'hello from {rank}\ngoodbye from {rank}\n'
    assert (old / 'auto_parallel-120_11.ckpt').read_text() == 'precious'
    assert not list(output.glob('.launch*')) and not survivors(project)


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('start', ['table', '-'])
def test_one_rank_failing_stops_all(project, shell, start):
    code, _, err = project.run(shell, 'run_distribute_train.sh', project.rank_table(3) if start == 'table' else '-',
                               project.data, project.checkpoint, 'quadruplet', DEVICE_NUM='3', FAIL='1', SLEEP='100',
                               CHILD='yes', MASTER_PORT='8752')
    assert not survivors(project)
    assert code == 7 and 'rank 1 ended with exit code 7' in err and err.endswith('hello from 1\nrank 1 broke\n')
    assert {'--loss_name=quadruplet', f'--ckpt_path={project.checkpoint}', '--run_distribute=True',
            '--device_num=3'} <= set(project.notes()[0]['args'])


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('victim', ['training', 'its shell as well'])
def test_a_killed_rank_stops_all(project, shell, victim):
    process = project.start(shell, 'run_distributed_train_ascend.sh', project.rank_table(2), 'AwA', 'att', project.data,
                            DEVICE_NUM='2', SLEEP='100', CHILD='yes')
    project.wait_for_notes(2)
    [pid] = [note['pids'][0] for note in project.notes() if note['env']['RANK_ID'] == '1']
    if victim != 'training':
        os.kill(int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1]), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 137 and 'rank 1 ended with exit code 137' in err and not survivors(project)


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_rank(project, shell, number):
    process = project.start(shell, 'run_distributed_train_ascend.sh', project.rank_table(2), 'AwA', 'att', project.data,
                            DEVICE_NUM='2', SLEEP='100')
    project.wait_for_notes(2)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 0 and not survivors(project)
    for rank in '01':
        assert 'stopped in good order' in (project.root / 'train_parallel' / rank / 'train.log').read_text()


def test_several_machines_through_msrun(project):
    code, _, err = project.run('sh', 'run_distributed_train_ascend.sh', '-', 'CUB', 'att', project.data, DEVICE_NUM='2',
                               WORKER_NUM='4', NODE_RANK='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='8753',
                               MSRUN_ARGS='--cluster_time_out=77 --bind_core=True')
    assert code == 0, err
    ranks = {note['env']['RANK_ID']: note for note in project.notes() if note['env']['MS_ROLE'] == 'MS_WORKER'}
    assert sorted(ranks) == ['2', '3']
    for note in ranks.values():
        assert '--device_num=4' in note['args'] and note['env']['MS_TOPO_TIMEOUT'] == '77'


def test_what_train_py_refuses_ends_with_its_line_and_leaves_no_folder(project):
    project.python.write_text('#!/bin/sh\necho "train.py: error: --loss_name=tripplet: choose one of triplet" >&2\n'
                              'echo "[ERROR] destroyed collective group" >&2\nexit 2\n')
    code, _, err = project.run('sh', 'run_standalone_train.sh', project.data, '-', '0', 'tripplet')
    assert code == 2 and '--loss_name=tripplet' in err and not (project.root / 'train_tripplet').exists()
    code, _, err = project.run('sh', 'run_distribute_train.sh', project.rank_table(2), project.data, '-', 'tripplet',
                               DEVICE_NUM='2', LOG_DIR='logs')
    [line] = err.splitlines()
    assert code == 2 and line.startswith('run_distribute_train.sh: rank ') and '--loss_name=tripplet: choose one of' in line
    assert 'destroyed' in (project.root / 'scripts' / 'logs' / '1' / 'train.log').read_text()


def test_msrun_that_refuses_its_options_is_shown(project):
    code, _, err = project.run('sh', 'run_distributed_train_ascend.sh', '-', 'CUB', 'att', project.data,
                               MSRUN_ARGS='--no_such_option=1')
    assert code != 0 and 'msrun ended with exit code' in err and not survivors(project)


@pytest.mark.parametrize('shell', SHELLS)
def test_ctl_by_the_published_names(project, shell):
    data = f'--data_path={project.data}'
    code, out, err = project.run(shell, './test/train_performance_1p.sh', data, cwd=project.root)
    [note] = project.notes()
    folder = project.root / 'train_performance_1p'
    assert code == 0 and (folder / 'train.log').read_text() == out and 'starting from random weights' in err
    assert note['args'] == [f'{project.root}/train.py', '--dataset=DukeMTMC-reID', f'--save_ckpt={folder}',
                            '--epoch_size=2', data]
    weights = project.root / 'models' / 'resnet50-19c8e357.pth'
    weights.parent.mkdir()
    weights.write_text('')
    for name, folder, epochs in (('full', 'train_parallel', []),
                                 ('performance', 'train_performance_8p', ['--epoch_size=2'])):
        shutil.rmtree(project.notes_folder)
        project.notes_folder.mkdir()
        code, _, err = project.run(shell, f'./test/train_{name}_8p.sh', '--data_path=../my data', cwd=project.root,
                                   RANK_TABLE_FILE=str(project.rank_table()))
        assert code == 0, err
        assert len(project.notes()) == 8
        assert project.notes()[0]['args'][1:-1] == [
            '--dataset=DukeMTMC-reID', f'--save_ckpt={project.root}/{folder}', *epochs, '--distribute=True',
            '--device_num=8', f'--ckpt_path={weights}', f'--data_path={project.root}/../my data']
        assert 'random weights' not in err
    for flags in (['--pretrained=other.pth'], ['--ckpt_path', 'other.pth'], ['--resume']):
        shutil.rmtree(project.notes_folder)
        project.notes_folder.mkdir()
        _, _, err = project.run(shell, './test/train_performance_1p.sh', data, *flags, cwd=project.root)
        [note] = project.notes()
        assert note['args'][-len(flags):] == flags and not any('resnet50-19c8e357' in arg for arg in note['args'])
        assert 'random weights' not in err


@pytest.mark.parametrize('script, args, environment, word', [
    ('run_standalone_train_ascend.sh', ['CUB', 'att', 'DATA'], {}, '4 arguments needed, 3 given'),
    ('run_standalone_train_ascend.sh', ['SUN', 'att', 'DATA', 'out'], {}, "'SUN'"),
    ('run_standalone_train_ascend.sh', ['CUB', 'word2vec', 'DATA', 'out'], {}, "'word2vec'"),
    ('run_standalone_train_ascend.sh', ['CUB', 'att', '/no/such', 'out'], {}, '/no/such'),
    ('run_standalone_train_ascend.sh', ['CUB', 'att', 'DATA', 'CKPT'], {}, 'SAVE_CKPT'),
    ('run_standalone_train_ascend.sh', ['CUB', 'att', 'DATA', 'out'], {'PYTHON': 'no-python'}, 'no-python'),
    ('run_standalone_eval_ascend.sh', ['CUB', 'att', 'DATA', '/no.ckpt'], {}, '/no.ckpt'),
    ('run_standalone_train.sh', ['DATA', '/no.ckpt', '0', 'softmax'], {}, '/no.ckpt'),
    ('run_standalone_train.sh', ['DATA', '-', 'softmax', '0'], {}, 'DEVICE_ID'),
    ('run_eval.sh', ['DATA', 'CKPT', 'x'], {}, 'DEVICE_ID'),
    ('run_distribute_train.sh', ['-', 'DATA', 'triplet'], {}, '4 arguments needed, 3 given'),
    ('run_distribute_train.sh', ['BROKEN', 'DATA', '-', 'triplet'], {}, 'JSON'),
    ('run_distribute_train.sh', ['/no/table.json', 'DATA', '-', 'triplet'], {}, '/no/table.json'),
    ('run_distribute_train.sh', ['LIST', 'DATA', '-', 'triplet'], {}, 'server_list'),
    ('run_distributed_train_ascend.sh', ['TABLE', 'CUB', 'att', 'DATA'], {'DEVICE_NUM': '4'}, 'lists 8 devices'),
    ('run_distributed_train_ascend.sh', ['SERVERS', 'CUB', 'att', 'DATA'], {}, 'lists 2 servers'),
    ('run_distributed_train_ascend.sh', ['-', 'CUB', 'att', 'DATA'], {'DEVICE_NUM': 'many'}, "'many'"),
    ('run_distributed_train_ascend.sh', ['-', 'CUB', 'att', 'DATA'], {'WORKER_NUM': '16'}, 'NODE_RANK'),
    ('run_distributed_train_ascend.sh', ['-', 'CUB', 'att', 'DATA'], {'MSRUN_ARGS': '--join=True'}, 'MSRUN_ARGS'),
    ('run_infer_310.sh', ['/no.mindir', 'DATA'], {}, '/no.mindir'),
    ('run_infer_310.sh', ['CKPT', 'DATA', 'x'], {}, 'DEVICE_ID'),
    ('train_performance_1p.sh', [], {}, '--data_path'),
    ('train_full_8p.sh', ['--data_path=/no/such'], {}, '/no/such'),
])
def test_refusals(project, script, args, environment, word):
    if 'SERVERS' in args:
        table = project.rank_table(servers=2)
    else:
        table = project.rank_table()
    broken, other = project.root / 'broken.json', project.root / 'list.json'
    broken.write_text('{"server_list": [')
    other.write_text('[1, 2]')
    files = {'DATA': project.data, 'CKPT': project.checkpoint, 'TABLE': table, 'SERVERS': table, 'BROKEN': broken,
             'LIST': other}
    code, out, err = project.run('sh', script, *[files.get(arg, arg) for arg in args], **environment)
    assert code == 2 and not out and not project.notes()
    [line] = err.splitlines()
    assert line.startswith(f'{script}: ') and word in line and line.endswith(f'({script} --help shows the usage)')
    assert not (project.root / 'train_parallel').exists()


@pytest.mark.parametrize('given, device', [((), '0'), (('3',), '3'), (('--save_ckpt=a.ckpt',), '0')])
def test_inference_on_a_310(project, given, device):
    folder = project.root / 'infer_310'
    code, out, _ = project.run('sh', 'run_infer_310.sh', project.checkpoint, project.data, *given)
    [note] = project.notes()
    flags = [word for word in given if word.startswith('--')]
    assert code == 0 and (folder / 'infer.log').read_text() == out and note['env']['PYTHONPATH'].startswith(str(project.root))
    assert note['args'][:3] == ['-m', 'src.ascend310', 'infer']
    assert note['args'][3:] == [*map(str, (folder, project.checkpoint, project.data)), device, *flags]


@pytest.mark.parametrize('script', ['run_eval.sh', 'run_distribute_train.sh', 'train_full_8p.sh'])
def test_help_is_the_usage(project, script):
    code, out, err = project.run('sh', script, '--help')
    assert code == 0 and not err and out.startswith('usage: bash ') and ('LOG_DIR' in out) == (script != 'run_eval.sh')


@pytest.mark.parametrize('script, args, called', [
    ('run_standalone_train_gpu.sh', 'AWA att data out', 'run_standalone_train_ascend.sh GPU: AWA att data out'),
    ('run_standalone_train_gpu.sh', 'data 2 softmax', 'run_standalone_train.sh GPU: data - 2 softmax'),
    ('run_standalone_train_gpu.sh', 'data 2 softmax a.ckpt', 'run_standalone_train.sh GPU: data a.ckpt 2 softmax'),
    ('run_standalone_eval_gpu.sh', 'CUB att data a.ckpt', 'run_standalone_eval_ascend.sh GPU: CUB att data a.ckpt'),
    ('run_eval_gpu.sh', 'data a.ckpt 1 triplet', 'run_eval.sh GPU: data a.ckpt 1'),
    ('run_distribute_train_gpu.sh', 'data triplet', 'run_distribute_train.sh GPU: - data - triplet'),
    ('run_distributed_train_gpu.sh', 'CUB att data out 2', 'run_distributed_train_ascend.sh GPU 2 out: - CUB att data')])
def test_gpus_by_the_published_names(project, script, args, called):
    for path in (project.root / 'scripts').glob('run_*[!u].sh'):
        path.write_text('echo "${0##*/} $DEVICE_TARGET${DEVICE_NUM:+ $DEVICE_NUM $LOG_DIR}: $*"\n')
    assert project.run('sh', script, *args.split()) == (0, f'{called}\n', '')


def test_awa_is_spelled_as_train_py_spells_it(project):
    assert project.run('sh', 'run_standalone_train_ascend.sh', 'AWA', 'att', project.data, 'out')[0] == 0
    assert '--dataset=AwA' in project.notes()[0]['args']


class TestDownload:
    def curl(self, project, body):
        path = project.python.parent / 'curl'
        path.write_text('#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\n' + body)
        path.chmod(0o755)

    @pytest.mark.parametrize('shell', SHELLS)
    def test_offline_is_one_line_and_leaves_no_archive(self, project, shell):
        self.curl(project, 'exit 6\n')
        code, _, err = project.run(shell, 'download_sop.sh', project.data)
        assert code == 1 and len(err.splitlines()) == 1 and 'Stanford_Online_Products.zip could not be fetched' in err
        assert not list(project.data.iterdir())

    @pytest.mark.parametrize('shell', SHELLS)
    def test_unpacks_and_prints_the_checksum(self, project, shell):
        archive = project.root / 'made.zip'
        with zipfile.ZipFile(archive, 'w') as file:
            file.writestr('Stanford_Online_Products/Ebay_train.txt', 'image_id class_id super_class_id path\n')
        self.curl(project, f'cp "{archive}" "$2"\n')
        code, out, _ = project.run(shell, 'download_sop.sh', project.data)
        assert code == 0 and hashlib.sha256(archive.read_bytes()).hexdigest() in out
        assert (project.data / 'Stanford_Online_Products' / 'Ebay_train.txt').is_file()
        assert not list(project.data.glob('*.part'))
        assert project.run(shell, 'download_sop.sh', project.data)[0] == 0

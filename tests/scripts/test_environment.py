"""scripts/environment.sh: the virtual environment of quickstart.sh and run_tests.sh, with a stand-in for its Python."""
import os
import shutil
import subprocess

import pytest

from tests.scripts.test_launchers import ROOT, SHELLS

# Notes how it is called; `import te, hccl` works where the file CANN is beside it; -m venv copies it.
STAND_IN = '''#!/bin/sh
echo "$*" >> "{notes}"
case "$*" in
    *'import te'*) [ -e "{cann}" ] ;;
    *'-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
esac
'''


class Machine:
    """A folder with a stand-in for Python, a virtual environment of it, and device files if a test makes them."""

    def __init__(self, folder):
        self.folder, self.venv = folder, folder / 'the venv'
        self.notes, self.cann = folder / 'notes', folder / 'CANN'
        self.devices = folder / 'davinci'
        self.python(self.venv / 'bin' / 'python')

    def python(self, path):
        path.parent.mkdir(parents=True)
        path.write_text(STAND_IN.format(notes=self.notes, cann=self.cann))
        path.chmod(0o755)

    def prepare(self, shell, **env):
        keep = {name: value for name, value in os.environ.items() if not name.startswith('ASCEND_')}
        env = {**keep, 'VIRTUAL_ENV': str(self.venv), 'DEVICE_FILES': str(self.devices), **env}
        done = subprocess.run(
            [shell, '-c', 'set -eu; . scripts/environment.sh; prepare_environment requirements.txt; echo "$PYTHON"',
             'quickstart.sh'], cwd=ROOT, text=True, capture_output=True, env=env, timeout=60)
        return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

    def installs(self):
        return [line for line in self.notes.read_text().splitlines() if 'pip install' in line]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_the_quick_start_leaves_the_files_of_others_alone(tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    done = subprocess.run(['bash', str(ROOT / 'scripts/quickstart.sh'), str(tmp_path)], text=True, capture_output=True,
                          timeout=60)
    assert (done.returncode, done.stderr) == (2, f'quickstart.sh: {tmp_path} holds other files: name a new folder\n')
    assert (tmp_path / 'mine.txt').read_text() == 'mine'


@pytest.mark.parametrize('script', ['quickstart.sh', 'test_releases.sh'])
@pytest.mark.parametrize('flag, code', [('--help', 0), ('--fast', 2)])
def test_a_flag_is_no_folder_and_no_release(tmp_path, script, flag, code):
    done = subprocess.run(['bash', str(ROOT / 'scripts' / script), flag], text=True, capture_output=True, cwd=tmp_path,
                          timeout=10)
    said = (done.stdout, done.stderr)[code > 0]
    assert done.returncode == code and (f'usage: bash scripts/{script} [' if code == 0 else flag) in said
    assert said.count('\n') < 5 and not list(tmp_path.iterdir())


def test_the_quick_start_moves_an_earlier_run_and_removes_nothing(tmp_path):
    python = tmp_path / 'venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word in "$@"; do case $word in --save_ckpt=*) mkdir -p "${word#*=}" ;; esac; done\n')
    python.chmod(0o755)
    folder = tmp_path / 'quick start'
    for number in range(3):
        done = subprocess.run(['bash', str(ROOT / 'scripts/quickstart.sh'), str(folder)], text=True, capture_output=True,
                              env={**os.environ, 'VIRTUAL_ENV': str(tmp_path / 'venv')}, timeout=60)
        assert (done.returncode, done.stderr) == (0, '')
        assert (folder / 'zero_shot' / 'named.txt').exists() and f'{folder}/names.html\n' in done.stdout
        assert done.stdout.endswith(f'source {tmp_path}/venv/bin/activate\n')
        (folder / 'dem' / 'mine.txt').write_text(str(number))
    names = 'quick start.earlier-1', 'quick start.earlier-2', 'quick start'
    places = [tmp_path / name / 'dem' / 'mine.txt' for name in names]
    assert [place.read_text() for place in places] == ['0', '1', '2']


@pytest.mark.parametrize('shell', SHELLS)
def test_installs_once_and_is_silent_without_a_device(machine, shell):
    code, out, err = machine.prepare(shell)
    assert (code, out[-1], err) == (0, str(machine.venv / 'bin' / 'python'), [])
    [install] = machine.installs()
    assert install.endswith('-r requirements.txt') and 'installing requirements.txt' in out[0]
    assert machine.prepare(shell) == (0, out[-1:], []) and len(machine.installs()) == 1


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('home, cann, words', [
    ({}, False, ['there is an Ascend device', 'CANN is not set up', 'set_env.sh']),
    ({}, True, ['there is an Ascend device', 'CANN is not set up', 'set_env.sh']),
    ({'ASCEND_HOME_PATH': '/usr/local/Ascend'}, False, ['te and hccl', 'are not in', 'the venv']),
    ({'ASCEND_TOOLKIT_HOME': '/usr/local/Ascend'}, False, ['te and hccl', 'are not in', 'the venv']),
    ({'ASCEND_HOME_PATH': '/usr/local/Ascend'}, True, []),
])
def test_a_device_without_cann_is_said_in_one_line(machine, shell, home, cann, words):
    (machine.folder / 'davinci0').touch()
    if cann:
        machine.cann.touch()
    code, _, err = machine.prepare(shell, **home)
    assert code == 0 and len(err) == bool(words)
    for word in words:
        assert word in err[0] and err[0].startswith('quickstart.sh: ')


@pytest.mark.parametrize('shell', SHELLS)
def test_the_managers_file_alone_is_no_device(machine, shell):
    (machine.folder / 'davinci_manager').touch()
    assert machine.prepare(shell)[2] == []


@pytest.mark.parametrize('shell', SHELLS)
def test_without_an_active_environment_makes_one(machine, shell):
    machine.python(machine.folder / 'bin' / 'python3.12')
    path = os.pathsep.join([str(machine.folder / 'bin'), os.environ['PATH']])
    made = machine.folder / 'made'
    code, out, err = machine.prepare(shell, VIRTUAL_ENV='', VENV=str(made), PATH=path)
    assert (code, err, out[-1]) == (0, [], str(made / 'bin' / 'python')) and 'making the virtual environment' in out[0]


@pytest.mark.parametrize('shell', SHELLS)
def test_no_python_is_one_line(machine, shell):
    tools = machine.folder / 'tools'
    tools.mkdir()
    for name in ('cat', 'cksum', 'cut', shell):
        (tools / name).symlink_to(shutil.which(name))
    code, _, err = machine.prepare(shell, VIRTUAL_ENV='', VENV=str(machine.folder / 'none'), PATH=str(tools))
    assert code == 1 and len(err) == 1 and 'no Python 3.9 to 3.12' in err[0]

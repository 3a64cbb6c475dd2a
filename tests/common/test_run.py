"""The frame of every command: standard files that are closed, full or of another encoding, a working folder that is gone."""
import os
import subprocess
import sys

import pytest

CODE = """
import sys
from src.common.run import run
run(lambda: (sys.stdout.write("out 用户"), sys.stderr.write("err"), sys.stdout.isatty()))
"""


def sh(line, **environment):
    """A shell's command line in which "$@" is a command that writes to both outputs."""
    done = subprocess.run(['sh', '-c', line, 'sh', sys.executable, '-c', CODE], capture_output=True, text=True,
                          env={**os.environ, 'PYTHONIOENCODING': 'utf-8', **environment})
    return done.returncode, done.stdout, done.stderr


def test_closed_and_full_standard_files():
    """Python has no sys.stdout where it was closed. Nothing of the output goes into a file that is opened later."""
    assert sh('"$@" >&-') == (0, '', 'err')
    assert sh('"$@" 2>&-') == (0, 'out 用户', '')
    assert sh('"$@" <&-') == (0, 'out 用户', 'err')
    code, _, err = sh('"$@" >/dev/full')
    assert code == 2 and 'error: cannot write to standard output: No space left on device' in err and 'Traceback' not in err


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1'])
def test_characters_that_an_output_cannot_show_are_escaped(encoding):
    assert sh('"$@"', PYTHONIOENCODING=encoding) == (0, 'out \\u7528\\u6237', 'err')


def test_a_working_folder_that_is_gone(tmp_path):
    root = os.getcwd()
    code, out, err = sh(f'mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && "$@"', PYTHONPATH=root)
    assert (code, out) == (2, '') and err.endswith('error: the working folder no longer exists; change to another one\n')


def test_a_python_without_the_packages():
    done = subprocess.run([sys.executable, '-S', 'train.py', '--dataset=CUB'], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == '' and done.stderr == (
        f'train.py: error: this Python ({sys.executable}) has no package easydict; activate the environment that '
        'scripts/quickstart.sh made, or pip install -r requirements.txt\n')

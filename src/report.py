"""What to send with a report of a failure: versions, CANN, driver, devices, environment, recipe and last lines of a log.

    python -m src.report [FOLDER]      (the folder of a training, or train_parallel/0 of a distributed one)
"""
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from glob import glob
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from src.common.errors import InputError
from src.common.run import run

PACKAGES = ('mindspore', 'numpy', 'scipy', 'h5py', 'easydict', 'matplotlib', 'onnxruntime', 'simplejpeg')
# CANN's own Python packages, which have to be in the same environment.
OF_CANN = ('te', 'hccl')
VARIABLES = ('ASCEND_', 'HCCL_', 'MS_', 'RANK_', 'DEVICE_', 'GE_', 'GLOG_', 'LD_LIBRARY_PATH', 'PYTHONPATH')
DRIVER = '/usr/local/Ascend/driver/version.info'
LINES = 40


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return 'not installed'


def _first_lines(path, count=5):
    """The first lines of a file as one, None where it cannot be read."""
    try:
        return ' | '.join(Path(path).read_text(errors='replace').split('\n')[:count])
    except OSError:
        return None


def machine():
    """(name, value) of what is installed and set on this machine."""
    yield 'python', f'{platform.python_version()}, {sys.executable}'
    yield 'machine', f'{platform.platform()}, {os.cpu_count()} cores'
    for package in PACKAGES:
        yield package, _version(package)
    for package in OF_CANN:
        yield package, 'found' if importlib.util.find_spec(package) else 'not in this environment'
    home = os.environ.get('ASCEND_HOME_PATH') or os.environ.get('ASCEND_TOOLKIT_HOME')
    yield 'CANN', home or "set_env.sh has not been sourced"
    for path in sorted(glob(f'{home}/*/ascend_toolkit_install.info') + glob(f'{home}/version.cfg')) if home else ():
        yield path, _first_lines(path)
    yield 'driver', _first_lines(DRIVER) or f'no {DRIVER}'
    yield 'devices', ' '.join(sorted(glob('/dev/davinci*') + glob('/dev/nvidia[0-9]*'))) or 'none, a CPU'
    for name in sorted(os.environ):
        if name.startswith(VARIABLES):
            yield name, os.environ[name]


def _recorded(checkpoint):
    """What a checkpoint says of its training; what keeps it from being read, where it cannot."""
    try:
        # Not before: where it does not import, the rest is what is wanted.
        import mindspore as ms
        return json.loads(ms.load_checkpoint(str(checkpoint)).get('facts', '{}'))
    except Exception as error:  # whatever the failure is that is reported
        return {'recipe': f'{checkpoint}: {type(error).__name__}: {error}'}


def training(folder: Path):
    """(name, value) of a training: its recipe and the last lines of its log.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; give the one of a training')
    files = sorted(folder.glob('*.ckpt'), key=lambda path: path.stat().st_mtime)
    yield 'files', ', '.join(f'{path.name} ({path.stat().st_size} bytes)' for path in files) or 'no checkpoint'
    if files:
        recorded = _recorded(files[-1])
        for part in ('recipe', 'found'):
            yield part, json.dumps(recorded.get(part))
        yield 'devices of the training', recorded.get('device_num')
    for log in sorted(folder.glob('*.log')):
        lines = log.read_text(errors='replace').splitlines()[-LINES:]
        yield f'last lines of {log.name}', ''.join(f'\n    {line}' for line in lines)


def main(argv=None):
    """Prints the report."""
    words = sys.argv[1:] if argv is None else argv
    rows = list(machine())
    if glob('/dev/davinci*') and shutil.which('npu-smi'):
        done = subprocess.run(['npu-smi', 'info'], capture_output=True, text=True, check=False)
        rows.append(('npu-smi info', '\n' + done.stdout))
    for folder in words:
        rows += training(Path(folder))
    for name, value in rows:
        print(f'{name}: {value}')


if __name__ == '__main__':
    run(main)

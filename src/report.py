"""Print the facts for a bug report: versions, CANN, driver, devices, environment, recipe, end of the log.

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
from typing import Any, Dict, Iterator, List, Optional, Tuple

from src import __version__
from src.common.errors import InputError
from src.common.run import run
from src.common.values import Parser

PACKAGES = ('mindspore', 'numpy', 'scipy', 'h5py', 'easydict', 'matplotlib', 'onnxruntime', 'pillow')
# CANN's own Python packages, which must be in the same environment.
OF_CANN = ('te', 'hccl')
VARIABLES = ('ASCEND_', 'HCCL_', 'MS_', 'RANK_', 'DEVICE_', 'GE_', 'GLOG_', 'LD_LIBRARY_PATH', 'PYTHONPATH')
DRIVER = '/usr/local/Ascend/driver/version.info'
LINES = 40  # of each log


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return 'not installed'


def _first_lines(path: str) -> Optional[str]:
    """First five lines of a file, joined; None if it cannot be read."""
    try:
        return ' | '.join(Path(path).read_text(errors='replace').split('\n')[:5])
    except OSError:
        return None


def cann_home() -> str:
    """The folder that CANN's set_env.sh names, '' where it has not been sourced."""
    return os.environ.get('ASCEND_HOME_PATH') or os.environ.get('ASCEND_TOOLKIT_HOME') or ''


def machine() -> Iterator[Tuple[str, Any]]:
    """Yield (name, value) of versions, devices and environment variables of this machine."""
    yield 'version of this project', __version__
    yield 'python', f'{platform.python_version()}, {sys.executable}'
    yield 'machine', f'{platform.platform()}, {os.cpu_count()} cores'
    for package in PACKAGES:
        yield package, _version(package)
    for package in OF_CANN:
        yield package, 'found' if importlib.util.find_spec(package) else 'not in this environment'
    home = cann_home()
    yield 'CANN', home or 'set_env.sh has not been sourced'
    for path in sorted(glob(f'{home}/*/ascend_toolkit_install.info') + glob(f'{home}/version.cfg')) if home else ():
        yield path, _first_lines(path)
    yield 'driver', _first_lines(DRIVER) or f'no {DRIVER}'
    yield 'devices', ' '.join(sorted(glob('/dev/davinci*') + glob('/dev/nvidia[0-9]*'))) or 'none, a CPU'
    for name in sorted(os.environ):
        if name.startswith(VARIABLES):
            yield name, os.environ[name]


def _recorded(checkpoint: Path) -> Dict[str, Any]:
    """Records of a training in its checkpoint; the reason as `recipe` if it cannot be read."""
    try:
        # Imported here: the report must also work where MindSpore cannot be imported.
        from src.checkpoints.checkpoint import load_ckpt
        return json.loads(str(load_ckpt(checkpoint).get('facts', '{}')))
    except Exception as error:  # any error: it may be the one to report
        return {'recipe': f'{checkpoint}: {type(error).__name__}: {error}'}


def training(folder: Path) -> Iterator[Tuple[str, Any]]:
    """Yield (name, value) of a training: its files, its recipe and the last lines of its logs.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; give the folder of a training')
    # No folders, and no links to nothing.
    files = sorted(filter(Path.is_file, folder.glob('*.ckpt')), key=lambda path: path.stat().st_mtime)
    yield 'files', ', '.join(f'{path.name} ({path.stat().st_size} bytes)' for path in files) or 'no checkpoint'
    if files:
        recorded = _recorded(files[-1])
        for part in ('recipe', 'found'):
            yield part, json.dumps(recorded.get(part))
        yield 'devices of the training', recorded.get('device_num')
    for log in sorted(filter(Path.is_file, folder.glob('*.log'))):
        lines = log.read_text(errors='replace').splitlines()[-LINES:]
        yield f'last lines of {log.name}', ''.join(f'\n    {line}' for line in lines)


def main(argv: Optional[List[str]] = None) -> None:
    """Print the report. argv: folders of trainings, by default the command-line arguments."""
    parser = Parser(prog='python -m src.report', description='Print the facts for a bug report.')
    parser.add_argument('folder', nargs='*', help='of a training, or train_parallel/0 of a distributed one')
    folders = parser.parse_args(argv).folder
    rows = list(machine())
    if glob('/dev/davinci*') and shutil.which('npu-smi'):
        done = subprocess.run(['npu-smi', 'info'], capture_output=True, text=True, check=False)
        rows.append(('npu-smi info', '\n' + done.stdout))
    for folder in folders:
        rows += training(Path(folder))
    for name, value in rows:
        print(f'{name}: {value}')


if __name__ == '__main__':
    run(main)

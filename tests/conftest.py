"""Shared by all tests: the device, the order of files, what is generated once, doors run here, and where the real data is."""
import gc
import importlib
import logging
import os
import sys
import traceback
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.processes import PROCESSORS, use_processors  # noqa: E402

# Compilers and collected tests keep a million objects: to look at them as often as Python does takes a tenth of the time.
gc.set_threshold(50000, 20, 100)

SHARED_DATA = Path(os.environ.get('SHARED_DATA', ROOT.parent / 'shared' / 'data'))


def pytest_configure(config):
    """Each worker on one processor: MindSpore's idle threads do not sleep but yield, which takes a third of the time of the
    processors that they are allowed on."""
    # Warnings that are caused by lines of src.
    config.addinivalue_line('filterwarnings', r'error::DeprecationWarning:src\.')
    worker = os.environ.get('PYTEST_XDIST_WORKER', '')
    if worker:
        use_processors({sorted(PROCESSORS)[int(worker[2:]) % len(PROCESSORS)]})


class Deprecations(logging.Handler):
    """Turns what MindSpore logs about deprecated calls (it warns of few) into errors where a line of src makes the call."""

    def emit(self, record):
        said = record.getMessage()
        if 'deprecate' not in said.lower():
            return
        # The deprecated function logs by itself or by a decorator: the call is two or three lines above. Calls that MindSpore
        # makes of its own functions lie deeper below ours.
        logging_files = ('log.py', '_decorator.py', f'logging{os.sep}__init__.py', Path(__file__).name)
        stack = [line for line in traceback.extract_stack() if not line.filename.endswith(logging_files)]
        for line in stack[-3:]:
            if line.filename.startswith(str(ROOT / 'src') + os.sep):
                raise DeprecationWarning(f'{line.filename}:{line.lineno}: {said}')


@pytest.fixture(scope='session', autouse=True)
def device():
    """MindSpore takes no device once it has computed: the doors' tests would fail after others in the same process."""
    # Here and below, not above: the process that hands out files to the others has no use for it.
    import mindspore as ms
    from mindspore.log import _get_logger
    _get_logger().addHandler(Deprecations())
    from src.common.device import cap_instruction_set
    cap_instruction_set()
    ms.set_device('CPU')
    # Tiny operators one by one: handing each to another thread costs more than running it, 3.6 times on a busy machine.
    ms.runtime.launch_blocking()


@pytest.fixture(scope='module', autouse=True)
def pynative():
    """The mode that every file begins in: a door that another file has run in this process leaves graph mode behind."""
    import mindspore as ms
    ms.set_context(mode=ms.PYNATIVE_MODE)


@contextmanager
def graph_mode():
    """Within `with`, cells are compiled as in a training."""
    import mindspore as ms
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture(autouse=True)
def _mode(request):
    """Of tests that are marked graph."""
    with graph_mode() if request.node.get_closest_marker('graph') else nullcontext():
        yield


@pytest.fixture(autouse=True)
def _instructions():
    """A door that is run here may cap oneDNN's instruction set, which comes too late in this process and is undone."""
    before = os.environ.get('ONEDNN_MAX_CPU_ISA')
    yield
    if before is None:
        os.environ.pop('ONEDNN_MAX_CPU_ISA', None)


@pytest.fixture(scope='session')
def shared_data():
    """The folder of real data for tests; its absence skips the test, visibly."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'no real data: {SHARED_DATA} does not exist')
    return SHARED_DATA


@pytest.fixture(scope='session')
def dem_data(tmp_path_factory):
    """A folder with AwA_data and CUB_data, not to be changed."""
    from src.samples.dem_sample import make_dem_sample
    folder = tmp_path_factory.mktemp('dem')
    make_dem_sample(folder)
    return folder


def trained_by(door, *flags):
    """The network that a command of eval.py, export.py or infer.py names, as the door loads it."""
    from src.recipes.command_line import parse_args
    from src.systems.trained import load_trained
    command = parse_args(door, flags)
    return load_trained(command.options.save_ckpt, recipe_for=command.recipe_for)


@pytest.fixture
def here(capfd):
    """Function (door, *flags) -> (exit code, standard output, standard error) of a door run in this process."""
    def call(door, *flags):
        from src.common.run import run
        capfd.readouterr()
        code = 0
        try:
            run(lambda: importlib.import_module(door).main([str(flag) for flag in flags]))
        except SystemExit as end:
            code = end.code
        return (code, *capfd.readouterr())
    return call


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What is run by hand is slow too: `-m "not slow"` leaves both out. Files that train come first, then large ones: of the
    workers, each of which takes file by file, none is left with a long one at the end."""
    for item in items:
        if item.get_closest_marker('by_hand'):
            item.add_marker('slow')
    training = {item.path for item in items if item.get_closest_marker('slow')}
    count = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in training, -count[item.path]))

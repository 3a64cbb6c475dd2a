"""Running the main function of a command."""
import errno
import os
import signal
import sys
import threading
from contextlib import contextmanager
from types import FrameType
from typing import Any, Callable, Iterator, Optional

from src.common.errors import InputError


def run(main: Callable[[], Any]) -> None:
    """Run the main function of a door; bad input becomes one line on standard error and exit code 2, Ctrl-C one line and
    exit code 130.

    If nobody reads standard output any more (infer.py ... | head), it ends silently with exit code 141, as in a shell.
    Characters that an output cannot show are written as escapes.
    """
    _open_standard_files()
    try:
        with _interruptible():
            _check_working_folder()
            main()
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        sys.exit(141)
    except InputError as error:
        print(f'{sys.argv[0]}: error: {error}', file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = str(error.name).partition('.')[0]
        if package == 'src':
            raise
        print(f'{sys.argv[0]}: error: this Python ({sys.executable}) has no package {package}; activate the environment that '
              'scripts/quickstart.sh made, or pip install -r requirements.txt', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # Files are written by src.common.files, which raises InputError: this is standard output.
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT) or error.filename is not None:
            raise
        _drop_output()
        print(f'{sys.argv[0]}: error: cannot write to standard output: {error.strerror}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f'{sys.argv[0]}: interrupted', file=sys.stderr)
        sys.exit(130)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Handle SIGINT in the block, unless it is ignored.

    SIGTERM and SIGHUP end the process at once, because callbacks of MindSpore swallow exceptions.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    while frame:
        name = frame.f_code.co_filename
        # Interrupted imports of MindSpore and numpy abort or raise other errors; interrupted compilations leave files.
        if name.startswith('<frozen importlib') or os.path.join('mindspore', '_extends') in name:
            os.write(2, f'{sys.argv[0]}: interrupted\n'.encode(errors='backslashreplace'))
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def _open_standard_files() -> None:
    """Open /dev/null for closed standard files, whose numbers, and MindSpore's output, would go to the next opened file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one
    # None, if the file was closed when Python started.
    sys.stdout = sys.stdout or open(1, 'w', closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stderr = sys.stderr or open(2, 'w', closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise InputError('the working folder no longer exists; change to another one') from error


def _drop_output() -> None:
    """Discard the buffered output, which Python would try to write at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

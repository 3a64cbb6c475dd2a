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

# Signals that end a process after it has removed its temporary files, and their words. SIGQUIT still ends it at once.
ENDS = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'terminated', signal.SIGHUP: 'hung up'}


class Ended(KeyboardInterrupt):
    """A signal of ENDS; the argument is its number."""


def run(main: Callable[[], Any]) -> None:
    """Run the main function of a door; bad input becomes one line on standard error and exit code 2, a signal of ENDS one
    line and exit code 128 + its number.

    If nobody reads standard output any more (infer.py ... | head), it ends silently with exit code 141, as in a shell.
    Characters that an output cannot show are written as escapes.
    """
    _open_standard_files()
    try:
        with _ending():
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
    except KeyboardInterrupt as error:
        number = error.args[0] if isinstance(error, Ended) else signal.SIGINT
        print(f'{sys.argv[0]}: {ENDS[number]}', file=sys.stderr)
        sys.exit(128 + number)


@contextmanager
def _ending() -> Iterator[None]:
    """Raise Ended in the block at a signal of ENDS, unless it is ignored, as by nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: Optional[FrameType]) -> None:
    while frame:
        # MindSpore and numpy abort, or tell of other errors, if their import is interrupted.
        if frame.f_code.co_filename.startswith('<frozen importlib'):
            os.write(2, f'{sys.argv[0]}: {ENDS[signal.Signals(number)]}\n'.encode(errors='backslashreplace'))
            os._exit(128 + number)
        frame = frame.f_back
    raise Ended(signal.Signals(number))


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

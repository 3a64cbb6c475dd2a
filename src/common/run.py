"""Running the main function of a command."""
import errno
import os
import sys
from typing import Any, Callable

from src.common.errors import InputError


def run(main: Callable[[], Any]) -> None:
    """Run the main function of a door; bad input becomes one line on standard error and exit code 2, Ctrl-C exit code 130.

    If nobody reads standard output any more (infer.py ... | head), it ends silently with exit code 141, as in a shell.
    Characters that an output cannot show are written as escapes.
    """
    _open_standard_files()
    try:
        _check_working_folder()
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        sys.exit(141)
    except InputError as error:
        print(f'{sys.argv[0]}: error: {error}', file=sys.stderr)
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

"""Running the main function of a command."""
import os
import sys
from typing import Any, Callable

from src.common.errors import InputError


def run(main: Callable[[], Any]) -> None:
    """Run the main function of a door; bad input becomes one line on standard error and exit code 2, Ctrl-C exit code 130.

    Where nobody reads standard output any more (infer.py ... | head) it ends in silence, with the 141 of a shell.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would write what is left at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except InputError as error:
        print(f'{sys.argv[0]}: error: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f'{sys.argv[0]}: interrupted', file=sys.stderr)
        sys.exit(130)

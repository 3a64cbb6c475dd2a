"""Writing files so that a reader never sees half of one."""
import os
from contextlib import contextmanager, suppress
from pathlib import Path

from src.common.errors import InputError


@contextmanager
def replacing(path):
    """Gives a temporary path beside `path`, which takes the place of `path` once the block has ended well.

    The temporary name keeps the ending of `path`, which some writers look at. When the block fails, nothing is left.

    Raises:
        InputError: the folder cannot be made or the file not written (full disk, no permission).
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'cannot write {path}: {error.strerror}') from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        # On a read-only disk even what is not there cannot be removed.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder):
    """Remove what `replacing` left in a folder where its process was killed; nobody else may be writing there."""
    for path in Path(folder).glob('.*.part.*'):
        path.unlink(missing_ok=True)

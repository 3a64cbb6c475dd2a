"""Writing files so that a reader never sees half of one."""
import glob
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, Union

from src.common.errors import InputError


@contextmanager
def replacing(path: Union[str, Path]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` if the block ends without an exception.

    The temporary name keeps the suffix of `path`, by which some writers choose the format. If the block fails, nothing is left;
    what a killed process left of the same file is removed.

    Raises:
        InputError: the folder cannot be made or the file not written (full disk, no permission).
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'cannot write {path}: {error.strerror}') from error
    _remove_leftovers(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        # On a read-only disk unlink fails even if there is no such file.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose processes have ended on this machine."""
    for left in path.parent.glob(f'.{glob.escape(path.stem)}.*.part{glob.escape(path.suffix)}'):
        with suppress(OSError, ValueError, OverflowError):    # another user's process, or the file of another path
            try:
                os.kill(int(left.name[len(path.stem) + 2:-len(f'.part{path.suffix}')]), 0)
            except ProcessLookupError:
                left.unlink()


def remove_unfinished(folder: Union[str, Path]) -> None:
    """Remove temporary files that killed processes left in a folder. No other process may be writing there."""
    for path in Path(folder).glob('.*.part.*'):
        path.unlink(missing_ok=True)

"""Write files atomically, without losing the user's files and without leaving folders of refused work."""
import fcntl
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterable, Iterator, List, Union

from src.common.errors import InputError

# Temporary names: the file's, and the process that writes it.
UNFINISHED = re.compile(r'\..*\.(\d{1,9})\.part(\..*)?', re.DOTALL)


@contextmanager
def replacing(path: Union[str, Path]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` if the block ends without an exception.

    The block makes a file there, or a folder, which may replace an empty one. The temporary name keeps the suffix of `path`, by
    which some writers choose the format. If the block fails, nothing is left, no new folder either. What killed processes left
    of the same file is removed.

    Raises:
        InputError: the folder cannot be made or the file not written (full disk, no permission).
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    made: List[Path] = []
    try:
        made = _make(path.parent)
        remove_unfinished(path.parent, f'.{path.stem}.')
        yield temporary
        os.replace(temporary, path)
        made = []
    except OSError as error:
        raise InputError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        # On a read-only disk unlink fails even if there is no such file.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _remove_empty(made)


def remove_unfinished(folder: Union[str, Path], start: str = '.') -> None:
    """Remove temporary files of `replacing` whose names begin with `start` and whose processes have ended."""
    for name in os.listdir(folder):
        found = UNFINISHED.fullmatch(name)
        if found and name.startswith(start) and not _lives(int(found[1])):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _lives(process: int) -> bool:
    """Whether another process has this number: in a container it is often this one's again."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _make(folder: Path) -> List[Path]:
    """Make a folder; returns those that were not there, the deepest last."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()][::-1]
    if missing:  # of a file in the place of the folder mkdir would say that it exists
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: List[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def held(folders: Iterable[Path], flag: str) -> Iterator[None]:
    """Make folders and keep other processes that hold them out; those that are still empty at the end are removed again.

    Args:
        folders: the folders. flag: the flag that named them, for errors.

    Raises:
        InputError: a folder cannot be made or written to, or another process holds it.
    """
    made: List[Path] = []
    handles: List[int] = []
    try:
        for folder in folders:
            try:
                made += _make(folder)
                remove_unfinished(folder)
                tempfile.TemporaryFile(dir=folder).close()
                handles.append(os.open(folder, os.O_RDONLY))
            except OSError as error:
                raise InputError(f'{flag}: cannot make the folder {folder}, or write to it: {error.strerror}') from error
            try:
                fcntl.flock(handles[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f'{flag}: another process is training in {folder}; wait for its end, or name another '
                                 'folder') from error
            except OSError:
                pass  # some network file systems lock no folders
        yield
    finally:
        for handle in handles:
            os.close(handle)
        _remove_empty(made)


def check_replaceable(path: Union[str, Path], marks: Iterable[bytes], flag: str) -> None:
    """Refuse to write over a file that this project did not write.

    Args:
        path: the file, which need not exist. marks: one of them is in every file of this kind that the project writes.
        flag: the flag that named it, for errors.

    Raises:
        InputError: it exists, is not empty, and has none of the marks.
    """
    path = Path(path)
    try:
        foreign = path.is_file() and path.stat().st_size and not any(mark in path.read_bytes() for mark in marks)
    except OSError as error:
        raise InputError(f'{flag}={path}: {error.strerror}; name another one') from error
    if foreign:
        raise InputError(f'{flag}={path}: exists, and was not written by this project as such a file; name another one')


def is_failed_download(start: bytes) -> bool:
    """Whether a file that begins with `start` is a web page or a Git LFS pointer instead of the wanted file."""
    return start.lstrip()[:1] == b'<' or start.startswith(b'version https://git-lfs')

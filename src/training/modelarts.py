"""Training on ModelArts: its storage (obs://...) is copied in and out by moxing, a package in its container images."""
import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Tuple, Union

from src.common.device import Process
from src.common.errors import InputError
from src.recipes.recipe import Recipe
from src.training.states import CURVES, RESULT

# The fast disk of ModelArts machines.
CACHE = Path('/cache')


@contextmanager
def copies(data_url: Optional[str], train_url: Optional[str], folder: Union[str, Path], process: Process
           ) -> Iterator[Optional[str]]:
    """Copy the data in before the block and the training's output back after it, even if the block fails.

    Args:
        data_url: folder of the data, or None; a folder of this machine is not copied.
        train_url: folder to copy the output to, or None.
        folder: the training's output. Each process copies its own part, the first process also result and curves.
        process: from set_up.

    Yields:
        the folder of the data on this machine, None without data_url.

    Raises:
        InputError: a URL that needs moxing, which is not installed, no such folder, or a copy that fails.
    """
    if train_url:
        _storage('train_url', train_url)
    local = data_url
    if data_url and '://' in data_url:
        # One copy per process, since the processes of a machine do not know of each other's copies.
        local = str((CACHE if CACHE.is_dir() else Path(tempfile.gettempdir())) / f'data_{process.device_id}')
        _copy('data_url', data_url, data_url, local)
    if local and not os.path.isdir(local):
        raise InputError(f'--data_url={data_url}: no such folder')
    try:
        yield local
    finally:
        if train_url:
            rank = str(process.rank) if process.size > 1 else ''
            for name in [rank] + [RESULT, CURVES] * (rank == '0'):
                if os.path.exists(os.path.join(folder, name)):
                    _copy('train_url', train_url, os.path.join(folder, name), os.path.join(train_url, name))


def with_data(recipe: Recipe, folder: Optional[str]) -> Recipe:
    """Recipe with its data in another folder, None for no change; InputError if a list gives the images' paths."""
    if not folder:
        return recipe
    if recipe.get('train_list'):
        raise InputError(f'--data_url: is for a folder of data, not for --train_list={recipe.train_list}')
    return Recipe({**recipe, 'dataset_path' if 'dataset_path' in recipe else 'data_path': folder})


def _storage(flag: str, url: str) -> Tuple[Callable[..., Any], Callable[..., Any]]:
    """(function that copies a folder, function that copies a file), from source to target."""
    if '://' not in url:
        return partial(shutil.copytree, dirs_exist_ok=True), shutil.copy
    try:
        import moxing
    except ImportError as error:
        raise InputError(f'--{flag}={url}: is copied by moxing, which is not installed here (ModelArts images have it); '
                         'give a local folder') from error
    return moxing.file.copy_parallel, moxing.file.copy


def _copy(flag: str, url: str, source: str, target: str) -> None:
    copy_folder, copy_file = _storage(flag, url)
    print(f'--{flag}: copying {source} to {target}', flush=True)
    try:
        (copy_file if os.path.isfile(source) else copy_folder)(source, target)
    except Exception as error:  # moxing's errors have no type of their own
        raise InputError(f'--{flag}={url}: cannot be copied: {" ".join(str(error).split())}') from error

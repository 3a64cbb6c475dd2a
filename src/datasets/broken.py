"""Find the unreadable images of a list before a training, name them, and skip them if allowed; recognise changed images."""
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Dict, List, Optional, Tuple

import numpy as np

from src.common.errors import InputError
from src.common.records import read_json, read_record, write_json
from src.common.terminal import MovingLine
from src.datasets.decoding import decode_file, looks_whole
from src.datasets.image_list import ImageList
from src.datasets.same_pictures import TAIL

THREADS = 4  # which mostly wait for the disk
SHOWN = 20  # broken images named by an error; the file beside the list names all
PARTS = 8  # of a list, whose hashes are kept


@dataclass(frozen=True)
class Checked:
    """Results of a check, stored beside the list.

    looked_at: hashes of paths, sizes and times of all images of a list (or of a part of it, e.g. its test images), so that
    a changed list or image is checked again. broken: {path: reason} of the unreadable images. contents: {one of looked_at:
    result of `contents`}.
    """
    looked_at: List[str] = field(default_factory=list)
    broken: Dict[str, str] = field(default_factory=dict)
    contents: Dict[str, str] = field(default_factory=dict)


def without_broken(images: ImageList, share: float = 0.0, *, whole: bool = False, keep: bool = True,
                   show_progress: bool = False) -> ImageList:
    """Remove unreadable images from a list; they are counted in its `left_out`.

    A list is checked once: the result is stored beside it (`kept_beside`) until the list or an image changes.

    Args:
        images: a list whose images are all on disk.
        share: largest fraction of broken images that may be left out.
        whole: whether to decode every image, rather than only images whose header or end is wrong.
        keep: whether to store the result.
        show_progress: whether to print the progress to standard error, and the broken images that are left out.

    Raises:
        InputError: more images are broken than the share allows; names them.
    """
    path, files = kept_beside(images), _hash(images)
    kept = _read(path) if path else Checked()
    if whole or files not in kept.looked_at:
        found, own = _find(images, whole, show_progress), set(images.paths)
        kept = replace(kept, looked_at=[files, *kept.looked_at[:PARTS]] if files not in kept.looked_at else kept.looked_at,
                       broken={**{name: why for name, why in kept.broken.items() if name not in own}, **found})
        if path and keep:
            _write(path, kept)
    bad = np.array([name in kept.broken for name in images.paths])
    broken = [f'{name} ({kept.broken[name]})' for name in dict.fromkeys(images.paths) if name in kept.broken]
    if not broken:
        return images
    named = ', '.join(broken[:SHOWN])
    if len(broken) > SHOWN:
        named += f' and {len(broken) - SHOWN} more' + f', all in {path}' * bool(path and os.path.isfile(path))
    if bad.all() or bad.mean() > share:
        needed = np.ceil(1000 * bad.mean()) / 1000
        raise InputError(f'{bad.sum()} of {len(images)} pictures cannot be read: {named}; repair them'
                         + f', remove them from the list, or skip them with --skip_broken={needed:g}' * (not bad.all()))
    if show_progress:
        print(f'--skip_broken={share:g}: {bad.sum()} of {len(images)} pictures are left out: {named}')
    return images.select(~bad).leaving_out('broken', int(bad.sum()))


def contents(images: ImageList) -> str:
    """Digest of the pictures of a list in their order, by size and end: the same in another folder, another for other pictures.

    It is stored beside the list until an image changes.
    """
    path, files = kept_beside(images), _hash(images)
    kept = _read(path) if path else Checked()
    if files not in kept.contents:
        digest = hashlib.blake2b(digest_size=16)
        with ThreadPoolExecutor(THREADS) as pool:
            for size, end in pool.map(_size_and_end, images.paths):
                digest.update(f'{size} {len(end)} '.encode() + end)
        newest = list(kept.contents.items())[:PARTS]
        kept = replace(kept, contents={files: digest.hexdigest(), **dict(newest)})
        if path:
            _write(path, kept)
    return kept.contents[files]


def _size_and_end(path: str) -> Tuple[int, bytes]:
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return size, file.read()


def last_changed(images: ImageList) -> str:
    """Path of the image whose file was changed or moved last."""
    def when(path: str) -> float:
        known = os.stat(path)
        return max(known.st_mtime, known.st_ctime)
    return max(images.paths, key=when)


def _write(path: str, checked: Checked) -> None:
    # Beside a list on a read-only disk nothing is stored.
    with suppress(InputError):
        write_json(path, asdict(checked))


def kept_beside(images: ImageList) -> Optional[str]:
    """File that stores the result for a list or folder; None for images from neither."""
    return f'{images.source}.checked.json' if images.source else None


def _hash(images: ImageList) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in images.paths:
        with suppress(OSError):
            known = os.stat(path)
            digest.update(f'{path}\0{known.st_size} {known.st_mtime_ns}\n'.encode('utf-8', 'surrogateescape'))
    return digest.hexdigest()


def _find(images: ImageList, whole: bool, show_progress: bool) -> Dict[str, str]:
    """{path: reason} of the unreadable images."""
    def why(path: str) -> str:
        try:
            if whole or not looks_whole(path):
                with open(path, 'rb') as file:
                    decode_file(file)
        except (OSError, ValueError) as error:
            return str(getattr(error, 'strerror', None) or error)
        return ''

    paths, found = list(dict.fromkeys(images.paths)), {}
    began, line = time.perf_counter(), MovingLine(show_progress)
    with ThreadPoolExecutor(THREADS) as pool:
        for done, (path, reason) in enumerate(zip(paths, pool.map(why, paths)), 1):
            if reason:
                found[path] = reason
            line.tell(f'checked {done}/{len(paths)} pictures, {done / (time.perf_counter() - began):.0f} pictures/s, '
                      f'{len(found)} broken')
    line.clear()
    return found


def _read(path: str) -> Checked:
    if not os.path.isfile(path):
        return Checked()
    advice = 'remove it: it is written again'
    return read_record(Checked, read_json(path, advice), path, advice)

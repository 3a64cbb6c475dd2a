"""Augmentation in processes beside this one, for pictures of which one Python thread makes too few a second.

Threads gain little: PIL leaves Python's lock within each operation, and they wait to get it back. Here a picture lies in
memory that both processes have, and a line of a pipe says that it is there or done. Each process is a new interpreter with
numpy and PIL alone, not a fork of this one with its threads and its device, and ends when its pipe does, however this one
ends.
"""
import json
import mmap
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np

from src.datasets.augmentation import augmenting

ROOT = Path(__file__).resolve().parents[2]
# Linux has memory without a file, which ends with those who hold it.
POSSIBLE = hasattr(os, 'memfd_create')


class AugmentationProcesses:
    """function(image uint8 (h, w, 3), position) -> image uint8 (H, W, 3), for as many threads at once as there are processes.

    The processes start with the first pictures and end with this object.

    Args:
        count: of processes.
        augmentation, size, seed: as for augmenting; size is (H, W).
        given: (h, w).

    The function raises RuntimeError with what an augmentation raised, or when a process has ended.
    """

    def __init__(self, count, augmentation, given, size, seed):
        self._arguments = (augmentation, given, size, seed)
        self._left = count
        self._lock = threading.Lock()
        self._idle = queue.SimpleQueue()

    def __call__(self, image, position):
        process = self._take()
        try:
            return process.augment(image, position)
        finally:
            self._idle.put(process)

    def _take(self):
        with self._lock:
            if self._left and self._idle.empty():
                process = _Process(*self._arguments)
                self._left -= 1
                return process
        return self._idle.get()


class _Process:
    def __init__(self, augmentation, given, size, seed):
        memory = os.memfd_create('augmentation')
        arguments = json.dumps([memory, augmentation, given, size, seed])
        try:
            self._given, self._made = _views(memory, given, size)
            self._process = subprocess.Popen(
                [sys.executable, '-m', __name__, arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                bufsize=0, pass_fds=[memory], start_new_session=True, cwd=ROOT,
                env={**os.environ, 'OPENBLAS_NUM_THREADS': '1'})
        finally:
            os.close(memory)
        weakref.finalize(self, _end, self._process)

    def augment(self, image, position):
        np.copyto(self._given, image)
        try:
            self._process.stdin.write(b'%d\n' % position)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b''
        if answer != b'\n':
            raise RuntimeError(f'augmentation: {answer.decode().strip() or "a process of it has ended"}')
        return self._made.copy()


def _end(process):
    process.stdin.close()
    # it may still have a picture to answer for
    process.wait()
    process.stdout.close()


def _views(memory, given, size):
    """Arrays over the shared memory: the picture that is given and the one that is made of it."""
    shapes = [(*given, 3), (*size, 3)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    os.truncate(memory, sum(sizes))
    shared = np.frombuffer(mmap.mmap(memory, sum(sizes)), np.uint8)
    return [part.reshape(shape) for part, shape in zip(np.split(shared, sizes[:1]), shapes)]


def main(arguments):
    """Augment what comes until the pipe is closed."""
    # The other process decides when all of it ends, also where a signal is sent to each.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    memory, augmentation, given, size, seed = json.loads(arguments)
    picture, made = _views(memory, given, size)
    augment = augmenting(augmentation, tuple(size), seed)
    for line in sys.stdin.buffer:
        answer = ''
        try:
            made[...] = augment(picture, int(line))
        except Exception as error:
            answer = f'{type(error).__name__}: {error}'.replace('\n', ' ')
        try:
            os.write(sys.stdout.fileno(), answer.encode() + b'\n')
        except BrokenPipeError:
            return


if __name__ == '__main__':
    main(sys.argv[1])

"""Processes that augment: equal pictures, and how they end."""
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from src.datasets.augmentation import augmenting
from src.datasets.augmentation_processes import AugmentationProcesses

ROOT = Path(__file__).resolve().parents[2]
BOTH = {'affine': {}, 'colour': {'brightness': 0.3, 'tint': 0.2, 'grey': 0.2}}
GIVEN, SIZE = (30, 25), (24, 20)


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (*GIVEN, 3), np.uint8)


def test_equal_to_this_process_and_ended_with_the_object(started):
    here, there = augmenting(BOTH, SIZE, 7), AugmentationProcesses(2, BOTH, GIVEN, SIZE, 7)
    assert not started
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda position: there(picture(position), np.int64(position)), range(40)))
    assert len(started) == 2
    for position, image in enumerate(made):
        np.testing.assert_array_equal(image, here(picture(position), position))
    # a signal for all processes of a terminal is the other's to answer
    for number in (signal.SIGINT, signal.SIGTERM):
        for process in started:
            process.send_signal(number)
    np.testing.assert_array_equal(there(picture(3), 3), made[3])
    there = None
    assert [process.poll() for process in started] == [0, 0]


def test_errors_name_their_cause(started):
    failing = AugmentationProcesses(1, {'affine': {'rotation': float('inf')}}, GIVEN, SIZE, 7)
    for _ in range(2):
        with pytest.raises(RuntimeError, match='augmentation: .*Error: '):
            failing(picture(0), 0)
    with pytest.raises(ValueError, match='broadcast'):
        failing(picture(0)[1:], 0)
    started[0].kill()
    for _ in range(2):
        with pytest.raises(RuntimeError, match='augmentation: a process of it has ended'):
            failing(picture(0), 0)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_leaves_none(number):
    script = f'''
import sys, time
import numpy as np
from src.datasets import augmentation_processes
make = augmentation_processes.AugmentationProcesses(1, {BOTH}, {GIVEN}, {SIZE}, 0)
make(np.zeros({(*GIVEN, 3)}, np.uint8), 0)
# it starts in no time
assert not [name for name in sys.modules if name.startswith('mindspore')]
print(make._idle.get()._process.pid, flush=True)
time.sleep(60)
'''
    process = subprocess.Popen([sys.executable, '-c', script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    other = int(process.stdout.readline())
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(other, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(other, signal.SIGKILL)
    raise AssertionError('still runs')

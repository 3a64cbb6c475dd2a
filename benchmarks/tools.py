"""What all benchmarks share: the project's path, command-line arguments, timers, rates of this machine.

Importing it puts the project on sys.path, so a benchmark imports it before anything of src.
"""
import argparse
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


class Time(NamedTuple):
    """Seconds elapsed, and seconds of the processor in this process and in its children that have ended."""
    wall: float
    cpu: float


def parser(description, **options):
    """An argparse parser with one flag an option.

    Args:
        description: the docstring of the script, shown by --help as it is written.
        options: default value, whose type the flag has; or (default value, help). False makes a switch.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, option in options.items():
        value, line = option if isinstance(option, tuple) else (option, None)
        kind = {'action': 'store_true'} if value is False else {'type': type(value), 'default': value}
        made.add_argument(f'--{name}', help=line, **kind)
    return made


def cores():
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine():
    """The processor, the number of cores that this process may use, and the version of Python, in one line."""
    found = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text()) if os.path.exists('/proc/cpuinfo') else None
    return f'{found[1] if found else platform.processor()}, {cores()} core(s), Python {platform.python_version()}'


def _cpu():
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def timed(function, *arguments, finish=None):
    """Call a function once; returns (its value, Time). finish: called outside the elapsed time, before the processor's time is
    read, to end processes that the function has started."""
    wall, cpu = time.perf_counter(), _cpu()
    value = function(*arguments)
    wall = time.perf_counter() - wall
    if finish:
        finish()
    return value, Time(wall, _cpu() - cpu)


def in_turns(ways, rounds, calls=1, of_rounds=np.median, finish=None):
    """Time functions in turns (A B A B), so that the load of the machine falls on all of them alike.

    Args:
        ways: name -> function without arguments. It should have run once: the first call may compile.
        rounds: turns of each. calls: of each function in one turn; their median is the time of the turn.
        of_rounds: np.median or np.min, over the turns. finish: of `timed`.

    Returns:
        {name: Time of one call}.
    """
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(np.median([timed(way, finish=finish)[1] for _ in range(calls)], axis=0))
    return {name: Time(*map(float, of_rounds(taken, axis=0))) for name, taken in times.items()}


def best_wall(function, rounds=5):
    """The least seconds of several calls."""
    return in_turns({'': function}, rounds, of_rounds=np.min)[''].wall


def product_rate():
    """Multiplications and additions a second of numpy's float32 matrix product."""
    a = np.random.default_rng(0).standard_normal((1500, 1500), np.float32)
    return 2 * 1500 ** 3 / best_wall(lambda: a @ a)


def copy_rate():
    """Bytes a second, read and written, of copying an array that no cache holds."""
    source = np.ones(2 ** 25, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / best_wall(lambda: np.copyto(target, source))


def peak_memory():
    """Peak memory of this process in GB (2^30 bytes)."""
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def run_measured(command, **options):
    """Run a Python script as a process of its own: (what it printed, Time, peak memory in GB).

    Args:
        command: the script and its flags. options: of subprocess.Popen.
    """
    wall = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True, **options)
    printed = process.stdout.read()
    # Not process.wait(), which does not say what the process used.
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f'{" ".join(map(str, command))}: failed')
    return printed, Time(time.perf_counter() - wall, usage.ru_utime + usage.ru_stime), usage.ru_maxrss / 2 ** 20

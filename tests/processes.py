"""What tests of processes share: processors, a free port, and a script as the two processes of a distributed run."""
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

PROCESSORS = os.sched_getaffinity(0) if hasattr(os, 'sched_getaffinity') else {0}


def use_processors(processors):
    """The calling thread and what it starts run on these from now on, where the system has a say."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, processors)


@contextmanager
def on_all_processors():
    """What is started within `with` is not bound to this worker's processor: processes that wait for each other take twice
    as long on one."""
    own = os.sched_getaffinity(0) if hasattr(os, 'sched_getaffinity') else PROCESSORS
    use_processors(PROCESSORS)
    try:
        yield
    finally:
        use_processors(own)


def free_port():
    """A port that no one listens at, as text."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


def run_two(script, *args, folder):
    """Run a Python script beside the calling test as two CPU processes that msrun starts, in a folder that gets their logs."""
    # msrun starts the first python there is.
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'}
    with on_all_processors():
        done = subprocess.run(['msrun', '--worker_num=2', '--local_worker_num=2', f'--master_port={free_port()}',
                               '--join=True', f'--log_dir={folder}', str(script), *map(str, args)], env=environment,
                              timeout=400, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr + ''.join(path.read_text() for path in Path(folder).glob('worker_*.log'))

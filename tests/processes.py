"""What tests of processes share: a free port, and a script as the two processes of a distributed run."""
import os
import socket
import subprocess
import sys
from pathlib import Path


def free_port():
    """A port that no one listens at, as text."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


def run_two(script, *args, folder):
    """Run a Python script beside the calling test as two CPU processes that msrun starts, in a folder that gets their logs."""
    # msrun starts the first python there is.
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'}
    done = subprocess.run(['msrun', '--worker_num=2', '--local_worker_num=2', f'--master_port={free_port()}', '--join=True',
                           f'--log_dir={folder}', str(script), *map(str, args)], env=environment, timeout=400,
                          capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr + ''.join(path.read_text() for path in Path(folder).glob('worker_*.log'))

"""How many AllReduce the graph of a training step on two devices holds once it is built."""
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.by_hand
@pytest.mark.parametrize('fuse, expected', [(False, 51), (True, 1)])
def test_gradients_are_averaged_at_once(tmp_path, fuse, expected):
    """51: 15 convolutions and the gamma and beta of each."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    subprocess.run(['msrun', '--worker_num=2', '--local_worker_num=2', f'--master_port={port}', '--join=True',
                    f'--log_dir={tmp_path}', str(Path(__file__).with_name('compile_distributed.py')), str(tmp_path),
                    str(fuse)], env=environment, check=True, timeout=400, capture_output=True, cwd=tmp_path)
    graphs = [path.read_text() for path in (tmp_path / 'rank_0').glob('graph_build_*.ir')]
    assert sum(len(re.findall(r'\bAllReduce\(', graph)) for graph in graphs) == expected
    assert sum(len(re.findall(r'\bAllGather\(', graph)) for graph in graphs) == 1

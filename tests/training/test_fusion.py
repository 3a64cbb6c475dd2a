"""How many AllReduce the graph of a training step on two devices holds once it is built."""
import re
from pathlib import Path

import pytest

from tests.processes import run_two


@pytest.mark.slow
@pytest.mark.parametrize('fuse, expected', [(False, 51), (True, 1)])
def test_gradients_are_averaged_at_once(tmp_path, fuse, expected):
    """51: 15 convolutions and the gamma and beta of each."""
    run_two(Path(__file__).with_name('compile_distributed.py'), tmp_path, fuse, folder=tmp_path)
    graphs = [path.read_text() for path in (tmp_path / 'rank_0').glob('graph_build_*.ir')]
    assert sum(len(re.findall(r'\bAllReduce\(', graph)) for graph in graphs) == expected
    assert sum(len(re.findall(r'\bAllGather\(', graph)) for graph in graphs) == 1

"""Two processes with half a batch each against one with the whole."""
from pathlib import Path

import numpy as np
import pytest

from tests.processes import run_two
from tests.training.two_processes import steps


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    run_two(Path(__file__).with_name('two_processes.py'), tmp_path, folder=tmp_path)
    one = steps(0, 1, 0)
    # The signal of one process reaches both; what is not finite on one stops both.
    np.testing.assert_array_equal(one['said'][:, 1:], [[1, 0], [1, 15], [0, 0]])
    for chunk_size in (0, 3):
        two = [dict(np.load(tmp_path / f'{rank}_{chunk_size}.npz')) for rank in range(2)]
        np.testing.assert_allclose((two[0]['said'] + two[1]['said'])[:2, 0] / 2, one['said'][:2, 0], rtol=1e-5)
        for name in set(one) - {'said'}:
            np.testing.assert_array_equal(two[0][name], two[1][name])
            np.testing.assert_allclose(two[0][name], one[name], rtol=1e-4, atol=1e-6, err_msg=f'{name} {chunk_size}')
        for found in two:
            np.testing.assert_array_equal(found['said'][:, 1:], one['said'][:, 1:])

"""--amp_level and --profile: levels by device, dtypes of a network, and what a profile holds."""
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.common.errors import InputError
from src.training.precision import level_for, mixed_precision
from src.training.profiling import profiled

ROOT = Path(__file__).resolve().parents[2]
PROFILE = '''
import sys
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
sys.path.insert(0, sys.argv[1])
from src.training.profiling import profiled
ms.set_device('CPU')
ms.set_context(mode=ms.GRAPH_MODE)
network = nn.Dense(4, 3)
with profiled(sys.argv[2], 'CPU') as step:
    for _ in range(8):
        network(Tensor(np.ones((2, 4), np.float32))).asnumpy()
        step()
with profiled(None, 'CPU') as step:
    step()
'''


@pytest.mark.parametrize('amp_level, target, level', [
    ('auto', 'Ascend', 'O2'), ('auto', 'CPU', 'O0'), ('auto', 'GPU', 'O0'), ('O0', 'Ascend', 'O0'), ('O2', 'CPU', 'O2'),
    ('bfloat16', 'Ascend', 'bfloat16')])
def test_levels(amp_level, target, level):
    assert level_for(amp_level, target) == level


@pytest.mark.parametrize('amp_level, words', [('O1', 'choose one of auto'), ('bfloat16', 'on a CPU')])
def test_other_levels_are_refused(amp_level, words):
    with pytest.raises(InputError, match=words):
        level_for(amp_level, 'CPU')


def test_float16_keeps_parameters_and_rounds_products():
    single = nn.Dense(4, 3)
    assert mixed_precision(single, 'O0') is single
    x = Tensor(np.random.default_rng(0).standard_normal((5, 4)), ms.float32)
    expected = single(x).asnumpy()
    half = mixed_precision(single, 'O2')
    found = half(x).asnumpy()
    assert {(p.name, p.dtype) for p in half.get_parameters()} == {('weight', ms.float32), ('bias', ms.float32)}
    assert 0 < np.abs(found - expected).max() < 1e-2


@pytest.mark.slow
def test_a_profile_names_the_operators(tmp_path):
    script = tmp_path / 'profile.py'
    script.write_text(PROFILE)
    subprocess.run([sys.executable, str(script), str(ROOT), str(tmp_path / 'out')], check=True, timeout=300,
                   capture_output=True)
    table, = (tmp_path / 'out').rglob('cpu_op_type_info_0.csv')
    assert 'op_type' in table.read_text() and 'MatMul' in table.read_text()
    assert list((tmp_path / 'out').rglob('trace_view.json'))


def test_a_profile_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='--profile=.*file/x: cannot make'), profiled(tmp_path / 'file' / 'x', 'CPU'):
        raise AssertionError('no step may be taken')

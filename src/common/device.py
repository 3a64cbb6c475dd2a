"""The device this process computes on, and the process among the others."""
import os
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.communication import get_group_size, get_rank, init

from src.common.errors import InputError


class Process(NamedTuple):
    """This process: device target and id, rank among the processes and their number."""
    target: str
    device_id: int
    rank: int
    size: int


CPU_INFO = Path('/proc/cpuinfo')
DEVICE_FILES = {'Ascend': '/dev/davinci[0-9]*', 'GPU': '/dev/nvidia[0-9]*', 'CPU': '/'}


def default_target(use_gpu=None):
    """'Ascend' where the driver shows a device, else with use_gpu 'GPU' where there is one, else 'CPU'."""
    wanted = ['Ascend'] + (['GPU'] if use_gpu else [])
    # Without a card CANN simulates one, to compile graphs alone.
    simulated = ['Ascend'] if os.environ.get('MS_SIMULATION_LEVEL') else []
    return next((target for target in wanted if glob(DEVICE_FILES[target])), (simulated + ['CPU'])[0])


def reference_convolutions():
    """Whether oneDNN computes MindSpore's convolutions by its reference kernel, about 60 times slower than a fast one.

    oneDNN 3, which MindSpore has from 2.9 on, does so with AVX-512, because MindSpore's weights are not in its own format; only
    1 x 1 kernels with stride 1 are fast. ONEDNN_MAX_CPU_ISA=AVX2 prevents it, at half the rate of matrix products.
    """
    allowed = os.environ.get('ONEDNN_MAX_CPU_ISA', os.environ.get('DNNL_MAX_CPU_ISA', 'DEFAULT')).upper()
    if not allowed.startswith(('AVX512', 'AVX10', 'DEFAULT', 'ALL')):
        return False
    if tuple(map(int, ms.__version__.split('.')[:2])) < (2, 9):
        return False
    try:
        return 'avx512f' in CPU_INFO.read_text().split()
    except OSError:
        return False


def _cap_instruction_set():
    """Hold oneDNN to AVX2 if its convolutions are slow otherwise and the user has not chosen; before the first operator."""
    if not {'ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA'} & set(os.environ) and reference_convolutions():
        os.environ['ONEDNN_MAX_CPU_ISA'] = 'AVX2'
        print(f'device: ONEDNN_MAX_CPU_ISA=AVX2, because MindSpore {ms.__version__} convolves slowly with AVX-512')


def set_up(device_target=None, device_id=None, distribute=False, device_num=None, use_gpu=None,
           own_networks=False):
    """Choose the device, compile graphs, and join the other processes of a distributed run.

    A distributed run is started by a launcher of scripts/ or by msrun, which set RANK_ID, RANK_SIZE and DEVICE_ID for
    every process, and RANK_TABLE_FILE or the address of msrun's scheduler.

    Args:
        device_target (str or None): 'Ascend', 'GPU' or 'CPU'; None for default_target().
        device_id (int or None): None for DEVICE_ID of the environment, else 0.
        distribute (bool): whether this is one process of several.
        device_num (int or None): the number of processes expected.
        use_gpu (bool or None): PaddleCV's flag: a GPU goes before the CPU where device_target is None.
        own_networks (bool): whether all convolutions of this process are src.networks.convolution's, which are fast with all
            instructions; with others, those of exported models too, the instruction set is capped on the CPU if needed.

    Returns:
        Process.

    Raises:
        InputError: the device is not on this machine, or a distributed run was not started by a launcher or not joined.
    """
    target = device_target or default_target(use_gpu)
    if device_target is None:
        print(f'device: {target} (no --device_target given{"" if target == "Ascend" else ", no Ascend found here"})')
    if device_id is None:
        text = os.environ.get('DEVICE_ID', '0')
        if not text.isdigit():
            raise InputError(f'DEVICE_ID={text} in the environment: must be a whole number')
        device_id = int(text)
    if not glob(DEVICE_FILES[target]) and not (target == 'Ascend' and os.environ.get('MS_SIMULATION_LEVEL')):
        raise InputError(f'--device_target={target}: this machine has no such device; leave the flag out or give CPU')
    if target == 'CPU' and not own_networks:
        _cap_instruction_set()
    ms.set_context(mode=ms.GRAPH_MODE)
    # CTL's optimizer goes over 163 parameters in one graph: more calls within calls than the 1000 allowed by default.
    ms.set_recursion_limit(10000)
    try:
        ms.set_device(target, *(() if target == 'CPU' else (device_id,)))
    except (RuntimeError, ValueError) as error:
        raise InputError(f'--device_target={target} --device_id={device_id}: {one_line(error)}') from error
    if not distribute:
        return Process(target, device_id, 0, 1)
    if 'RANK_ID' not in os.environ and 'MS_ROLE' not in os.environ:
        raise InputError('--distribute=True: start the processes with scripts/run_distribute*_train*.sh or msrun')
    try:
        # Here the scheduler that msrun starts beside the ranks waits for their end, and then exits.
        init()
    except RuntimeError as error:
        raise InputError('--distribute=True: the other processes could not be joined: '
                         f'{one_line(error)}') from error
    process = Process(target, device_id, get_rank(), get_group_size())
    if device_num not in (None, process.size):
        raise InputError(f'--device_num={device_num}: the launcher started {process.size} processes')
    return process


def one_line(error):
    """The text of an error of MindSpore in one line: whole, because CANN tells the cause in later lines."""
    return ' | '.join(line.strip() for line in str(error).splitlines() if line.strip(' -'))


class _Gather(nn.Cell):
    def __init__(self):
        super().__init__()
        self.all_gather = ops.AllGather()

    def construct(self, values):
        return self.all_gather(values)


@lru_cache(maxsize=1)
def _gather_cell():
    # Every new cell is compiled anew, which takes longer than a training step.
    return _Gather()


def gather(values, process):
    """The same-sized int arrays of all processes.

    Args:
        values (int array (N,)): this process's.
        process (Process): of set_up.

    Returns:
        int array (process.size, N), row r from rank r.
    """
    values = np.asarray(values, np.int32)
    if process.size == 1:
        return values[None]
    return _gather_cell()(Tensor(values)).asnumpy().reshape(process.size, -1)

"""The device on which this process computes, and its rank among the processes of a distributed run."""
import os
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple, Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.communication import get_group_size, get_rank, init
from numpy.typing import NDArray

from src.common.errors import InputError
from src.common.values import device_of_environment


class Process(NamedTuple):
    """This process: device target and id, rank among the processes and their number."""
    target: str
    device_id: int
    rank: int
    size: int


CPU_INFO = Path('/proc/cpuinfo')
DEVICE_FILES = {'Ascend': '/dev/davinci[0-9]*', 'GPU': '/dev/nvidia[0-9]*', 'CPU': '/'}
# oneDNN reads both.
INSTRUCTION_SETS = ('ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA')


def default_target(use_gpu: Optional[bool] = None) -> str:
    """'Ascend' if its driver shows a device, else 'GPU' if use_gpu is set and there is one, else 'CPU'."""
    wanted = ['Ascend'] + (['GPU'] if use_gpu else [])
    # CANN simulates a missing card if asked to, so that graphs can be compiled.
    simulated = ['Ascend'] if os.environ.get('MS_SIMULATION_LEVEL') else []
    return next((target for target in wanted if glob(DEVICE_FILES[target])), (simulated + ['CPU'])[0])


def reference_convolutions() -> bool:
    """Whether oneDNN computes MindSpore's convolutions by its reference kernel, about 60 times slower than a fast one.

    oneDNN 3, which MindSpore has from 2.9 on, does so with AVX-512, because MindSpore's weights are not in its own format; only
    1 x 1 kernels with stride 1 are fast. ResNets compute products instead (src.networks.convolution); for the rest there is
    cap_instruction_set.
    """
    allowed = next((os.environ[name] for name in INSTRUCTION_SETS if name in os.environ), 'DEFAULT').upper()
    if not allowed.startswith(('AVX512', 'AVX10', 'DEFAULT', 'ALL')):
        return False
    if tuple(map(int, ms.__version__.split('.')[:2])) < (2, 9):
        return False
    try:
        return 'avx512f' in CPU_INFO.read_text().split()
    except OSError:
        return False


def cap_instruction_set() -> None:
    """Hold oneDNN to AVX2 on a CPU if its convolutions are slow otherwise and the user has not chosen.

    This halves the rate of matrix products. It has no effect after the first matrix product or convolution of the process.
    """
    if ms.get_context('device_target') != 'CPU' or set(INSTRUCTION_SETS) & set(os.environ):
        return
    if reference_convolutions():
        os.environ[INSTRUCTION_SETS[0]] = 'AVX2'
        print(f'device: {INSTRUCTION_SETS[0]}=AVX2, because MindSpore {ms.__version__} convolves slowly with AVX-512')


def set_up(device_target: Optional[str] = None, device_id: Optional[int] = None, distribute: bool = False,
           device_num: Optional[int] = None, use_gpu: Optional[bool] = None) -> Process:
    """Choose the device, compile graphs, and join the other processes of a distributed run.

    A launcher in scripts/ or msrun starts a distributed run. It sets RANK_ID, RANK_SIZE and DEVICE_ID for every process, and
    RANK_TABLE_FILE or the address of msrun's scheduler.

    Args:
        device_target: 'Ascend', 'GPU' or 'CPU'; None for default_target().
        device_id: None for DEVICE_ID of the environment, else 0.
        distribute: whether this is one process of several.
        device_num: the expected number of processes.
        use_gpu: PaddleCV's flag: prefer a GPU to the CPU if device_target is None.

    Raises:
        InputError: the device is not on this machine, or a distributed run was not started by a launcher or not joined.
    """
    target = device_target or default_target(use_gpu)
    if device_target is None:
        print(f'device: {target} (no --device_target given{"" if target == "Ascend" else ", no Ascend found here"})')
    if device_num not in (None, 1) and not distribute:
        print(f'--device_num={device_num}: has no effect without --distribute=True')
    if device_id and target == 'CPU' and not distribute:
        print(f'--device_id={device_id}: has no effect on a CPU')
    if use_gpu and device_target not in (None, 'GPU'):
        print(f'--use_gpu=True: has no effect beside --device_target={device_target}')
    if device_id is None:
        device_id = device_of_environment()
    if not glob(DEVICE_FILES[target]) and not (target == 'Ascend' and os.environ.get('MS_SIMULATION_LEVEL')):
        raise InputError(f'--device_target={target}: this machine has no such device; leave the flag out or give CPU')
    ms.set_context(mode=ms.GRAPH_MODE)
    # CTL's optimizer visits 163 parameters in one graph: more nested calls than the default of 1000.
    ms.set_recursion_limit(10000)
    try:
        ms.set_device(target, *(() if target == 'CPU' else (device_id,)))
    except (RuntimeError, ValueError) as error:
        raise InputError(f'--device_target={target} --device_id={device_id}: {one_line(error)}') from error
    return _join(target, device_id, device_num) if distribute else Process(target, device_id, 0, 1)


def _join(target: str, device_id: int, device_num: Optional[int]) -> Process:
    """Join the other processes of a distributed run."""
    if 'RANK_ID' not in os.environ and 'MS_ROLE' not in os.environ:
        raise InputError('--distribute=True: start the processes with scripts/run_distribute*_train*.sh or msrun')
    try:
        # In the scheduler that msrun starts beside the ranks, this call waits for their end and then exits.
        init()
    except RuntimeError as error:
        raise InputError(f'--distribute=True: the other processes could not be joined: {one_line(error)}') from error
    process = Process(target, device_id, get_rank(), get_group_size())
    if device_num not in (None, process.size):
        raise InputError(f'--device_num={device_num}: the launcher started {process.size} processes')
    return process


def one_line(error: Exception) -> str:
    """A MindSpore error's whole text in one line, because CANN tells the cause in later lines."""
    return ' | '.join(line.strip() for line in str(error).splitlines() if line.strip(' -'))


class _Gather(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.all_gather = ops.AllGather()

    def construct(self, values: Tensor) -> Tensor:
        return self.all_gather(values)


@lru_cache(maxsize=1)
def _gather_cell() -> _Gather:
    # Every new cell is compiled again, which takes longer than a training step.
    return _Gather()


def gather(values: Any, process: Process) -> NDArray[Any]:
    """Gather the int arrays of all processes, which have the same size.

    Args:
        values: (N,) int array of this process.
        process: of set_up.

    Returns:
        (process.size, N) int32 array, row r from rank r.
    """
    values = np.asarray(values, np.int32)
    if process.size == 1:
        return values[None]
    return _gather_cell()(Tensor(values)).asnumpy().reshape(process.size, -1)

"""The device this process trains on, and its place among the other processes."""
import os
from functools import lru_cache
from glob import glob
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.communication import get_group_size, get_rank, init

from src.errors import InputError


class Place(NamedTuple):
    """Where this process runs: device target and id, rank and number of processes."""
    target: str
    device_id: int
    rank: int
    size: int


def default_target():
    """'Ascend' where the driver shows a device, else 'CPU'."""
    return 'Ascend' if glob('/dev/davinci[0-9]*') else 'CPU'


def set_up(device_target=None, device_id=None, distribute=False, device_num=None):
    """Choose the device, compile graphs, and join the other processes of a distributed run.

    A distributed run is started by a launcher of scripts/ or by msrun, which set RANK_ID, RANK_SIZE and DEVICE_ID for
    every process, and RANK_TABLE_FILE or the address of msrun's scheduler.

    Args:
        device_target (str or None): 'Ascend', 'GPU' or 'CPU'; None for default_target().
        device_id (int or None): None for DEVICE_ID of the environment, else 0.
        distribute (bool): whether this is one process of several.
        device_num (int or None): the number of processes expected.

    Returns:
        Place.

    Raises:
        InputError: the device is not on this machine, or a distributed run was not started by a launcher or not joined.
    """
    target = device_target or default_target()
    if device_target is None:
        print(f'device: {target} (no --device_target given{"" if target == "Ascend" else ", no Ascend found here"})')
    if device_id is None:
        text = os.environ.get('DEVICE_ID', '0')
        if not text.isdigit():
            raise InputError(f'DEVICE_ID={text} in the environment: must be a whole number')
        device_id = int(text)
    present = {'Ascend': '/dev/davinci[0-9]*', 'GPU': '/dev/nvidia[0-9]*', 'CPU': '/'}
    if not glob(present[target]):
        raise InputError(f'--device_target={target}: this machine has no such device; leave the flag out or give CPU')
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        ms.set_device(target, *(() if target == 'CPU' else (device_id,)))
    except (RuntimeError, ValueError) as error:
        raise InputError(f'--device_target={target} --device_id={device_id}: {str(error).splitlines()[0]}') from error
    if not distribute:
        return Place(target, device_id, 0, 1)
    if 'RANK_ID' not in os.environ and 'MS_ROLE' not in os.environ:
        raise InputError('--distribute=True: start the processes with scripts/run_distribute*_train*.sh or msrun')
    try:
        # Here the scheduler that msrun starts beside the ranks waits for their end, and then exits.
        init()
    except RuntimeError as error:
        raise InputError('--distribute=True: the other processes could not be joined: '
                         f'{str(error).splitlines()[0]}') from error
    place = Place(target, device_id, get_rank(), get_group_size())
    if device_num not in (None, place.size):
        raise InputError(f'--device_num={device_num}: the launcher started {place.size} processes')
    return place


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


def gather(values, place):
    """The same-sized int arrays of all processes.

    Args:
        values (int array (N,)): this process's.
        place (Place): of set_up.

    Returns:
        int array (place.size, N), row r from rank r.
    """
    values = np.asarray(values, np.int32)
    if place.size == 1:
        return values[None]
    return _gather_cell()(Tensor(values)).asnumpy().reshape(place.size, -1)

"""Checkpoints of this project: parameters with a checksum, and the record of the training they come from."""
import json
import logging
import math
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Union

import mindspore as ms
import numpy as np
from google.protobuf.message import DecodeError
from mindspore import Parameter, nn
from mindspore.train.checkpoint_pb2 import Checkpoint

from src.common.errors import InputError
from src.common.files import replacing
from src.common.records import as_table, parse_json, read_record

LAST, BEST = 'train.ckpt', 'best.ckpt'
RECORD = b'\x05facts'  # how a checkpoint's file names the record of its training
# How the variances of BatchNorms are called by MindSpore, PyTorch and Paddle.
VARIANCES = ('moving_variance', 'running_var', '_variance', '.w_2')


@dataclass(frozen=True)
class Recorded:
    """Record of a training in its checkpoints, as JSON under the name `facts`.

    Attributes:
        recipe: its hyper-parameters.
        found: what it found in its data and initial weights; together with the recipe this determines the network.
        device_num: number of devices it ran on.
        steps_per_epoch, run: only of training states: steps of one device in an epoch, and the progress to resume from.

    Raises:
        ValueError: device_num or steps_per_epoch is below 1.
    """
    recipe: Dict[str, Any] = field(default_factory=dict)
    found: Dict[str, Any] = field(default_factory=dict)
    device_num: int = 1
    steps_per_epoch: Optional[int] = None
    run: Optional[Dict[str, Any]] = None

    def __post_init__(self) -> None:
        for name, value in (('device_num', self.device_num), ('steps_per_epoch', self.steps_per_epoch)):
            if value is not None and value < 1:
                raise ValueError(f'{name} is {value}, expected a whole number above 0')


def read_recorded(source: Union[str, Dict[str, Any]], path: Union[str, Path]) -> Recorded:
    """Read and check the record of a training: a JSON text or the table it holds. Single hyper-parameters are not checked.

    Raises:
        InputError: one line that names the checkpoint `path` and the entry that is wrong or unknown.
    """
    where, advice = f'{path}: record of its training', 'use the checkpoint as it was written'
    return read_record(Recorded, parse_json(source, where, advice) if isinstance(source, str) else source, where, advice)


@contextmanager
def quiet_mindspore() -> Iterator[None]:
    """Silence MindSpore's log, which repeats in several lines an error that is about to become one line of ours."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)


def check_values(values: Mapping[str, Any], path: Union[str, Path], advice: str = 'use another file') -> None:
    """Raise an InputError if weights are NaN or infinite as float32, or a variance of a BatchNorm is negative.

    MindSpore's kernels turn NaN into 0 at the next ReLU: such a network gives figures and embeddings without a word.

    Args:
        values: arrays by name, of any origin. path, advice: for the error.
    """
    for name, value in values.items():
        array = np.asarray(value)
        if array.dtype.kind != 'f' or not array.size:
            continue
        # The sum is NaN or infinite where a value is, and adds in one pass without a copy; large finite ones are looked at.
        with np.errstate(all='ignore'):
            good = np.isfinite(array.sum(dtype=np.float32)) or np.isfinite(array.astype(np.float32)).all()
        if not good:
            raise InputError(f'{path}: {name} holds NaN, infinite values or values too large for float32; {advice}')
        if name.endswith(VARIANCES) and array.min() < 0:
            raise InputError(f'{path}: {name} holds negative variances; {advice}')


def save_cell(cell: nn.Cell, path: Union[str, Path], recorded: Optional[Recorded] = None) -> None:
    """Write the parameters of `cell` as a MindSpore checkpoint with a checksum and the record of its training.

    Raises:
        InputError: the file cannot be written, or a parameter is NaN or infinite; an older file of that name is left as it was.
    """
    check_values({parameter.name: parameter.asnumpy() for parameter in cell.get_parameters()}, path,
                 'not kept: the training has diverged; lower --lr, or look at the data')
    more = {'facts': json.dumps(as_table(recorded))} if recorded else None
    with replacing(path) as temporary, quiet_mindspore():
        try:
            ms.save_checkpoint(cell, str(temporary), append_dict=more, crc_check=True)
        except (RuntimeError, ValueError) as error:
            raise OSError(str(error).splitlines()[0]) from error
        finally:
            # MindSpore writes to a temporary name of its own first.
            temporary.with_suffix('.tmp').unlink(missing_ok=True)
        temporary.chmod(0o644)


def load_ckpt(path: Union[str, Path]) -> Dict[str, Any]:
    """Load a .ckpt file with MindSpore, and its checksum if it has one.

    MindSpore builds each tensor from its declared shape without looking at the number of bytes: a damaged file would end the
    process, at once or later. So they are compared first.

    Returns:
        name -> Parameter, or text.

    Raises:
        ValueError: a shape that the bytes do not have, or no checkpoint.
        Others: see mindspore.load_checkpoint.
    """
    raw = Path(path).read_bytes()
    message = Checkpoint()
    message.ParseFromString(raw[:-17] if raw[-17:-10] == b'crc_num' else raw)
    # A large parameter is stored in several parts, each with the whole shape.
    expected: Dict[str, int] = {}
    found: 'Counter[str]' = Counter()
    for element in message.value:
        tensor = element.tensor
        bits = {'Bool': 8}.get(tensor.tensor_type) or int(next(iter(re.findall(r'\d+$', tensor.tensor_type)), 0))
        if tensor.tensor_type != 'str':
            shape = [] if list(tensor.dims) == [0] else tensor.dims
            if not bits or min(shape, default=0) < 0:
                raise ValueError(f'{element.tag}: damaged')
            expected[element.tag] = math.prod(shape) * bits // 8
            found[element.tag] += len(tensor.tensor_content)
    if dict(found) != expected:
        raise ValueError('a tensor has another number of bytes than its shape')
    return ms.load_checkpoint(str(path), crc_check=True)


def read_checkpoint(path: Union[str, Path]) -> Dict[str, Union[Parameter, str]]:
    """Read a checkpoint written by save_cell.

    Returns:
        name -> Parameter; and 'facts' -> JSON text, if it was saved with what its training recorded: see read_recorded.

    Raises:
        InputError: no such file, cut short, or changed since it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'{path}: no such checkpoint')
    with quiet_mindspore():
        try:
            state = load_ckpt(path)
        except (RuntimeError, ValueError, TypeError, OSError, DecodeError) as error:
            raise InputError(f'{path}: not a whole checkpoint of this project; use another one') from error
    check_values({name: value.asnumpy() for name, value in state.items() if isinstance(value, Parameter)}, path)
    return state


def find_checkpoint(path: Union[str, Path, None]) -> Path:
    """The checkpoint that a flag names: `path` itself, or the last checkpoint in the folder `path` of a training.

    Raises:
        InputError: there is none.
    """
    if not path:
        raise InputError('--save_ckpt (--ckpt_path, --ckpt_file) is missing: a checkpoint, or the folder of a training')
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / LAST).is_file():
        return path / LAST
    # A killed training leaves unfinished files whose names begin with a dot.
    states = sorted(filter(Path.is_file, path.glob('[!.]*.ckpt')), key=lambda p: p.stat().st_mtime)
    if not states:
        raise InputError(f'{path}: no checkpoint in this folder; give one, or a folder that a training has written')
    return states[-1]

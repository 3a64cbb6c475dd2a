"""Checkpoints of this project: written at once or not at all, with what their training recorded, and read only when whole."""
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Union

import mindspore as ms
from mindspore import Parameter, nn

from src.common.errors import InputError
from src.common.files import replacing
from src.common.quiet import quiet_mindspore
from src.common.records import read_record

LAST, BEST = 'train.ckpt', 'best.ckpt'


@dataclass(frozen=True)
class Recorded:
    """What a training stores with a checkpoint.

    recipe: its entries. found: what was found in the data and the weights. device_num: how many devices trained together.
    steps_per_epoch, run: of training states alone; how far the training had come.

    Raises:
        ValueError: device_num or steps_per_epoch is below 1.
    """
    recipe: Dict[str, Any]
    found: Dict[str, Any] = field(default_factory=dict)
    device_num: int = 1
    steps_per_epoch: Optional[int] = None
    run: Optional[Dict[str, Any]] = None

    def __post_init__(self) -> None:
        if self.device_num < 1 or (self.steps_per_epoch or 1) < 1:
            raise ValueError('device_num and steps_per_epoch must be at least 1')


def read_recorded(text: Optional[str], path: str) -> Optional[Recorded]:
    """What a training stored with a checkpoint.

    Args:
        text: the JSON, None where there is none. path: names the checkpoint in errors.

    Raises:
        InputError: it is no such record.
    """
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path}: what its training recorded is damaged; use another checkpoint') from error
    return read_record(Recorded, values, path)


def save_cell(cell: nn.Cell, path: Union[str, Path], recorded: Optional[Dict[str, Any]] = None) -> None:
    """Write the parameters of `cell` with a checksum as a MindSpore checkpoint, and what the training recorded as JSON.

    Raises:
        InputError: the file cannot be written; a file of that name from before is left as it was.
    """
    with replacing(path) as temporary, quiet_mindspore():
        try:
            more = {'facts': json.dumps(recorded)} if recorded else None
            ms.save_checkpoint(cell, str(temporary), append_dict=more, crc_check=True)
        except (RuntimeError, ValueError) as error:
            raise OSError(str(error).splitlines()[0]) from error
        finally:
            # MindSpore writes to a temporary name of its own first.
            temporary.with_suffix('.tmp').unlink(missing_ok=True)
        temporary.chmod(0o644)


def read_checkpoint(path: Union[str, Path]) -> Dict[str, Parameter]:
    """The parameters of a checkpoint written by save_cell, by name; 'facts' is the JSON that was saved with them.

    Raises:
        InputError: no such file, cut short, or changed since it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'{path}: no such checkpoint')
    with quiet_mindspore():
        try:
            values: Dict[str, Parameter] = ms.load_checkpoint(str(path), crc_check=True)
            return values
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise InputError(f'{path}: not a whole checkpoint of this project; use another one') from error


def find_checkpoint(path: Union[str, Path, None]) -> Path:
    """The checkpoint a flag names: a file, or the last one of a training's folder.

    Raises:
        InputError: there is none.
    """
    if not path:
        raise InputError('which checkpoint? Give --save_ckpt')
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / LAST).is_file():
        return path / LAST
    # A dot begins what a killed training left unfinished.
    states = sorted(path.glob('[!.]*.ckpt'), key=lambda p: p.stat().st_mtime)
    if not states:
        raise InputError(f'{path}: no checkpoint in this folder; give one, or a folder that a training has written')
    return states[-1]

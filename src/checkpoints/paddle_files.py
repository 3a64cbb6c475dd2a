"""Folders of weights with one file a parameter, as PaddleCV saved its models from 2018 to 2020."""
import struct
from pathlib import Path
from typing import Dict

import numpy as np
from google.protobuf.message import DecodeError

from src.checkpoints.protobuf import message_type
from src.common.arrays import Array
from src.common.errors import InputError

DTYPES = {0: '?', 1: '<i2', 2: '<i4', 3: '<i8', 4: '<f2', 5: '<f4', 6: '<f8', 20: 'u1', 21: 'i1'}
TensorDesc = message_type(('TensorDesc', 'data_type', 1, 'int32'), ('TensorDesc', 'dims', 2, 'int64*'))


def read_folder(folder: Path) -> Dict[str, Array]:
    """Read the parameters in a folder, named as their files.

    Raises:
        InputError: the folder holds no parameter, or a file that is no whole parameter.
    """
    values = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith('.'):
            try:
                values[path.name] = _parameter(path.read_bytes())
            except (ValueError, KeyError, OverflowError, DecodeError, struct.error) as error:
                raise InputError(f'{path} is no whole parameter of Paddle: give a weight file, or a folder that holds '
                                 "nothing else than Paddle's parameters") from error
    if not values:
        raise InputError(f"{folder} holds no weights: give a weight file, or a folder of Paddle's parameters")
    return values


def _parameter(raw: bytes) -> Array:
    """Parse a LoDTensor: version uint32, number of levels uint64, (bytes uint64, data) for each level, version uint32,
    length of the TensorDesc int32, TensorDesc (protobuf), data."""
    version, levels = struct.unpack_from('<IQ', raw)
    at = 12
    for _ in range(levels):
        at += 8 + struct.unpack_from('<Q', raw, at)[0]
    of_tensor, length = struct.unpack_from('<Ii', raw, at)
    at += 8
    desc = TensorDesc.FromString(raw[at:at + length])
    values = np.frombuffer(raw[at + length:], DTYPES[desc.data_type])
    if version or of_tensor or length <= 0 or not desc.HasField('data_type') or min(desc.dims, default=0) < 0:
        raise ValueError('another version')
    return values.reshape(tuple(desc.dims))  # a ValueError if the file is cut short

"""Folders of weights with one file a parameter, as PaddleCV saved its models from 2018 to 2020."""
import struct
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
from numpy.typing import NDArray

from src.common.errors import InputError

DTYPES = {0: '?', 1: '<i2', 2: '<i4', 3: '<i8', 4: '<f2', 5: '<f4', 6: '<f8', 20: 'u1', 21: 'i1'}


def read_folder(folder: Path) -> Dict[str, NDArray[Any]]:
    """Read the parameters in a folder, named as their files.

    Raises:
        InputError: the folder holds no parameter, or a file that is no whole parameter.
    """
    values = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith('.'):
            try:
                values[path.name] = _parameter(path.read_bytes())
            except (ValueError, KeyError, IndexError, struct.error) as error:
                raise InputError(f'{path} is no whole parameter of Paddle: give a weight file, or a folder that holds '
                                 "nothing else than Paddle's parameters") from error
    if not values:
        raise InputError(f"{folder} holds no weights: give a weight file, or a folder of Paddle's parameters")
    return values


def _parameter(raw: bytes) -> NDArray[Any]:
    """Parse a LoDTensor: version uint32, number of levels uint64, (bytes uint64, data) for each level, version uint32,
    length of the TensorDesc int32, TensorDesc (protobuf), data."""
    version, levels = struct.unpack_from('<IQ', raw)
    at = 12
    for _ in range(levels):
        at += 8 + struct.unpack_from('<Q', raw, at)[0]
    of_tensor, length = struct.unpack_from('<Ii', raw, at)
    at += 8
    code, shape = _tensor_desc(raw[at:at + length])
    values = np.frombuffer(raw[at + length:], DTYPES[code])
    if version or of_tensor or length <= 0:
        raise ValueError('another version')
    return values.reshape(shape)  # a ValueError if the file is cut short


def _tensor_desc(raw: bytes) -> Tuple[int, List[int]]:
    """Parse data_type (field 1) and dims (field 2, one at a time or packed) of the message."""
    code, shape, at = -1, [], 0
    while at < len(raw):
        key, at = _varint(raw, at)
        value, at = _varint(raw, at)
        if key == 0x08:
            code = value
        elif key == 0x10:
            shape.append(value)
        elif key == 0x12:
            end = at + value
            while at < end:
                value, at = _varint(raw, at)
                shape.append(value)
        else:
            raise ValueError('another message')
    return code, shape


def _varint(raw: bytes, at: int) -> Tuple[int, int]:
    """The number at position `at`, and the position after it."""
    value = shift = 0
    while True:
        value |= (raw[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if raw[at - 1] < 128:
            return value, at
        if shift > 63:
            raise ValueError('a number of more than 64 bits')

"""MATLAB files of version 5 ("MAT-File Level 5" in MathWorks' description of the format): numbers and text.

scipy's reader crashes with SIGSEGV if single bytes of a file are changed, and expands compressed variables whole.
"""
import math
import mmap
import struct
import zlib
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from src.common.arrays import Array
from src.common.files import is_failed_download

# Types of elements: numbers, text and containers.
NUMBERS = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8', 12: 'i8', 13: 'u8'}
TEXTS = {2: 'latin1', 4: 'utf-16', 16: 'utf-8', 17: 'utf-16'}
MATRIX, COMPRESSED = 14, 15
# Classes of matrices.
CELL, CHAR, NUMERIC, OPAQUE = 1, 4, range(6, 16), 17
COMPLEX = 0x800
HEADER, HEAD = 128, 4096  # bytes of the file's header, and enough of a variable for its name


class Element(NamedTuple):
    """One element: its type and its bytes."""
    kind: int
    raw: memoryview


class Matrix(NamedTuple):
    """The head of a matrix: its MATLAB class, whether it is complex, its shape and name; and the elements that follow."""
    kind: int
    is_complex: bool
    shape: Tuple[int, ...]
    name: str
    rest: Iterator[Element]


def _elements(raw: memoryview, order: str) -> Iterator[Element]:
    """Yield the elements in some bytes; ValueError or struct.error if one is cut short."""
    at = 0
    while at < len(raw):
        first, size = struct.unpack_from(f'{order}II', raw, at)
        start = at + 8
        if first >> 16:  # size and type share a word, the bytes are in the next one
            first, size, start = first & 0xffff, first >> 16, at + 4
        if start + size > len(raw) or start == at + 4 and size > 4:
            raise ValueError('an element is cut short')
        yield Element(first, raw[start:start + size])
        at = at + 8 if start == at + 4 else start + size + (0 if first == COMPRESSED else -size % 8)


def _matrix(raw: memoryview, order: str) -> Matrix:
    parts = _elements(raw, order)
    word = struct.unpack_from(f'{order}I', next(parts).raw)[0]
    if word & 0xff == OPAQUE:  # MATLAB's string, table, datetime: without a shape
        return Matrix(OPAQUE, False, (), bytes(next(parts).raw).decode('latin1'), parts)
    sizes = tuple(np.frombuffer(next(parts).raw, f'{order}i4').tolist())
    name = next(parts).raw
    if len(sizes) < 2 or min(sizes) < 0:
        raise ValueError('a matrix without a shape')
    return Matrix(word & 0xff, bool(word & COMPLEX), sizes, bytes(name).decode('latin1'), parts)


def _expanded(raw: memoryview, variable: str, order: str, most: int) -> Tuple[str, Optional[Element]]:
    """Name of a compressed matrix, and the matrix if it is the variable. ValueError if it has more than `most` bytes."""
    stream = zlib.decompressobj()
    head = stream.decompress(raw, HEAD)
    kind, size = struct.unpack_from(f'{order}II', head)
    name = _matrix(memoryview(head)[8:], order).name
    if kind != MATRIX or name != variable:
        return name, None
    if size > most:
        raise ValueError(f'it declares {size} bytes, far more than the file can hold')
    whole = head + stream.decompress(stream.unconsumed_tail, max(1, size + 8 - len(head)))
    whole += stream.decompress(stream.unconsumed_tail, 1)  # the checksum is compared at the end
    if len(whole) != size + 8 or not stream.eof:
        raise ValueError('a variable is cut short')
    return name, Element(kind, memoryview(whole)[8:])


def _numbers(matrix: Matrix, order: str) -> Array:
    part = next(matrix.rest)
    values = np.frombuffer(part.raw, np.dtype(NUMBERS[part.kind]).newbyteorder('<' if order == '<' else '>'))
    return values.reshape(matrix.shape, order='F').astype(NUMBERS[part.kind])


def _text(matrix: Matrix, order: str) -> List[str]:
    """Rows of a matrix of characters."""
    part = next(matrix.rest, Element(2, memoryview(b'')))
    codec = TEXTS[part.kind]
    letters = bytes(part.raw).decode(codec + ('-le' if order == '<' else '-be') * (codec == 'utf-16'))
    rows = matrix.shape[0]
    if len(letters) != math.prod(matrix.shape):
        raise ValueError('a text of another length')
    return [letters[row::rows] for row in range(rows)]


def _value(raw: memoryview, order: str) -> Any:
    matrix = _matrix(raw, order)
    if matrix.kind in NUMERIC:
        return None if matrix.is_complex else _numbers(matrix, order)
    if matrix.kind == CHAR:
        return _text(matrix, order)
    if matrix.kind != CELL:
        return None
    cells = [_value(cell.raw, order) for cell in matrix.rest]
    if len(cells) != math.prod(matrix.shape):
        raise ValueError('cells are missing')
    return [cell[0] if isinstance(cell, list) and cell else '' for cell in cells]


def read_v5(path: str, variable: str, most: int) -> Tuple[bool, Any, List[str]]:
    """Read one variable.

    Args:
        path: the file. variable: its name. most: bytes that a compressed variable may have.

    Returns:
        (whether the file has it, its value, names of the variables before it). The value is an array of numbers, a list of
        the texts in a cell array or in the rows of a text, or None for anything else.

    Raises:
        ValueError, struct.error, StopIteration, KeyError, zlib.error: another version, or damaged.
    """
    with open(path, 'rb') as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    order = {b'\x00\x01IM': '<', b'\x01\x00MI': '>'}.get(bytes(whole[HEADER - 4:HEADER]))
    if order is None:
        raise ValueError('a web page or a Git LFS pointer' if is_failed_download(bytes(whole[:32])) else
                         'neither version 5 nor 7.3; save it by MATLAB with -v7')
    names: List[str] = []
    for element in _elements(whole[HEADER:], order):
        found: Optional[Element] = element
        if element.kind == COMPRESSED:
            name, found = _expanded(element.raw, variable, order, most)
        elif element.kind == MATRIX:
            name = _matrix(element.raw, order).name
        else:
            continue
        if name == variable and found is not None:
            return True, _value(found.raw, order), names
        names.append(name)
    return False, None, names

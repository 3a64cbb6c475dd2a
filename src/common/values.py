"""Parsers of values that several packages read in the same way."""
import argparse
import os
from typing import NoReturn, Sequence, Tuple, Union

from src.common.errors import InputError

SERVERS = ('http://', 'https://')


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f'{message} (--help shows the usage)')


def height_width(size: Union[int, Sequence[int]]) -> Tuple[int, int]:
    """Height and width of a size: one side, or (height, width). Raises ValueError for other values."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def in_milvus(name: str) -> bool:
    """Whether a gallery's name is that of a Milvus collection: NAME.db or http://HOST:PORT, optionally #COLLECTION."""
    return name.startswith(SERVERS) or name.partition('#')[0].endswith('.db')


def device_of_environment() -> int:
    """The environment's DEVICE_ID, 0 without one. Raises InputError: not a whole number; MindSpore would end the process."""
    text = os.environ.get('DEVICE_ID', '0')
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError(f'DEVICE_ID={text} in the environment: must be a whole number')
    return int(text)


def natural(text: str) -> int:
    """Parse a whole number of at least 0 from a command line. Raises argparse's error for other text."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 0, not {text!r}')
    return int(text)

"""Parsers of values that several packages read in the same way."""
import argparse
from typing import NoReturn, Sequence, Tuple, Union

from src.common.errors import InputError

# Annotations of options: src.recipes.types refuses numbers out of these ranges.
Positive = float
NonNegative = float
BelowOne = float  # 0 to below 1

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


def natural(text: str) -> int:
    """Parse a whole number of at least 0 from a command line. Raises argparse's error for other text."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 0, not {text!r}')
    return int(text)

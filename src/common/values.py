"""Values that several rooms read in the same way."""
import argparse
from typing import Sequence, Tuple, Union


def height_width(size: Union[int, Sequence[int]]) -> Tuple[int, int]:
    """Height and width of a size that is one side or both. Raises ValueError where it is neither."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def natural(text: str) -> int:
    """A whole number from 0 on, of a command line. Raises argparse's error where it is none."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 0, not {text!r}')
    return int(text)

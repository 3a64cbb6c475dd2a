"""Values that several rooms read in the same way."""
import argparse
from typing import Sequence, Tuple, Union

SERVERS = ('http://', 'https://')


def height_width(size: Union[int, Sequence[int]]) -> Tuple[int, int]:
    """Height and width of a size that is one side or both. Raises ValueError where it is neither."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def in_milvus(name: str) -> bool:
    """Whether the name of a gallery means a collection of Milvus: NAME.db or http://HOST:PORT, optionally #COLLECTION."""
    return name.startswith(SERVERS) or name.partition('#')[0].endswith('.db')


def natural(text: str) -> int:
    """A whole number from 0 on, of a command line. Raises argparse's error where it is none."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'expected a whole number of at least 0, not {text!r}')
    return int(text)

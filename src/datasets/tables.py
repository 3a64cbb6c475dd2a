"""Reading of the user's text files: lines and CSV tables."""
import codecs
import csv
import io
import unicodedata
from pathlib import Path
from typing import Any, List, Tuple, Type

from src.common.errors import InputError

UTF_8 = 'utf-8'
LONGEST = 8192  # characters of a line or a cell; a path has at most 4096


def read_text(path: str, encoding: str = UTF_8) -> str:
    """Read a text file, without the byte-order mark that Windows writes.

    Raises:
        InputError: the file cannot be read, or is not text of this encoding.
    """
    try:
        content = Path(path).read_bytes()
        text = content.decode('utf-8-sig' if codecs.lookup(encoding).name == UTF_8 else encoding)
    except OSError as error:
        raise InputError(f'{path}: cannot be read: {error.strerror}') from error
    except LookupError as error:
        raise InputError(f'--encoding={encoding}: no such encoding') from error
    except ValueError as error:
        if content.startswith(b'PK'):
            raise InputError(f'{path}: is an archive or a workbook, not text; unpack it, or save it as CSV in UTF-8') from error
        raise InputError(f'{path}: is not text in {encoding}; give its encoding, e.g. --encoding=gbk, latin-1 or '
                         'utf-16') from error
    if '\0' in text:
        raise InputError(f'{path}: is not a text file')
    return text


def read_lines(path: str, encoding: str = UTF_8) -> List[Tuple[int, str]]:
    """Non-blank lines of a file, stripped, each with its number from 1. Raises InputError as read_text."""
    lines = [(number, line.strip()) for number, line in enumerate(io.StringIO(read_text(path, encoding), newline=None), 1)
             if line.strip()]
    for number, line in lines:
        _check_length(f'{path}:{number}', line)
    return lines


def read_rows(path: str, encoding: str = UTF_8, delimiter: str = '') -> List[Tuple[int, List[str]]]:
    """Non-blank rows of a CSV, cells stripped, each with the number of its last line.

    Args:
        delimiter: '' for the most frequent of `;`, `,` and tab in the first line.

    Raises:
        InputError: as read_text, or a row with unbalanced quotes or an endless cell; names its line.
    """
    text = read_text(path, encoding)
    first = text.lstrip().partition('\n')[0]
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=delimiter or max(';,\t', key=first.count), strict=True)
    rows: List[Tuple[int, List[str]]] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            for cell in cells:
                _check_length(f'{path}:{reader.line_num}', cell)
            if any(cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise InputError(f'{path}:{reader.line_num}: {error}; check its quotes') from error
    return rows


def _check_length(where: str, text: str) -> None:
    if len(text) > LONGEST:
        raise InputError(f'{where}: {len(text)} characters, {text[:40]!r}...; is this the right file?')


def plain_number(word: str, kind: Type[Any] = int) -> Any:
    """Parse an int or float in plain form: no underscores, blanks or digits of other alphabets.

    Raises:
        ValueError: not a plain number.
    """
    if not word.isascii() or '_' in word:
        raise ValueError(f'{word!r} is not a plain number')
    return kind(word)


def as_name(text: str) -> str:
    """The form in which class names are compared: composed (NFC; macOS names folders decomposed), with single blanks."""
    return ' '.join(unicodedata.normalize('NFC', text.replace('\u200b', '').replace('\ufeff', '')).split())

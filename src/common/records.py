"""Records in files: read_json and write_json, and read_record, which turns what was read into a checked dataclass."""
import json
import math
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Dict, Type, TypeVar, Union, get_args, get_origin, get_type_hints

from src.common.errors import InputError
from src.common.files import replacing

Record = TypeVar('Record')
SHOWN = 60  # characters of a wrong value that an error shows


def read_json(path: Union[str, Path], advice: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        advice: what to do if it cannot be read, for the error.

    Raises:
        InputError: no such file, or not JSON.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else 'damaged, or not JSON'
        raise InputError(f'{path}: {why}; {advice}') from error
    return parse_json(text, str(path), advice)


def parse_json(text: str, where: str, advice: str) -> Any:
    """Parse JSON text. If it is not JSON, raises an InputError that begins with `where` and ends with `advice`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{where}: damaged, or not JSON; {advice}') from error


def write_json(path: Union[str, Path], values: Any) -> None:
    """Write a JSON file. Raises InputError if it cannot be written."""
    with replacing(path) as part:
        part.write_text(json.dumps(values, indent=2) + '\n', encoding='utf-8')


def as_table(record: Any) -> Dict[str, Any]:
    """Entries of a record that are not None, for JSON."""
    return {name: value for name, value in vars(record).items() if value is not None}


def read_record(kind: Type[Record], values: Any, where: str, advice: str = 'the file was changed; use another one') -> Record:
    """Make a dataclass of the values in a file, checked.

    Values must be of their fields' annotated types (bool, int, float, str, Optional, Dict, List, Tuple, and dataclasses of
    these; an int may stand for a float). The dataclass itself checks ranges in __post_init__, by a ValueError.

    Args:
        kind: the dataclass.
        values: the contents of the file, from read_json.
        where: names the file in errors. advice: says in errors what to do.

    Raises:
        InputError: not a table, an unknown or missing key, or a value of another type or out of range.
    """
    try:
        return _read(kind, values)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{where}: {error}; {advice}') from error


def _read(kind: Type[Record], values: Any) -> Record:
    """As read_record, but raises a ValueError that does not name the file."""
    if not isinstance(values, dict):
        raise ValueError(f'{_shown(values)} instead of a table')
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ValueError(f'has an unknown entry {_shown(unknown[0])}')
    missing = [name for name, field in known.items()
               if name not in values and field.default is MISSING and field.default_factory is MISSING]
    if missing:
        raise ValueError(f'has no {missing[0]}')
    return kind(**{name: _checked(hints[name], value, name) for name, value in values.items()})


def _checked(hint: Any, value: Any, where: str) -> Any:
    """Convert a value to its annotated type; raises a ValueError that names `where`, the key, for another type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _read(hint, value)  # type: ignore[arg-type]  # a type, not an object
    if origin is Union:
        if value is None and type(None) in args:
            return None
        kinds = [one for one in args if one is not type(None)]
        for one in kinds:
            try:
                return _checked(one, value, where)
            except ValueError:
                continue
        raise ValueError(f'{where} is {_shown(value)}, expected {" or ".join(map(_words, kinds))}')
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if (origin or hint) in (list, tuple) and isinstance(value, (list, tuple)):
        fixed = origin is tuple and args[-1] is not Ellipsis
        parts = list(args) if fixed else [args[0] if args else Any] * len(value)
        if len(parts) == len(value):
            return (origin or hint)(_checked(one, item, where) for one, item in zip(parts, value))
    if (origin or hint) is dict and isinstance(value, dict):
        key, item = args or (Any, Any)
        return {_checked(key, name, where): _checked(item, one, where) for name, one in value.items()}
    if type(value) is hint and hint is not float:
        return value
    raise ValueError(f'{where} is {_shown(value)}, expected {_words(hint)}')


def _words(hint: Any) -> str:
    names: Dict[Any, str] = {int: 'a whole number', float: 'a finite number', str: 'a text', bool: 'true or false'}
    return names.get(hint, {list: 'a list', tuple: 'a list', dict: 'a table'}.get(get_origin(hint) or hint, 'another value'))


def _shown(value: Any) -> str:
    """Text of a value in an error: short and on one line."""
    if isinstance(value, (list, dict)):
        return 'a list' if isinstance(value, list) else 'a table'
    return json.dumps(value, default=lambda other: type(other).__name__)[:SHOWN]

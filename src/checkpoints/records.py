"""Records kept as JSON that users may edit: frozen dataclasses whose fields say what each entry must be."""
import json
import re
from dataclasses import field, fields
from typing import Any, Callable, Dict, NamedTuple, Type, TypeVar, cast

from src.common.errors import InputError

Record = TypeVar('Record')


class Rule(NamedTuple):
    """What an entry must be: a test, and its words for the error."""
    holds: Callable[[Any], bool]
    words: str


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


TABLE = Rule(lambda value: isinstance(value, dict), 'a table')
COUNT = Rule(_is_count, 'a whole number above 0')
TEXT = Rule(lambda value: isinstance(value, str), 'a text')
TRUTH = Rule(lambda value: isinstance(value, bool), 'true or false')
SIZE = Rule(lambda value: _is_count(value) or isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)),
            'pixels, or [height, width]')
DIGEST = Rule(lambda value: isinstance(value, str) and bool(re.fullmatch('[0-9a-f]{32}', value)), '32 hexadecimal digits')


def entry(rule: Rule, **default: Any) -> Any:
    """A dataclass field with a rule; default, default_factory: as of dataclasses.field, else None."""
    return field(metadata={'rule': rule}, **(default or {'default': None}))


def as_table(record: Any) -> Dict[str, Any]:
    """The entries of a record that are not None, for JSON."""
    return {name: value for name, value in vars(record).items() if value is not None}


def read_record(kind: Type[Record], source: Any, whose: str, advice: str) -> Record:
    """Read a record whose fields are of `entry`. A missing entry has its default.

    Args:
        source: JSON text, or the table already read.
        whose, advice: begin and end of the error's line: which file, and what to do.

    Raises:
        InputError: no JSON, no table, or an entry that is unknown or wrong.
    """
    try:
        table = json.loads(source) if isinstance(source, (str, bytes)) else source
    except (ValueError, RecursionError) as error:
        raise InputError(f'{whose}: damaged, or no JSON; {advice}') from error
    if not isinstance(table, dict):
        raise InputError(f'{whose}: {_shown(table)} instead of a table; {advice}')
    rules: Dict[str, Rule] = {one.name: one.metadata['rule'] for one in fields(cast(Any, kind))}
    for name, value in table.items():
        if name not in rules:
            raise InputError(f'{whose}: has an unknown entry {_shown(name)}; {advice}')
        if not rules[name].holds(value):
            raise InputError(f'{whose}: {name} is {_shown(value)}, expected {rules[name].words}; {advice}')
    return kind(**table)


def _shown(value: Any) -> str:
    """A value for an error, short and in one line."""
    if isinstance(value, (list, dict)):
        return 'a list' if isinstance(value, list) else 'a table'
    return json.dumps(value, default=lambda other: type(other).__name__)[:60]

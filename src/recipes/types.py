"""Types of recipe entries: each checks a value, or parses a text, into a value of the recipe."""
import ast
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Callable, Collection, Optional

LARGEST = 3e38  # a float32
OTHER_NUMBERS = re.compile(r'(?<![\w\'"])(\d+_\d|0[xXoObB])')


class Refused(ValueError):
    """A value of the right type that cannot be used; the message says why."""


@dataclass(frozen=True)
class Type:
    """A type of values.

    words: the expected values in words, for errors. convert: value -> value of this type; ValueError if that is impossible.
    textual: whether text is taken literally, rather than parsed as a Python literal. choices: the allowed names, if there
    is a fixed set. optional: whether None is allowed.
    """
    words: str
    convert: Callable[[Any], Any]
    textual: bool = False
    choices: Optional[Collection[str]] = None
    optional: bool = False

    def read(self, value: Any) -> Any:
        """Check a value from a file or a call. Raises ValueError: of another type or out of range; says what is expected."""
        if value is None and self.optional:
            return None
        try:
            return self.convert(value)
        except Refused:
            raise
        except (ValueError, TypeError) as error:
            raise ValueError(f'expected {self.words}' + ' or None' * self.optional) from error

    def parse(self, text: str) -> Any:
        """Parse command-line text. Raises ValueError as `read`."""
        if self.optional and text == 'None':
            return None
        if not text:
            raise Refused('is empty; give a value')
        if '\0' in text:  # from a file of --config_path
            raise Refused('holds a NUL character')
        return self.read(text if self.textual else literal(text))

    def or_none(self) -> 'Type':
        """This type, with None allowed."""
        return replace(self, optional=True)


def literal(text: str) -> Any:
    """Parse text as a Python literal, else return it unchanged. 1_5 and 0x10 stay text: they are more often mistakes."""
    if OTHER_NUMBERS.search(text):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def whole(least: Optional[int] = 0, below: Optional[int] = None) -> Type:
    """A whole number of at least `least` (None for no bound) that fits into 32 bits."""
    def convert(value: Any) -> int:
        if type(value) is int and not -2 ** 31 <= value < (below or 2 ** 31):
            raise Refused(f'is too large; expected a whole number below {below or 2 ** 31}')
        _require(type(value) is int and (least is None or value >= least) and (below is None or value < below))
        return int(value)
    return Type('a whole number' + (f' of at least {least}' if least is not None else '')
                + (f' and below {below}' if below else ''), convert)


def real(least: float = 0.0, below: float = math.inf, positive: bool = False) -> Type:
    """A finite number of at least `least`; `positive` excludes 0."""
    def convert(value: Any) -> float:
        if type(value) in (int, float) and LARGEST < abs(value) < math.inf:
            raise Refused('is too large for float32')
        _require(type(value) in (int, float) and math.isfinite(value) and least <= value < below)
        _require(value > 0 or not positive)
        return float(value)
    words = 'a finite number ' + ('above 0' if positive else f'of at least {least:g}' if least > -math.inf else '')
    return Type(words.rstrip() + (f' and below {below:g}' if below < math.inf else ''), convert)


def _boolean(value: Any) -> bool:
    words = {'true': True, 'yes': True, '1': True, 'false': False, 'no': False, '0': False}
    _require(str(value).lower() in words)
    return words[str(value).lower()]


def _text(value: Any) -> str:
    _require(isinstance(value, str))
    return str(value)


def _encoding(value: Any) -> str:
    _require(isinstance(value, str))
    try:
        ''.encode(value)
    except LookupError as error:
        raise ValueError(value) from error
    return str(value)


encoding = Type('an encoding of text, e.g. utf-8, gbk or latin-1', _encoding, textual=True)
boolean = Type('True or False', _boolean, textual=True)
text = Type('a text', _text, textual=True)
anything = Type('a value', lambda value: value)


def one_of(names: Collection[str]) -> Type:
    """One of the given names."""
    def convert(value: Any) -> str:
        _require(isinstance(value, str) and value in names)
        return str(value)
    return Type('one of ' + ', '.join(names), convert, textual=True, choices=names)


def several(one: Type, count: Optional[int] = None) -> Type:
    """A list, written with commas; a single value is a list of one."""
    def convert(value: Any) -> list:  # type: ignore[type-arg]  # elements of any type
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        _require(count is None or len(values) == count)
        return [one.read(item) for item in values]
    return Type(f'a list of {count or ""} values, each {one.words}'.replace('  ', ' '), convert)


def table(of: Type) -> Type:
    """A dict of names and values of one type."""
    def convert(value: Any) -> dict:  # type: ignore[type-arg]  # values of any type
        _require(isinstance(value, dict) and all(isinstance(name, str) for name in value))
        return {name: of.read(item) for name, item in value.items()}
    return Type('a dict of names and values' + f', each {of.words}' * (of is not anything), convert)


def settings(*names: str) -> Type:
    """Numbers by name, written NAME=NUMBER with commas; names: the allowed names, all if none is given."""
    def convert(value: Any) -> dict:  # type: ignore[type-arg]  # of whole and other numbers
        said = dict(value) if isinstance(value, dict) else {
            name.strip(): literal(number) for name, _, number in (part.partition('=') for part in str(value).split(','))}
        _require(all(not names or name in names for name in said))
        return {name: number if type(number) is int else real(-math.inf).read(number) for name, number in said.items()}
    return Type(','.join(f'{name}=NUMBER' for name in names or ('NAME',)), convert, textual=True)


def either(one: Type, other: Type) -> Type:
    """One of two types."""
    def convert(value: Any) -> Any:
        try:
            return one.read(value)
        except ValueError:
            return other.read(value)
    return Type(f'{one.words}, or {other.words}', convert)


def _size(value: Any) -> Any:
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    _require(len(sides) in (1, 2) and all(type(side) is int and 0 < side < 2 ** 15 for side in sides))
    return sides if isinstance(value, (list, tuple)) and len(sides) == 2 else sides[0]


size = Type('one side, or height and width, in pixels', _size)


def of_annotation(annotation: str) -> Type:
    """Type that a constructor's annotation names; `anything` for other annotations."""
    if annotation.startswith('Optional['):
        return of_annotation(annotation[len('Optional['):-1]).or_none()
    for start in ('Sequence[', 'Tuple[', 'List['):
        if annotation.startswith(start):
            return several(of_annotation(annotation[len(start):-1].split(',')[0]))
    numbers = {'int': whole(None, 2 ** 20), 'float': real(-math.inf), 'bool': boolean, 'str': text,
               'Positive': real(positive=True), 'NonNegative': real(), 'BelowOne': real(0, 1)}
    return numbers.get(annotation, anything)

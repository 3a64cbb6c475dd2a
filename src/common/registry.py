"""Tables of names whose Python types and functions are imported when they are asked for.

A table holds 'module.Name' strings, so that reading flags, whose choices are the names in the tables, does not import
MindSpore.
"""
import inspect
from importlib import import_module
from typing import Any, Callable, Dict, Mapping, TypeVar

from src.common.errors import InputError

Row = TypeVar('Row')


def lookup(table: Mapping[str, Row], name: str, what: str) -> Row:
    """The table's row of that name; InputError naming `what`, the flag or entry, and the names that the table has."""
    if name not in table:
        raise InputError(f'{what}={name}: choose one of {", ".join(table)}')
    return table[name]


def load(package: str, target: str) -> Any:
    """The type or function 'module.Name', the module relative to the package, e.g. 'src.losses'."""
    module, _, attribute = target.rpartition('.')
    return getattr(import_module(f'{package}.{module}'), attribute)


def loader(package: str, table: Dict[str, str], what: str) -> Callable[[str], Any]:
    """A function name -> type or function, for a table of targets; arguments and errors as for `load` and `lookup`."""
    return lambda name: load(package, lookup(table, name, what))


def create(make: Callable[..., Any], what: str, *args: Any, **options: Any) -> Any:
    """make(*args, **options).

    Raises:
        InputError: unknown options, with those that `what` has; a value that is no number where the default is one.
    """
    try:
        inspect.signature(make).bind(*args, **options)
    except TypeError as error:
        takes = list(inspect.signature(make).parameters)[len(args):]
        raise InputError(f'{what}: {error}; its options are {", ".join(takes) or "none"}') from error
    for name, value in options.items():
        parameter = inspect.signature(make).parameters.get(name)
        if parameter is not None and is_number(parameter.default) and not is_number(value):
            raise InputError(f'{what}: {name}={value!r}: expected a number')
    return make(*args, **options)


def is_number(value: Any) -> bool:
    """Whether a value is an int or float; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""Registries: names to classes or functions that are imported when they are asked for.

A table holds 'module.Name' strings, so that reading flags, whose choices are the tables' names, does not import
MindSpore.
"""
import inspect
from importlib import import_module
from typing import Any, Callable, Dict

from src.common.errors import InputError


def loader(package: str, table: Dict[str, str], what: str) -> Callable[[str], Any]:
    """A function from a name to what `table` has under it; InputError, which lists the names, where it has none.

    Args:
        package: where the modules of the table are, for example 'src.losses'.
        table: name -> 'module.Name', the module relative to the package.
        what: the flag or entry that asks, for the error.
    """
    def load(name: str) -> Any:
        if name not in table:
            raise InputError(f'{what}={name}: choose one of {", ".join(table)}')
        module, _, attribute = table[name].rpartition('.')
        return getattr(import_module(f'{package}.{module}'), attribute)
    return load


def create(make: Callable[..., Any], what: str, *args: Any, **options: Any) -> Any:
    """make(*args, **options).

    Raises:
        InputError: options that are not its own, with those that `what` takes; no number where the default is one.
    """
    try:
        inspect.signature(make).bind(*args, **options)
    except TypeError as error:
        takes = list(inspect.signature(make).parameters)[len(args):]
        raise InputError(f'{what}: {error}; its options are {", ".join(takes) or "none"}') from error
    for name, value in options.items():
        parameter = inspect.signature(make).parameters.get(name)
        if parameter is not None and _is_number(parameter.default) and not _is_number(value):
            raise InputError(f'{what}: {name}={value!r}: expected a number')
    return make(*args, **options)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)

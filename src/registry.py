"""Registries: names to classes or functions that are imported when they are asked for.

A table holds 'module.Name' strings, so that reading flags, whose choices are the tables' names, does not import
MindSpore.
"""
from importlib import import_module
from typing import Any, Dict

from src.errors import InputError


def load(package: str, table: Dict[str, str], name: str, what: str) -> Any:
    """What `table` has under `name`.

    Args:
        package: where the modules of the table are, for example 'src.losses'.
        table: name -> 'module.Name', the module relative to the package.
        name: what is asked for.
        what: the flag or entry that asks, for the error.

    Raises:
        InputError: the table has no such name; the line lists those it has.
    """
    if name not in table:
        raise InputError(f'{what}={name}: choose one of {", ".join(table)}')
    module, _, attribute = table[name].rpartition('.')
    return getattr(import_module(f'{package}.{module}'), attribute)

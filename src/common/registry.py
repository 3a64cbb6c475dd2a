"""Registries: names to types or functions that are imported when they are asked for.

A table holds 'module.Name' strings, so that reading flags, whose choices are the tables' names, does not import MindSpore.
"""
import ast
import inspect
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from src.common.errors import InputError


class Option(NamedTuple):
    """An option of a constructor: its annotation as it is written ('' for none) and its default."""
    annotation: str
    default: Any


def loader(package: str, table: Mapping[str, str], what: str) -> Callable[[str], Any]:
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


@lru_cache(maxsize=None)
def options_of(target: str) -> Dict[str, Option]:
    """The options with a default of a type or function, read from its source without importing it.

    Args:
        target: 'package.module.Name'. A type without a constructor of its own has that of its first base, which is looked
            for in the same module, or where that module imports it from.

    Raises:
        ValueError: the module has no such name.
    """
    module, _, name = target.rpartition('.')
    spec = find_spec(module)
    tree = ast.parse(Path(str(spec and spec.origin)).read_text(encoding='utf-8'))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            found: Optional[ast.FunctionDef] = node if isinstance(node, ast.FunctionDef) else next(
                (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == '__init__'), None)
            if found:
                return _defaults(found)
            bases = [base.id for base in getattr(node, 'bases', ()) if isinstance(base, ast.Name)]
            return options_of(f'{module}.{bases[0]}') if bases else {}
        if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
            return options_of(f'{node.module}.{name}') if str(node.module).startswith('src.') else {}
    raise ValueError(f'{module} has no {name}')


def _defaults(function: ast.FunctionDef) -> Dict[str, Option]:
    given = function.args
    positional: List[ast.arg] = [*given.posonlyargs, *given.args]
    pairs = [*zip(positional[len(positional) - len(given.defaults):], given.defaults),
             *((arg, default) for arg, default in zip(given.kwonlyargs, given.kw_defaults) if default is not None)]
    return {arg.arg: Option(ast.unparse(arg.annotation) if arg.annotation else '', _value(default)) for arg, default in pairs}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:  # no literal: its text
        return ast.unparse(node)


def create(make: Callable[..., Any], what: str, *args: Any, **options: Any) -> Any:
    """make(*args, **options).

    Raises:
        InputError: options that are not its own, with those that `what` takes; no number where the default is one.
    """
    parameters = inspect.signature(make).parameters
    try:
        inspect.signature(make).bind(*args, **options)
    except TypeError as error:
        takes = list(parameters)[len(args):]
        raise InputError(f'{what}: {error}; its options are {", ".join(takes) or "none"}') from error
    for name, value in options.items():
        if name in parameters and _is_number(parameters[name].default) and not _is_number(value):
            raise InputError(f'{what}: {name}={value!r}: expected a number')
    return make(*args, **options)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

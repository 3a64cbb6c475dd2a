"""Tables of names whose Python types and functions are imported when they are asked for.

A table holds 'module.Name' strings, so that reading flags, whose choices are the names in the tables, does not import
MindSpore.
"""
import ast
import inspect
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Collection, Dict, List, Mapping, NamedTuple, Optional, TypeVar

from src.common.errors import InputError

Row = TypeVar('Row')


def check_choice(names: Collection[str], name: str, what: str) -> None:
    """Raise InputError, naming `what`, the flag or entry, unless a name is one of `names`."""
    if name not in names:
        raise InputError(f'{what}={name}: choose one of {", ".join(names)}')


def lookup(table: Mapping[str, Row], name: str, what: str) -> Row:
    """Row of that name in a table; errors as of check_choice."""
    check_choice(table, name, what)
    return table[name]


def load(package: str, target: str) -> Any:
    """Import the type or function 'module.Name', with the module relative to the package, e.g. 'src.losses'."""
    module, _, attribute = target.rpartition('.')
    return getattr(import_module(f'{package}.{module}'), attribute)


def loader(package: str, table: Dict[str, str], what: str) -> Callable[[str], Any]:
    """Make a function name -> type or function for a table of targets; arguments and errors as for `load` and `lookup`."""
    return lambda name: load(package, lookup(table, name, what))


class Option(NamedTuple):
    """An option of a constructor: its annotation as written ('' if it has none) and its default (None if it has none)."""
    annotation: str
    default: Any


@lru_cache(maxsize=None)
def options_of(target: str) -> Dict[str, Option]:
    """Options of a type or function, read from its source without importing it.

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
    defaults: List[Optional[ast.expr]] = [None] * (len(positional) - len(given.defaults))
    pairs = [*zip(positional, [*defaults, *given.defaults]), *zip(given.kwonlyargs, given.kw_defaults)]
    return {arg.arg: Option(ast.unparse(arg.annotation) if arg.annotation else '', default and _value(default))
            for arg, default in pairs if arg.arg != 'self'}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:  # no literal: its text
        return ast.unparse(node)


def create(make: Callable[..., Any], what: str, *args: Any, **options: Any) -> Any:
    """make(*args, **options).

    Raises:
        InputError: an unknown option (names the options of `what`), or a value that is not a number though the default is.
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

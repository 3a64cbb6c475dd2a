"""Recipes: named sets of hyper-parameters, and how they are chosen and changed."""
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

from src.common.errors import InputError
from src.common.registry import Option, options_of
from src.losses import LOSSES, loss_kind
from src.networks import BACKBONES, HEADS, NETWORKS
from src.recipes.checks import check
from src.recipes.entries import ENTRIES, Entry, entries_of, without_removed
from src.recipes.systems import SYSTEMS, system_of
from src.recipes.types import Type, anything, of_annotation, real

Key = Tuple[str, str, str]
# One line on each recipe name, for --list_recipes.
PURPOSES = {
    'published': 'the settings that the published code used in fact',
    'paper': "DEM as in its paper: beta1 0.9 and L2 regularisation",
    'chosen': "ensemble of ranked networks and kernel ridge regression, chosen on the benchmark's val classes",
    'normalised': 'class normalisation as in the paper of Skorokhodov and Elhoseiny',
    'ranked': 'DEM trained to rank the seen classes by cosine, which also classifies',
    'paddle': 'as PaddleCV: the full set, two stages, counted in iterations',
    'small': 'from scratch on a CPU: small images, few classes of many images',
    'quick': 'from scratch on a CPU in a minute, for the drawings of scripts/quickstart.sh',
    'pretrained': 'MobileNetV2 from ImageNet weights: a classifier first, then a pair loss or CTL',
    'newer': 'ResNet50 from ImageNet weights on all of SOP, as published with newer losses; never run here',
}
# (dataset; loss or class semantics; name) -> entries. The first recipe of a dataset and loss is the default.
RECIPES: Dict[Key, Dict[str, Any]] = {
    key: recipe for row in SYSTEMS.values() for key, recipe in import_module(f'src.recipes.{row.recipes}').RECIPES.items()}
KINDS = ('element', 'pair')


class Component(NamedTuple):
    """The component that an `*_options` entry configures.

    entry: entry that names it. table, package: the components by name, and the package of their modules. filled: arguments
    of its constructor that the system fills in.
    """
    entry: str
    table: Mapping[str, Any]
    package: str
    filled: Tuple[str, ...] = ()


COMPONENTS = {
    'loss_options': Component('loss_name', LOSSES, 'src.losses', ('num_classes', 'embedding_size', 'num_instances')),
    'network_options': Component('network', NETWORKS, 'src.networks'),
    'backbone_options': Component('backbone', BACKBONES, 'src.networks'),
    'head_options': Component('head', HEADS, 'src.networks', ('in_channels',)),
}


class Recipe(Dict[str, Any]):
    """Hyper-parameters by name, as keys and attributes. A recipe is immutable; `changed` returns a new one."""

    def __init__(self, entries: Mapping[str, Any]):
        super().__init__({name: Recipe(value) if isinstance(value, dict) else value for name, value in entries.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f'the recipe has no entry {name}') from None

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError('a recipe is immutable; use Recipe.changed')

    __setattr__ = __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = _refuse

    def __deepcopy__(self, memo: Any) -> 'Recipe':
        return self

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (dict(self),)

    def changed(self, changes: Mapping[str, Any]) -> 'Recipe':
        """Copy with entries {name or DICT.OPTION: value} changed. Raises InputError as make_recipe."""
        return _changed(self, as_changes(changes))


class Change(NamedTuple):
    """One change of a recipe.

    entry: name of the entry, DICT.OPTION, or a name of DERIVED. value: of the entry's type, or command-line text if `text`
    is set. word: the user's text, for errors. lenient: whether a recipe without the entry ignores the change. whole: whether it
    is one of a whole recipe, whose entries need not all have an effect.
    """
    entry: str
    value: Any
    word: str
    text: bool = False
    lenient: bool = False
    whole: bool = False


Changes = Union[Mapping[str, Any], Sequence[Change]]


def as_changes(changes: Changes) -> List[Change]:
    """Convert changes to a list; those of a mapping {name or DICT.OPTION: value} appear as `name=value` in errors."""
    if not isinstance(changes, Mapping):
        return list(changes)
    return [Change(name, value, f'{name}={value!r}') for name, value in changes.items()]


class Derived(NamedTuple):
    """A flag whose changes depend on other entries: its type, its system, and (value, entries) -> changes."""
    type: Type
    system: str
    changes: Any


def _embedding(width: int, entries: Mapping[str, Any]) -> Dict[str, Any]:
    if entries['head'] == 'embedding':
        return {'head_options.embedding_size': width}
    if width:
        return {'head': 'linear', 'head_options': {'embedding_size': width}}
    # The other heads have no such layer.
    return {'head': 'none'} if entries['head'] == 'linear' else {}


DERIVED = {
    'embedding_size': Derived(of_annotation('int'), 'metric_learning', _embedding),
    'identities': Derived(of_annotation('int'), 'reid', lambda count, entries: {
        'batch_size': count * entries['samples_each_class']}),
    'resample': Derived(ENTRIES['run_eval'].type, 'reid', lambda counts, _: {
        'small_classes': 'repeat' if counts else 'mask'}),
}


def choose(dataset: str, choice: Optional[str] = None, name: Optional[str] = None) -> Tuple[Key, str]:
    """Choose from RECIPES the recipe called `name`, or the first for this dataset and this loss or class semantics.

    Args:
        dataset: one of DATASETS. choice: loss, or class semantics (att, word or fusion); None for the system's default.
        name: one of PURPOSES; None for the default.

    Returns:
        (key of RECIPES, in a few words why it was chosen).

    Raises:
        InputError: no such recipe; the message lists the available ones.
    """
    row = SYSTEMS[system_of(dataset)]
    choice = choice or row.default
    table = next(one for one in (dataset, *row.datasets) if any(key[0] == one for key in RECIPES))
    keys = [key for key in RECIPES if key[:2] == (table, choice)]
    own = {key[2] for key in keys}
    whose = f'{dataset} {choice}'
    if row.choice == 'loss_name':
        kind = loss_kind(choice)
        if not keys:
            whose = f'{dataset} and losses of kind {kind}, as {choice} is'
        keys += [key for key in RECIPES if key[:2] == (table, kind) and key[2] not in own]
    if not keys:
        there = dict.fromkeys(other for one, other, _ in RECIPES if one == table and other not in KINDS)
        raise InputError(f'--{row.choice}={choice}: for {dataset} there are {", ".join(there)}')
    for key in keys:
        if name in (None, key[2]):
            return key, f'the default for {whose}' if name is None else 'given by --recipe'
    raise InputError(f'--recipe={name}: for {whose} there are {", ".join(key[2] for key in keys)}')


def make_recipe(dataset: str, choice: Optional[str] = None, name: Optional[str] = None, changes: Changes = ()) -> Recipe:
    """Make a recipe of RECIPES, with changes.

    Args:
        dataset, choice, name: see `choose`.
        changes: {name or DICT.OPTION: value}, or a list of Change, applied in order after those that choose a component.

    Raises:
        InputError: no such recipe, entry or option, or a value of another type or out of range.
    """
    system, row = system_of(dataset), SYSTEMS[system_of(dataset)]
    key, _ = choose(dataset, choice, name)
    of_loss = LOSSES[choice or row.default].entries if row.choice == 'loss_name' else {}
    base = {**_defaults(system), **RECIPES[key], **of_loss, 'system': system, 'dataset': dataset, 'recipe': key[2],
            row.choice: choice or row.default}
    return _changed(base, as_changes(changes))


def read_recipe(values: Any, where: str) -> Recipe:
    """Check a stored recipe; entries added since have their defaults, and entries removed since are left out.

    Raises:
        InputError: naming `where` and the entry: no recipe, an unknown or removed entry, or a value of another type or out of
            range.
    """
    system = values.get('system') if isinstance(values, dict) else None
    if not isinstance(system, str) or system not in SYSTEMS or not isinstance(values.get('dataset'), str):
        raise InputError(f'{where}: holds no recipe of this project')
    values = without_removed(values, where)
    entries = {**_defaults(system), **values}
    known = entries_of(system)
    for name, value in values.items():
        if name not in known:
            raise InputError(f'{where}: the recipe has an unknown entry {name}{_nearest(name, known)}')
        entries[name] = _read(Change(name, value, f'{where}: {name}'), known[name].type)
    for name in COMPONENTS:
        for option, value in entries.get(name, {}).items():
            change = Change(f'{name}.{option}', value, f'{where}: {name}.{option}')
            _read(change, _option_type(change, entries))
    return Recipe(entries)


def use_recipe(saved: Recipe, changes: Changes = (), dataset: Optional[str] = None, mode: Optional[str] = None) -> Recipe:
    """Make the recipe with which to use a checkpoint: its own, with changes that leave the network as it is.

    Args:
        saved: the checkpoint's recipe, from read_recipe. changes: as for make_recipe.
        dataset: dataset to measure on, None for the checkpoint's. mode: the class semantics it must have been trained for.

    Raises:
        InputError: another dataset or mode than it was trained for, or see make_recipe.
    """
    if dataset and dataset != saved.dataset:
        row = SYSTEMS[saved.system]
        if not (row.transfers and dataset in row.datasets):
            raise InputError(f'--dataset={dataset}: the checkpoint was trained for {saved.dataset}')
        saved = Recipe({**saved, 'dataset': dataset})
    if mode and 'train_mode' not in saved:
        raise InputError(f'--train_mode={mode}: is not for {saved.dataset}; remove it')
    if mode and mode != saved.train_mode:
        raise InputError(f'--train_mode={mode}: the checkpoint was trained for {saved.train_mode}')
    return _changed(saved, as_changes(changes), fixed=True)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Tuple[str, Any, Any]]:
    """Yield (entry or DICT.OPTION, stored value, value now) where a stored recipe learns differently from this one.

    Entries that may change on resume do not count, nor entries added since, if they are at their defaults.
    """
    defaults = {name: entry.default for name, entry in ENTRIES.items()}
    for name in sorted(set(then) | set(now)):
        before, after = then.get(name, defaults.get(name)), now.get(name)
        if name in ENTRIES and ENTRIES[name].run or before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield from ((f'{name}.{option}', before.get(option), after.get(option)) for option in sorted({*before, *after})
                        if before.get(option) != after.get(option))
        else:
            yield name, before, after


def _defaults(system: str) -> Dict[str, Any]:
    return {name: entry.default for name, entry in entries_of(system).items()}


def _changed(base: Mapping[str, Any], changes: Sequence[Change], fixed: bool = False) -> Recipe:
    """Apply changes to base. fixed: refuse changes of the network."""
    entries = {name: dict(value) if isinstance(value, dict) else value for name, value in base.items()}
    given: Dict[str, str] = {}
    implied: Dict[str, Any] = {}
    whole: Set[str] = set()
    for change in sorted(changes, key=_turn):
        for one in _derived(change, entries):
            name = one.entry.partition('.')[0]
            if name not in entries:
                if one.lenient:
                    print(f'{one.word.partition("=")[0]}: has no effect for {entries["dataset"]}')
                    continue
                raise InputError(_no_entry(one, entries))
            _set(entries, one, fixed)
            given[one.entry] = one.word
            (whole.add if one.whole else whole.discard)(one.entry)
            if entries[name] and name in ENTRIES:
                implied.update(ENTRIES[name].implies)
    for name, value in implied.items():
        if name not in given and name in entries:
            entries[name] = value
    check(entries, {entry: word for entry, word in given.items() if entry not in whole}, base)
    for name in ('kernel_candidates', 'candidates'):
        for one in (one for several in entries.get(name, ()) for one in several):
            _changed({**entries, 'kernel_candidates': [], 'candidates': []},
                     [Change(entry, value, f'{name}: {entry}={value!r}') for entry, value in one.items()])
    return Recipe(entries)


def _turn(change: Change) -> int:
    """Sort key: components before their options; identities last, since they depend on other entries."""
    return 0 if change.entry in {row.entry for row in COMPONENTS.values()} else 2 if change.entry == 'identities' else 1


def _derived(change: Change, entries: Mapping[str, Any]) -> List[Change]:
    rule = DERIVED.get(change.entry)
    if rule is None:
        return [change]
    if entries['system'] != rule.system:
        raise InputError(f'{change.word.partition("=")[0]}: is for {SYSTEMS[rule.system].title}; it has no effect for '
                         f'{entries["dataset"]}')
    value = _read(change, rule.type)
    return [Change(entry, one, change.word) for entry, one in rule.changes(value, entries).items()]


def _set(entries: Dict[str, Any], change: Change, fixed: bool) -> None:
    name, _, option = change.entry.partition('.')
    if option:
        if not isinstance(entries[name], dict):
            raise InputError(f'{change.word}: {name} has no options')
        entries[name][option] = _read(change, _option_type(change, entries))
        return
    entry: Entry = ENTRIES[name]
    value = _read(change, entry.type)
    if fixed and entry.network and value != entries[name]:
        raise InputError(f'{change.word}: the checkpoint was trained for {entries[name]}')
    if name in COMPONENTS:
        value = {option: _read(change._replace(value=one, text=False), _option_type(
            change._replace(entry=f'{name}.{option}'), {**entries, name: {}})) for option, one in value.items()}
    # Options that another backbone does not have are dropped.
    if name == 'backbone' and value != entries[name]:
        known = component_options('backbone_options', value)
        entries['backbone_options'] = {option: one for option, one in entries['backbone_options'].items() if option in known}
    if name == 'head' and value != entries[name]:
        entries['head_options'] = {}
    entries[name] = value


def _read(change: Change, kind: Type) -> Any:
    try:
        return kind.parse(change.value) if change.text else kind.read(change.value)
    except ValueError as error:
        raise InputError(f'{change.word}: {error}') from error


def _option_type(change: Change, entries: Mapping[str, Any]) -> Type:
    """Type of an option; InputError if the component has no such option."""
    name, _, option = change.entry.partition('.')
    now = entries[name]
    if name not in COMPONENTS:
        if option not in now:
            raise InputError(f'{change.word}: {name} has no option {option}; its options are {", ".join(now) or "none"}')
        return anything if isinstance(now[option], dict) else real().or_none() if name == 'kernel_options' else (
            real() if isinstance(now[option], float) else anything)
    component = entries[COMPONENTS[name].entry]
    known = component_options(name, component)
    if option not in known and option not in now:
        owner = f'--loss_name={component}' if name == 'loss_options' else f'{COMPONENTS[name].entry} {component}'
        raise InputError(f'{change.word.partition("=")[0] if change.word[:6] != "--set=" else change.word}: is not an option '
                         f'of {owner}; its options are {", ".join({**known, **now}) or "none"}')
    found = known.get(option) or Option('', now.get(option))
    return of_annotation(found.annotation or _annotation(found.default))


def component_options(entry: str, component: str) -> Dict[str, Option]:
    """Options of the component that an `*_options` entry configures, by name."""
    row = COMPONENTS[entry]
    target = row.table[component]
    found = {name: option for name, option in options_of(f'{row.package}.{getattr(target, "target", target)}').items()
             if name not in row.filled}
    if entry == 'network_options':
        found.update({name: Option('', value) for name, value in NETWORKS[component].options.items()})
    return found


def _annotation(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f'Sequence[{type(value[0]).__name__ if value else "Any"}]'
    return type(value).__name__


def _no_entry(change: Change, entries: Mapping[str, Any]) -> str:
    name = change.entry.partition('.')[0]
    word = change.word if change.word.startswith('--set=') else change.word.partition('=')[0]
    if name in ENTRIES:
        return f'{word}: has no effect on recipe `{entries["recipe"]}` for {entries["dataset"]}; remove it'
    return f'{word}: no recipe has an entry {name}{_nearest(name, entries)}'


def _nearest(name: str, names: Any) -> str:
    near = get_close_matches(name.lower(), list(names), 1)
    return f'; did you mean {near[0]}?' if near else ''


def describe(recipe: Mapping[str, Any]) -> str:
    """All entries of a recipe, one per line, in alphabetical order."""
    return '\n'.join(f'{name} = {value!r}' for name, value in sorted(recipe.items()))


def list_recipes() -> str:
    """Names of the recipes, each with its purpose, datasets and losses; then the losses of each kind."""
    lines = []
    for name in dict.fromkeys([*PURPOSES, *(key[2] for key in RECIPES)]):
        lines.append(f'{name:14}{PURPOSES.get(name, "")}'.rstrip())
        for table in dict.fromkeys(key[0] for key in RECIPES):
            choices = [choice for dataset, choice, other in RECIPES if dataset == table and other == name]
            if choices:
                lines.append(f'{"":14}{table}: {", ".join(choices)}')
    lines += [f'every {kind} loss: {", ".join(name for name in LOSSES if loss_kind(name) == kind)}' for kind in KINDS]
    return '\n'.join([*lines, 'lists: re-identification; --train_list'])

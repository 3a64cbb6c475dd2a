"""Parse a command line into the options of a door and the changes of a recipe, in the order written."""
import argparse
import json
import re
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from easydict import EasyDict

from src import __version__
from src.common.errors import InputError
from src.common.values import Parser, device_of_environment
from src.recipes.entries import ENTRIES, USED, without_removed
from src.recipes.flags import FLAGS, TRAIN, Flag
from src.recipes.recipe import DERIVED, Change, Recipe, as_changes, choose, list_recipes, make_recipe, use_recipe
from src.recipes.systems import DATASETS, SYSTEMS, system_of
from src.recipes.types import Type, boolean, literal, text

# Entries that choose a recipe and cannot be changed by --set.
CHOOSES = ('system', 'dataset', 'loss_name', 'recipe', 'train_mode')
# The beginning of --help: what a door does, and a short command.
PURPOSES = {
    'train': 'Train a network. --dataset selects the system; without it, metric learning on the images of --dataset_path.\n'
             '  python train.py --dataset_path=/data/photos --recipe=small --save_ckpt=output',
    'eval': 'Measure a network on the test data of its recipe, or on --dataset_path, --data_path or --query and --gallery.\n'
            '  python eval.py --dataset_path=/data/photos --ckpt_path=output',
    'export': 'Write a network as MINDIR, ONNX or AIR, and compare its output with that of the checkpoint.\n'
              '  python export.py --ckpt_file=output --file_format=ONNX --batch_size=0',
    'infer': 'Write the embeddings of images, search in them, or name the classes of images.\n'
             '  python infer.py --ckpt_file=output --dataset_path=/data/photos --output=gallery.npy\n'
             '  python infer.py --ckpt_file=output --query=photo.jpg --gallery=gallery.npy'}


class Written(NamedTuple):
    """A flag on the command line: its row in FLAGS, the name used and the text of its value."""
    flag: Flag
    name: str
    value: str

    @property
    def word(self) -> str:
        """Name of the flag in error messages."""
        return self.name if self.flag.switch else f'{self.name}={self.value}'


@dataclass(frozen=True)
class Command:
    """A parsed command line.

    options: values that the door itself uses, by the first name of the flag. changes: changes of the recipe, in the order
    written. given: first names of the flags that were given.
    """
    door: str
    options: Any
    changes: List[Change]
    given: Tuple[str, ...]

    def make_recipe(self) -> Recipe:
        """Make the recipe that the flags choose. Raises InputError: no system, or see src.recipes.recipe.make_recipe."""
        return make_recipe(*self._chosen(), self.changes)

    def recipe_for(self, saved: Optional[Recipe], source: str, told: Mapping[str, Any]) -> Recipe:
        """Make the recipe with which to use trained weights.

        Args:
            saved: the recipe stored with the weights, or None; then the flags choose it.
            source: origin of weights without a recipe, see src.checkpoints.weights.Weights; Paddle's use recipe `paddle`.
            told: entries that override the recipe's and that flags override.

        Raises:
            InputError: see make_recipe and src.recipes.recipe.use_recipe.
        """
        if saved is not None:
            if self.options.recipe not in (None, saved.recipe):
                raise InputError(f'--recipe={self.options.recipe}: has no effect: the weights were trained with recipe '
                                 f'{saved.recipe}; remove it')
            return use_recipe(saved, self.changes, self.options.dataset, self.options.train_mode)
        dataset, choice, name = self._chosen()
        if told and not SYSTEMS[system_of(dataset)].images:
            raise InputError(f'--dataset={dataset}: has no images, but the network takes images; leave it out')
        for change in self.changes:
            if told and not change.whole and change.entry.partition('.')[0] not in USED['exported']:
                raise InputError(f'{change.word}: has no effect on an exported model; remove it')
        name = name or ('paddle' if source == 'paddle' else None)
        return make_recipe(dataset, choice, name, [*as_changes(told), *self.changes])

    def why(self) -> str:
        """One line that says which recipe was chosen and why."""
        dataset, choice, name = self._chosen()
        key, why = choose(dataset, choice, name)
        return f'recipe {key[2]} of {dataset} {choice}: {why}'

    def _chosen(self) -> Tuple[str, str, Optional[str]]:
        options = self.options
        dataset = options.dataset or self._suggested()
        row = SYSTEMS[system_of(dataset)]
        for other in {'loss_name', 'train_mode'} - {row.choice}:
            if options.get(other):
                raise InputError(f'--{other}={options[other]}: has no effect for {dataset}; '
                                 + ('--recipe chooses its loss' if other == 'loss_name' else 'remove it'))
        choice = options.get(row.choice) or row.default
        for flag in FLAGS:
            if flag.loss not in ('', choice) and flag.attribute in self.given:
                raise InputError(f'{flag.names[0]}: is for --loss_name={flag.loss}; --set {flag.sets} is for all losses')
        return dataset, choice, options.recipe

    def _suggested(self) -> str:
        """Dataset that the given flags suggest."""
        suggested = {flag.suggests for flag in FLAGS if self.door in flag.doors and flag.attribute in self.given}
        if 'lists' in suggested:
            return 'lists'
        if 'SOP' in suggested and 'none' not in suggested:
            return 'SOP'
        named = ', '.join(name for name in DATASETS if name not in ('SOP', 'lists'))
        raise InputError(f'which system? Give --dataset ({named}), --train_list or --dataset_path, the folder of images')


class _Append(argparse.Action):
    """Keep the flags in the order written."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Optional[str] = None) -> None:
        name = str(option_string)
        # CTL's names have no dashes.
        name = name[2:] if name[2:] in self.const.names else name
        namespace.written.append(Written(self.const, name, values if isinstance(values, str) else ''))


def _dashed(name: str) -> str:
    return name if name.startswith('--') else f'--{name}'


def _type_of(flag: Flag) -> Type:
    """Type of the value of a flag."""
    if flag.type:
        return flag.type
    row = ENTRIES.get(str(flag.sets)) or DERIVED.get(str(flag.sets))
    return row.type if row else text


def _create_parser(door: str, values: Optional[Mapping[str, Any]] = None) -> Parser:
    """Create the parser of a door. values: entries of a recipe, which --help then shows."""
    parser = Parser(prog=f'{door}.py', usage=f'python {door}.py [FLAG ...]', description=PURPOSES[door], allow_abbrev=False,
                    add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-h', '--help', action='store_true', help='print this text and exit; with --dataset, --loss_name or '
                                                                  '--recipe, with the values of that recipe')
    groups: Dict[str, Any] = {}
    for flag in FLAGS:
        if door not in (*flag.doors, *flag.idle):
            continue
        group = groups.setdefault(flag.group, None) or parser.add_argument_group(flag.group)
        groups[flag.group] = group
        line = flag.help or ENTRIES[str(flag.sets)].purpose
        name, _, option = (flag.sets or '').partition('.')
        now = (values or {}).get(name)
        now = now.get(option) if option and isinstance(now, dict) else now
        line += '' if now is None else f' [{now}]'
        choices = _type_of(flag).choices
        metavar = ('{%s}' % ','.join(choices) if choices and len(choices) < 6 else 'NAME' if choices
                   else 'ENTRY=VALUE' if flag.names == ('--set',) else flag.names[0].lstrip('-').upper())
        more = {'nargs': 0} if flag.switch else {'metavar': metavar}
        group.add_argument(*map(_dashed, flag.names), action=_Append, const=flag, dest='written', help=line.replace('%', '%%'),
                           **more)
    return parser


def _with_dashes(argv: Sequence[str], door: str) -> List[str]:
    """Turn CTL's NAME VALUE pairs into flags."""
    names = {name for flag in FLAGS if door in (*flag.doors, *flag.idle) for name in flag.names if not name.startswith('--')}
    # The published commands have blanks after some of the backslashes that join their lines.
    words = [word.strip() if word.strip()[:2] in ('', '--') else word for word in argv]
    words, out = [word for word in words if word], []
    while words:
        word = words.pop(0)
        if word not in names:
            out.append(word)
            continue
        if not words or words[0].startswith('--'):
            raise InputError(f'{word}: needs a value after it')
        out.append(f'--{word}={words.pop(0)}')
    return out


def parse_args(door: str, argv: Optional[Sequence[str]] = None) -> Command:
    """Read the flags of one door; --help, --version and --list_recipes print and exit.

    Args:
        door: 'train', 'eval', 'export' or 'infer'.
        argv: the arguments; None for those of this process.

    Raises:
        InputError: an unknown flag, a bad value, or a bad --config_path.
    """
    parser = _create_parser(door)
    parser.set_defaults(written=[])
    words = _with_dashes(sys.argv[1:] if argv is None else argv, door)
    args, unknown = parser.parse_known_args(words, argparse.Namespace(written=[]))
    if unknown:
        raise InputError(f'unrecognized arguments: {" ".join(unknown)}' + _nearest_flag(unknown[0], door))
    command = _command(door, args.written)
    if args.help:
        shown = {'dataset', 'loss_name', 'recipe', 'train_list', 'config_path'} & set(command.given)
        _create_parser(door, command.make_recipe() if shown else None).print_help()
        raise SystemExit(0)
    if command.options.version:
        print(__version__)
        raise SystemExit(0)
    if command.options.list_recipes:
        print(list_recipes())
        raise SystemExit(0)
    device_of_environment()  # before MindSpore is imported, which reads it too
    return command


def _command(door: str, written: Sequence[Written]) -> Command:
    """Make a Command of flags in their order; the files of --config_path come before all flags."""
    configs = [one.value for one in written if one.flag.names[0] == '--config_path']
    changes: List[Change] = []
    from_files = [item for path in configs for item in _read_config(path, door)]
    changes += [item for item in from_files if isinstance(item, Change)]
    options = EasyDict({flag.attribute: False if flag.switch else flag.default for flag in FLAGS
                        if door in flag.doors and not (flag.sets or flag.names == ('--set',))})
    given = []
    for one in [item for item in from_files if isinstance(item, Written)] + list(written):
        flag = one.flag
        given.append(flag.attribute)
        if door not in flag.doors:
            print(f'{one.name}: has no effect in {door}.py')
        elif flag.names == ('--set',):
            changes.append(_set_change(one.value, door))
        elif flag.sets is None:
            options[flag.attribute] = True if flag.switch else _value(one)
        else:
            # The type of a component's option, DICT.OPTION, depends on the recipe.
            value = True if flag.switch else one.value if '.' in flag.sets else _value(one)
            changes.append(Change(flag.sets, value, one.word, '.' in flag.sets, door in flag.lenient))
    return Command(door, options, changes, tuple(given))


def _value(one: Written) -> Any:
    try:
        return _type_of(one.flag).parse(one.flag.spelling(one.value))
    except ValueError as error:
        raise InputError(f'{one.word}: {error}') from error


def _set_change(word: str, door: str) -> Change:
    entry, equals, value = word.partition('=')
    if not equals or not entry:
        raise InputError(f'--set={word}: expected ENTRY=VALUE')
    if entry in CHOOSES:
        raise InputError(f'--set={word}: {entry} chooses the recipe; give --{entry}')
    if entry in DERIVED:
        raise InputError(f'--set={word}: is not an entry; give --{entry}')
    if entry.partition('.')[0] in set(ENTRIES) - USED[door]:
        raise InputError(f'--set={word}: has no effect in {door}.py; remove it')
    return Change(entry, value, f'--set={word}', text=True)


def _nearest_flag(word: str, door: str) -> str:
    names = [_dashed(name) for flag in FLAGS if door in (*flag.doors, *flag.idle) for name in flag.names]
    written = '--' + word.lstrip('-').partition('=')[0].replace('-', '_')
    others = dict.fromkeys(f'{other}.py' for flag in FLAGS if written in flag.names for other in flag.doors)
    if others and written not in names:
        return f' ({written} is a flag of {", ".join(others)})'
    near = get_close_matches(written.lower(), names, 1, 0.75)
    return f' (did you mean {near[0]}?)' if near else ''


def _read_config(path: str, door: str) -> List[Any]:
    """Read a file of --config_path: a Change for every entry, a Written for every other flag.

    Raises:
        InputError: no such file, neither YAML nor JSON, or a key that is neither an entry nor a flag.
    """
    table = _read_table(path)
    whole = isinstance(table.get('recipe'), dict)
    if whole:  # the result.json of a training
        table = without_removed(table['recipe'], f'--config_path={path}')
    flags = {name.lstrip('-'): (flag, name) for flag in FLAGS if door in flag.doors for name in flag.names}
    row = SYSTEMS.get(str(table.get('system')))
    said: List[Any] = []
    for key, value in table.items():
        word = f'--config_path={path}: {key}'
        if key == 'system':
            continue
        if key in ('dataset', 'recipe', 'loss_name', 'train_mode') and not (row and key == 'loss_name' != row.choice):
            if key in flags:
                said.append(Written(flags[key][0], word, str(value)))
        elif key.partition('.')[0] in ENTRIES:
            said.append(Change(key, value, f'{word}={value}', text=isinstance(value, str), whole=whole or door != TRAIN))
        elif key in flags and flags[key][0].switch:
            try:
                said += [Written(flags[key][0], word, '')] * boolean.read(value)
            except ValueError as error:
                raise InputError(f'{word}={value}: expected true or false') from error
        elif key in flags and value is not None:
            said.append(Written(flags[key][0], word, str(value)))
        elif key not in flags:
            near = get_close_matches(key, [*ENTRIES, *flags], 1)
            raise InputError(f'{word}: no such entry or flag' + (f'; did you mean {near[0]}?' if near else ''))
    return said


def _load_yaml(path: str, content: str) -> Any:
    """Load YAML whose words are read as on the command line: YAML takes 012 for 10, 1_2 for 12 and 1:30 for 90."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: Dict[str, Any] = {}

        def construct_mapping(self, node: Any, deep: bool = False) -> Dict[str, Any]:
            return _table_of(path, [tuple(self.construct_object(one, deep=True) for one in pair) for pair in node.value])

    Loader.add_implicit_resolver('tag:yaml.org,2002:null', re.compile('(~|null|Null|NULL|)$'), None)
    Loader.add_implicit_resolver('tag:yaml.org,2002:bool', re.compile('(true|True|TRUE|false|False|FALSE)$'), None)
    table = yaml.load(content, Loader)  # noqa: S506 - a SafeLoader
    return {key: _literals(value) for key, value in table.items()} if isinstance(table, dict) else table


def _literals(value: Any, inside: bool = False) -> Any:
    """Value of YAML whose words inside lists and tables are parsed; a word alone is parsed by the type of its entry."""
    if isinstance(value, dict):
        return {key: _literals(one, True) for key, one in value.items()}
    if isinstance(value, list):
        return [_literals(one, True) for one in value]
    return literal(value) if inside and isinstance(value, str) else value


def _table_of(path: str, pairs: Sequence[Tuple[Any, Any]]) -> Dict[Any, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise InputError(f'--config_path={path}: names {max(names, key=names.count)} twice; remove one')
    return table


def _read_table(path: str) -> Dict[str, Any]:
    try:
        content = Path(path).read_text(encoding='utf-8')
    except (OSError, ValueError) as error:
        raise InputError(f'--config_path={path}: cannot be read: {getattr(error, "strerror", "no text")}') from error
    try:
        if path.endswith('.json'):
            table = json.loads(content, object_pairs_hook=partial(_table_of, path))
        else:
            table = _load_yaml(path, content)
    except ImportError as error:
        raise InputError(f'--config_path={path}: needs PyYAML: pip install pyyaml, or give a .json') from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f'--config_path={path}: not valid JSON; check its commas and quotes') from error
    except Exception as error:  # yaml's own types, which are imported with it
        raise InputError(f'--config_path={path}: not valid YAML: {" ".join(str(error).split())}') from error
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise InputError(f'--config_path={path}: expected a table of names and values')
    return table

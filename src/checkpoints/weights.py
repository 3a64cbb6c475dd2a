"""Weight files: read once, then loaded into a network parameter by parameter.

Formats: MindSpore checkpoints (.ckpt; this project's hold the record of their training), .safetensors, PyTorch's .pth,
.pt, .pth.tar and Lightning's .ckpt, and Paddle's .pdparams or folder of one file a parameter. Parameters are named as in
MindSpore's model zoo, torchvision, PaddleCV or CTL, all of them possibly behind one of PREFIXES.
"""
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Container, Dict, Iterable, List, Optional, Sequence, Set, Tuple, Union

import mindspore as ms
import numpy as np

from src.checkpoints.checkpoint import (
    Recorded,
    check_values,
    find_checkpoint,
    load_ckpt,
    quiet_mindspore,
    read_recorded,
)
from src.checkpoints.paddle_files import read_folder
from src.checkpoints.pickled import is_pickled, read_pdparams, read_pth
from src.common.arrays import Array
from src.common.errors import InputError
from src.common.files import is_failed_download
from src.networks import backbone_class
from src.networks.backbone import Backbone

OF_TORCH = ('.pth', '.pt', '.pth.tar')
SUFFIXES = ('.ckpt', '.safetensors', *OF_TORCH, '.pdparams')
# Names of the modules that wrap a network in other projects.
PREFIXES = ('module.', '_orig_mod.', 'network.', 'model.', 'backbone.', 'base.', 'encoder.')
# First component of the names of parameters to which a head is fitted after each training.
FITTED = 'whitening'
# That, and first components of the names that optimizers, losses, loss scaling and the loop add to a checkpoint.
TRAINING_STATE = {'moment1', 'moment2', 'moments', 'accum', 'stat', 'beta1_power', 'beta2_power', 'learning_rate',
                  'momentum', 'global_step', 'epoch_num', 'step_num', 'loss', 'loss_scale', 'scale_sense',
                  'current_iterator_step', 'last_overflow_iterator_step', 'index_var', FITTED,
                  'center_loss', 'fc_query'}  # the last two are CTL's
# metric_learn's classifier of the training classes has no layer's name.
BARE_HEAD = ('weight', 'bias')
# ImageNet classifiers of torchvision and of the MindSpore model zoo.
CLASSIFIERS = {'fc', 'classifier', 'end_point'}
# Paddle's classifiers, and what its optimizers add; learning rates of several groups of parameters are MindSpore's.
PADDLE_HEAD = re.compile(r'(fc_\d+|weight_norm)\.(w|b)_0')
PADDLE_STATE = re.compile(r'.*_(velocity|moment1|moment2|beta1_pow_acc|beta2_pow_acc)_\d+|learning_rate_(?:group_)?\d+|@.*@')
CTL_NECK = 'bn'
BATCH_NORM = {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'moving_mean', 'running_var': 'moving_variance',
              '_mean': 'moving_mean', '_variance': 'moving_variance'}


@dataclass(frozen=True, eq=False)
class Weights:
    """The contents of a weight file.

    values: by their names in the file. recorded: the record of their training; None for weights of other projects.
    by_lightning: whether a .ckpt is Lightning's.
    """
    path: str
    values: Dict[str, Array]
    recorded: Optional[Recorded] = None
    by_lightning: bool = False

    @property
    def source(self) -> str:
        """The origin of the weights: 'mindspore', 'torchvision' or 'paddle'."""
        if self.by_lightning or self.path.endswith(('.safetensors', *OF_TORCH)):
            return 'torchvision'
        return 'mindspore' if self.path.endswith('.ckpt') else 'paddle'


@dataclass(frozen=True)
class Report:
    """Result of load_weights, as sorted names of parameters. str() is one line.

    loaded: parameters of the network that were set. dropped: parameters of the file that the network does not have.
    untouched: parameters of the network that keep their values. prefix: what was taken off the names of the file.
    """
    loaded: List[str]
    dropped: List[str]
    untouched: List[str]
    prefix: str = ''

    def __str__(self) -> str:
        parts = [f'{len(self.loaded)} parameters']
        parts += [f'{what}: {"; ".join(_groups(names))}'
                  for what, names in (('starting fresh', self.untouched), ('ignored', self.dropped)) if names]
        parts += [f'without {self.prefix} before their names'] * bool(self.prefix)
        return ', '.join(parts)


def read_weights(path: Union[str, Path]) -> Weights:
    """Read a weight file, a folder of Paddle's, or the last checkpoint in the folder of a training.

    The checksum of a .ckpt is compared if it has one.

    Raises:
        InputError: the file is missing, unreadable, damaged or of an unknown kind, or holds NaN or Inf; see read_recorded too.
    """
    weights = _read(Path(path))
    if not all(name.isprintable() for name in weights.values):
        raise InputError(f'{path}: damaged: names of weights are no text; give another file')
    check_values(weights.values, weights.path)
    return weights


def _read(path: Path) -> Weights:
    known = path.name.endswith(SUFFIXES)
    if path.is_dir() and not known:
        if not any(path.glob('*.ckpt')):
            return Weights(str(path), read_folder(path))
        path, known = find_checkpoint(path), True  # the folder of a training
    if not known:
        raise InputError(f'{path} is not a weight file: give one that ends in {", ".join(SUFFIXES)}, or a folder of '
                         "Paddle's")
    try:
        with path.open('rb') as file:
            start = file.read(32)
    except OSError as error:
        raise InputError(f'{path} cannot be opened ({error.strerror}): give an existing weight file') from error
    if is_failed_download(start):
        raise InputError(f'{path} is a web page or a Git LFS pointer instead of weights; download it again')
    if path.name.endswith(OF_TORCH):
        return Weights(str(path), read_pth(path))
    if path.suffix == '.ckpt' and is_pickled(path):
        return Weights(str(path), read_pth(path), by_lightning=True)
    if path.suffix == '.pdparams':
        values, names = read_pdparams(path)
        static = {name for name, of_program in names.items() if of_program.endswith(('_weights', '_scale'))}
        return Weights(str(path), {names[name]: value for name, value in values.items()} if static else values)
    with quiet_mindspore():
        try:
            if path.suffix == '.ckpt':
                loaded = load_ckpt(path)
            else:
                loaded = ms.load_checkpoint(str(path), format='safetensors')
            facts = loaded.pop('facts', None)
            arrays = {name: _to_numpy(value) for name, value in loaded.items()}
        except Exception as error:  # of several libraries
            raise InputError(f'{path} cannot be read as {path.suffix}: it is cut short, damaged, or holds something '
                             'else than named weights; give another file') from error
    return Weights(str(path), arrays, None if facts is None else read_recorded(facts, path))


def _to_numpy(value: Any) -> Array:
    if not isinstance(value, ms.Tensor):
        return np.asarray(value)
    return (value.astype(ms.float32) if value.dtype == ms.bfloat16 else value).asnumpy()


def conventions(backbone: str, weights: Weights) -> Dict[str, Any]:
    """Backbone options that the weights were trained with; other options change the output.

    Args:
        backbone: a key of BACKBONES, whose type knows the conventions of each source.
        weights: those of this project recorded their own.

    Returns:
        option -> value, for a ResNet padding and bn_eps; {} if nothing is known.

    Raises:
        InputError: no backbone has that name, or what the weights recorded is no table of options.
    """
    known: Dict[str, Dict[str, Any]] = backbone_class(backbone).conventions
    recorded = weights.recorded
    if recorded is None:
        return dict(known.get(weights.source, {}))
    names: Set[str] = set().union(*known.values())
    saved: Dict[str, Any] = {}
    for table, entry in ((recorded.recipe, 'network_options'), (recorded.recipe, 'backbone_options'),
                         (recorded.found, 'conventions')):
        options = table.get(entry, {})
        if not isinstance(options, dict):
            raise InputError(f'{weights.path}: record of its training: {entry} is no table; use the checkpoint as it was '
                             'written')
        saved.update({name: value for name, value in options.items() if name in names})
    return saved


def load_weights(network: ms.nn.Cell, weights: Union[Weights, str, Path], new_layers: Sequence[str] = ()) -> Report:
    """Set every parameter of a network. If anything does not fit, nothing changes.

    Names are compared without a leading `network.` or PREFIXES that all names of the file have, with MindSpore's names for
    the parameters of a BatchNorm, and as the network's backbone renames those of torchvision and PaddleCV. Dropped are
    training state (losses included), the classifier of the training classes, ImageNet classifiers that the network does not
    have, and PyTorch's num_batches_tracked. Network and file must have all other parameters in common.

    Args:
        network: its parameters receive the values, in their own dtype.
        weights: Weights, or the path to read them from. For the backbone options they need see conventions.
        new_layers: prefixes of names, for example ('embedding.', 'neck.'), which weights of a backbone alone do not
            have. If the file has no parameter with a prefix, or a head is fitted to it, the network's stay as they are;
            if the network has none, the file's are dropped.

    Raises:
        InputError: see read_weights; or names or shapes differ.
    """
    if not isinstance(weights, Weights):
        weights = read_weights(weights)
    targets = {p.name.removeprefix('network.'): p for p in network.get_parameters()}
    prefix = _prefix(weights.values, targets)
    values = _in_our_names({name.removeprefix(prefix): value for name, value in weights.values.items()}, network, targets)
    untouched = [name for name in targets for start in new_layers
                 if name.startswith(start) and (_is_dropped(name) or not any(given.startswith(start) for given in values))]
    dropped = [name for name in values if name in untouched or name not in targets
               and (name.startswith(tuple(new_layers)) or _is_dropped(name))]
    wanted, given = targets.keys() - set(untouched), values.keys() - set(dropped)

    problems = []
    for what, names, most in (('lacks', wanted - given, 4), ('has, unknown to the network,', given - wanted, 20)):
        if names:
            problems.append(f'it {what} {_some(sorted(names), most)}')
    reshaped = [f'{name} {tuple(np.shape(values[name]))} instead of {tuple(targets[name].shape)}'
                for name in sorted(wanted & given) if tuple(np.shape(values[name])) != tuple(targets[name].shape)]
    if reshaped:
        problems.append(f'it has of another shape {_some(reshaped, 4)}')
    whole = [f'{name} ({values[name].dtype})' for name in sorted(wanted & given) if values[name].dtype.kind != 'f']
    if whole:
        problems.append(f'it has no floating-point numbers in {_some(whole, 4)}')
    if problems:
        fitted = {name.split('.')[0] for name in wanted - given} == {FITTED}
        raise InputError(f'{weights.path} does not fit the network: {"; ".join(problems)}. Give the weights of this '
                         f'network{", or leave out the head that is fitted after training: --set head=none" * fitted}.'
                         + ' They have no record of their training: flags must describe their network.'
                         * (weights.recorded is None and not fitted))

    for name in wanted:
        targets[name].set_data(ms.Tensor(values[name], targets[name].dtype))
    return Report(sorted(wanted), sorted(dropped), sorted(untouched), prefix)


def _prefix(names: Iterable[str], targets: Container[str]) -> str:
    """Common prefix of the network's parameters in a file; training state, classifiers and CTL's neck may lack it."""
    prefix, names = '', [name for name in names if not _is_dropped(name) and name.split('.')[0] not in (CTL_NECK, 'neck')]
    while True:
        found = next((one for one in PREFIXES if names and all(name.startswith(one) for name in names)), None)
        if found is None or any(name in targets for name in names):
            return '' if prefix == 'network.' else prefix
        prefix, names = prefix + found, [name[len(found):] for name in names]


def classifier_of(weights: Weights) -> Optional[Tuple[Array, Optional[Array]]]:
    """The classifier of the training classes in the weights of a first stage.

    It is metric_learn's `weight` and `bias`, those of the loss in a training state of this project, or PaddleCV's last
    layer; not the classifier of ImageNet.

    Returns:
        (weight (C, D), bias (C,) or None), or None if there is none.
    """
    values = weights.values
    for weight, bias in (('weight', 'bias'), ('loss.weight', 'loss.bias'), ('weight_norm.w_0', '')):
        if weight in values and values[weight].ndim == 2:
            return values[weight], values.get(bias)
    last = max((found[1] for found in map(PADDLE_HEAD.fullmatch, values) if found), default='')
    if f'{last}.w_0' in values and f'{last}.b_0' in values:
        return np.ascontiguousarray(values[f'{last}.w_0'].T), values[f'{last}.b_0']
    return None


def load_classifier(loss: ms.nn.Cell, weights: Weights) -> bool:
    """Start a loss from the classifier in the weights, if that is all its parameters and the shapes are equal.

    Returns:
        whether it was started so.
    """
    found = classifier_of(weights)
    mine = {p.name.rpartition('.')[2]: p for p in loss.get_parameters()}
    values = {name: value for name, value in zip(BARE_HEAD, found or ()) if value is not None}
    if not values or {name: p.shape for name, p in mine.items()} != {name: v.shape for name, v in values.items()}:
        return False
    for name, value in values.items():
        mine[name].set_data(ms.Tensor(value, mine[name].dtype))
    return True


def _in_our_names(given: Dict[str, Array], network: ms.nn.Cell, targets: Dict[str, ms.Parameter]) -> Dict[str, Array]:
    """The values by the network's names. A module of the file that has a running mean is a BatchNorm."""
    # Mixed precision wraps the network.
    rename = next((cell.rename for _, cell in network.cells_and_names() if isinstance(cell, Backbone)), str)
    norms = {name.rpartition('.')[0] for name in given if name.endswith(('.running_mean', '._mean'))}
    renamed: Dict[str, Array] = {}
    for name, value in _embedding_of_paddle(given, targets).items():
        module, _, kind = name.rpartition('.')
        if module in norms:
            if kind == 'num_batches_tracked':
                continue
            name = f'{"neck" if module == CTL_NECK else module}.{BATCH_NORM.get(kind, kind)}'
        renamed[rename(name.removeprefix('network.'))] = value
    return renamed


def _embedding_of_paddle(given: Dict[str, Array], targets: Dict[str, ms.Parameter]) -> Dict[str, Array]:
    """The values, with Paddle's linear layer 0 as `embedding` if a classifier follows it or the network has its shape."""
    values = dict(given)
    if 'fc_0.w_0' in values and (
            {'fc_1.w_0', 'weight_norm.w_0'} & values.keys()
            or 'embedding.weight' in targets and targets['embedding.weight'].shape == values['fc_0.w_0'].T.shape):
        values['embedding.weight'] = np.ascontiguousarray(values.pop('fc_0.w_0').T)  # (in, out) there
        values['embedding.bias'] = values.pop('fc_0.b_0')
    return values


def _is_dropped(name: str) -> bool:
    return (name.split('.')[0] in TRAINING_STATE | CLASSIFIERS or name in BARE_HEAD
            or any(pattern.fullmatch(name) for pattern in (PADDLE_HEAD, PADDLE_STATE)))


def _groups(names: Sequence[str]) -> List[str]:
    """Names grouped by kind; of more than two of a kind only the number: `head bias, weight`, `161 moments`."""
    groups: Dict[str, List[str]] = {}
    for name in names:
        of_paddle = PADDLE_STATE.fullmatch(name)
        kind = 'head' if name in BARE_HEAD else of_paddle and of_paddle[1] or name.split('.')[0]
        groups.setdefault(kind, []).append(name)
    return ['head ' + ', '.join(members) if kind == 'head' else
            ', '.join(members) if len(members) <= 2 else f'{len(members)} {kind}' for kind, members in groups.items()]


def _some(items: Sequence[str], most: int) -> str:
    more = f' and {len(items) - most} more' if len(items) > most else ''
    return f'{len(items)}: {", ".join(items[:most])}{more}'

"""Weights from files: read once, with what is known of them; then into a network, name by name.

Read are MindSpore checkpoints (.ckpt; this project's hold its recipe as facts), .safetensors, PyTorch's .pth, and
Paddle's .pdparams or folder of one file a parameter. The names in the files are those of MindSpore's model zoo, of
torchvision or of PaddleCV.
"""
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import mindspore as ms
import numpy as np

from src.checkpoints.checkpoint import Recorded, read_recorded
from src.checkpoints.paddle_files import read_folder
from src.checkpoints.pickled import read_pdparams, read_pth
from src.common.errors import InputError
from src.common.quiet import quiet_mindspore
from src.networks import backbone_class

SUFFIXES = ('.ckpt', '.safetensors', '.pth', '.pdparams')
# First component of the names that optimizers, losses, loss scaling and the loop add to a checkpoint, and of what a
# head finds anew after each training.
TRAINING_STATE = {'moment1', 'moment2', 'moments', 'accum', 'stat', 'beta1_power', 'beta2_power', 'learning_rate',
                  'momentum', 'global_step', 'epoch_num', 'step_num', 'loss', 'loss_scale', 'scale_sense',
                  'current_iterator_step', 'last_overflow_iterator_step', 'index_var', 'whitening'}
# And of several learning rates.
GROUP_STATE = re.compile(r'learning_rate_group_\d+')
# metric_learn's classifier of the training classes has no layer's name.
BARE_HEAD = ('weight', 'bias')
# ImageNet classifiers of torchvision and of the MindSpore model zoo.
CLASSIFIERS = {'fc', 'end_point'}
# Paddle's classifiers, and what its optimizers add.
PADDLE_HEAD = re.compile(r'(fc_\d+|weight_norm)\.(w|b)_0')
PADDLE_STATE = re.compile(r'.*_(velocity|moment1|moment2|beta1_pow_acc|beta2_pow_acc)_\d+|learning_rate_\d+|@.*@')
BATCH_NORM = {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'moving_mean', 'running_var': 'moving_variance',
              '_mean': 'moving_mean', '_variance': 'moving_variance'}


@dataclass(frozen=True, eq=False)
class Weights:
    """The contents of a weight file, to be passed on.

    values: by their names in the file. recorded: what a training of this project stored with them, None for others.
    """
    path: str
    values: Dict[str, np.ndarray]
    recorded: Optional[Recorded] = None

    @property
    def source(self) -> str:
        """Whose they are: 'mindspore', 'torchvision' or 'paddle'."""
        return {'.ckpt': 'mindspore', '.safetensors': 'torchvision', '.pth': 'torchvision'}.get(
            Path(self.path).suffix, 'paddle')


@dataclass(frozen=True)
class Report:
    """What load_weights did: sorted names. str() is one line.

    loaded: of the network. dropped: of the file, had no place. untouched: of the network, as they were.
    """
    loaded: List[str]
    dropped: List[str]
    untouched: List[str]

    def __str__(self):
        parts = [f'{len(self.loaded)} parameters']
        parts += [f'{what}: {"; ".join(_groups(names))}'
                  for what, names in (('starting fresh', self.untouched), ('ignored', self.dropped)) if names]
        return ', '.join(parts)


def read_weights(path: Union[str, Path]) -> Weights:
    """The contents of a weight file, or of a folder of Paddle's.

    A .ckpt that holds a checksum is compared with it.

    Raises:
        InputError: the file is missing, unreadable, damaged or of an unknown kind.
    """
    path = Path(path)
    if path.is_dir() and path.suffix not in SUFFIXES:
        return Weights(str(path), read_folder(path))
    if path.suffix not in SUFFIXES:
        raise InputError(f'{path} is not a weight file: give one that ends in {", ".join(SUFFIXES)}, or a folder of '
                         "Paddle's")
    try:
        path.open('rb').close()
    except OSError as error:
        raise InputError(f'{path} cannot be opened ({error.strerror}): give an existing weight file') from error
    if path.suffix == '.pth':
        return Weights(str(path), read_pth(path))
    if path.suffix == '.pdparams':
        values, names = read_pdparams(path)
        static = {name for name, of_program in names.items() if of_program.endswith(('_weights', '_scale'))}
        return Weights(str(path), {names[name]: value for name, value in values.items()} if static else values)
    with quiet_mindspore():
        try:
            if path.suffix == '.ckpt':
                values = ms.load_checkpoint(str(path), crc_check=True)
            else:
                values = ms.load_checkpoint(str(path), format='safetensors')
            text = values.pop('facts', None)
            values = {name: _to_numpy(value) for name, value in values.items()}
        except Exception as error:  # of several libraries
            raise InputError(f'{path} cannot be read as {path.suffix}: it is cut short, damaged, or holds something '
                             'else than named weights; give another file') from error
    return Weights(str(path), values, read_recorded(text, str(path)))


def _to_numpy(value):
    if not isinstance(value, ms.Tensor):
        return np.asarray(value)
    return (value.astype(ms.float32) if value.dtype == ms.bfloat16 else value).asnumpy()


def conventions(backbone: str, weights: Weights) -> Dict[str, Any]:
    """Options of a backbone that go with weights: the same weights give other outputs under others.

    Args:
        backbone: a key of BACKBONES; its class knows what each source trains with.
        weights: of which this project's tell their own, in `found` (conventions) or the recipe (backbone_options).

    Returns:
        dict, for a ResNet of padding and bn_eps; {} where nothing is known.

    Raises:
        InputError: no backbone has that name.
    """
    known = getattr(backbone_class(backbone), 'conventions', {})
    if not weights.recorded:
        return dict(known.get(weights.source, {}))
    recipe, found = weights.recorded.recipe, weights.recorded.found
    saved = {**recipe.get('network_options', {}), **recipe.get('backbone_options', {}), **found.get('conventions', {})}
    names = set().union(*known.values())
    return {name: value for name, value in saved.items() if name in names}


def load_weights(network: ms.nn.Cell, weights: Union[Weights, str, Path], new_layers: Sequence[str] = ()) -> Report:
    """Set every parameter of a network; nothing changes unless everything fits.

    Names are compared without a leading `network.`, by MindSpore's kinds of BatchNorm, and as the network's backbone
    renames those of torchvision and PaddleCV. Dropped are training state (losses included), the classifier of the
    training classes, ImageNet classifiers that the network does not have, and PyTorch's num_batches_tracked. Everything
    else must fit in both directions.

    Args:
        network: its parameters receive the values, in their own dtype.
        weights: or the path to read them from. What options they expect of a backbone: see conventions.
        new_layers: beginnings of names, for example ('embedding.', 'neck.'), which weights of a backbone alone do not
            have: where the file has none of one, or a head finds it anew, it stays as it is in the network; where the
            network has none, it is dropped.

    Raises:
        InputError: see read_weights; or names or shapes differ.
    """
    if not isinstance(weights, Weights):
        weights = read_weights(weights)
    targets = {_plain(p.name): p for p in network.get_parameters()}
    values = _in_our_names(weights, network, targets)
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
    if problems:
        raise InputError(f'{weights.path} does not fit the network: {"; ".join(problems)}. Give the weights of this '
                         'network.')

    for name in wanted:
        targets[name].set_data(ms.Tensor(values[name], targets[name].dtype))
    return Report(sorted(wanted), sorted(dropped), sorted(untouched))


def classifier_of(weights: Weights) -> Optional[Tuple[np.ndarray, Optional[np.ndarray]]]:
    """The classifier of the training classes that a first stage has left in its weights.

    Returns:
        (weight (C, D), bias (C,) or None), or None where there is none: metric_learn's `weight` and `bias`, those of
        the loss in a training state of this project, PaddleCV's last layer. Not ImageNet's.
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
    """Start a loss that has a classifier, and nothing else, from that of the weights, where their shapes are equal.

    Returns:
        whether it does.
    """
    found = classifier_of(weights)
    mine = {p.name.rpartition('.')[2]: p for p in loss.get_parameters()}
    values = {name: value for name, value in zip(BARE_HEAD, found or ()) if value is not None}
    if not values or {name: p.shape for name, p in mine.items()} != {name: v.shape for name, v in values.items()}:
        return False
    for name, value in values.items():
        mine[name].set_data(ms.Tensor(value, mine[name].dtype))
    return True


def _in_our_names(weights, network, targets):
    """The values by the network's names; the weights of a module with a running mean are a BatchNorm's."""
    # Mixed precision wraps the network.
    rename = next((cell.rename for _, cell in network.cells_and_names() if hasattr(cell, 'rename')), str)
    norms = {name.rpartition('.')[0] for name in weights.values if name.endswith(('.running_mean', '._mean'))}
    renamed: Dict[str, np.ndarray] = {}
    for name, value in _embedding_of_paddle(weights, targets).items():
        module, _, kind = name.rpartition('.')
        if module in norms:
            if kind == 'num_batches_tracked':
                continue
            name = f'{module}.{BATCH_NORM.get(kind, kind)}'
        renamed[rename(_plain(name))] = value
    return renamed


def _embedding_of_paddle(weights, targets):
    """Paddle numbers linear layers: the first is the embedding where a classifier follows, or the network says so."""
    values = dict(weights.values)
    if 'fc_0.w_0' in values and (
            {'fc_1.w_0', 'weight_norm.w_0'} & values.keys()
            or 'embedding.weight' in targets and targets['embedding.weight'].shape == values['fc_0.w_0'].T.shape):
        values['embedding.weight'] = np.ascontiguousarray(values.pop('fc_0.w_0').T)  # (in, out) there
        values['embedding.bias'] = values.pop('fc_0.b_0')
    return values


def _plain(name):
    return name[len('network.'):] if name.startswith('network.') else name


def _is_dropped(name):
    return (name.split('.')[0] in TRAINING_STATE | CLASSIFIERS or name in BARE_HEAD
            or any(pattern.fullmatch(name) for pattern in (GROUP_STATE, PADDLE_HEAD, PADDLE_STATE)))


def _groups(names):
    """Names, the many of one kind counted: `head bias, weight`, `161 moments`."""
    groups: Dict[str, List[str]] = {}
    for name in names:
        of_paddle = PADDLE_STATE.fullmatch(name)
        kind = 'head' if name in BARE_HEAD else of_paddle and of_paddle[1] or name.split('.')[0]
        groups.setdefault(kind, []).append(name)
    return ['head ' + ', '.join(members) if kind == 'head' else
            ', '.join(members) if len(members) <= 2 else f'{len(members)} {kind}' for kind, members in groups.items()]


def _some(items, most):
    more = f' and {len(items) - most} more' if len(items) > most else ''
    return f'{len(items)}: {", ".join(items[:most])}{more}'

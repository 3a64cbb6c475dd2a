"""Weights from files: MindSpore checkpoints, .safetensors and PyTorch's .pth."""
import logging
from pathlib import Path

import mindspore as ms
import numpy as np

from src.errors import InputError

# First component of the names that optimizers, losses, loss scaling and the loop add to a checkpoint.
TRAINING_STATE = {'facts', 'moment1', 'moment2', 'moments', 'accum', 'stat', 'beta1_power', 'beta2_power',
                  'learning_rate', 'momentum', 'global_step', 'epoch_num', 'step_num', 'loss', 'loss_scale',
                  'scale_sense', 'current_iterator_step', 'last_overflow_iterator_step'}
# ImageNet classifiers of torchvision and of the MindSpore model zoo.
CLASSIFIERS = {'fc', 'end_point'}
BATCH_NORM = {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'moving_mean', 'running_var': 'moving_variance'}
SUFFIXES = ('.ckpt', '.safetensors', '.pth')


def load_weights(network, path, ignore=()):
    """Set every parameter of a network from a file; nothing changes unless everything fits.

    Names are compared without a leading `network.`. Dropped from the file: training state (TRAINING_STATE, losses
    included), ImageNet classifiers (CLASSIFIERS) that the network does not have, and PyTorch's
    num_batches_tracked. Everything else must fit in both directions.

    torchvision's weights expect a ResNet with padding='symmetric' and bn_eps=1e-5.

    Args:
        network (nn.Cell): its parameters receive the values, in their own dtype.
        path (str or Path): .ckpt (names of this project and of the MindSpore model zoo); .safetensors and .pth (the
            same names or torchvision's). PyTorch is needed for .pth alone.
        ignore (sequence of str): beginnings of names that are left as they are in the network and skipped in the
            file, for example ('embedding.', 'neck.').

    Returns:
        dict: 'loaded', 'dropped' (in the file only) and 'untouched' (in the network only), sorted lists of names.

    Raises:
        InputError: the file is missing, unreadable or of an unknown kind; or names or shapes differ.
    """
    ignore = tuple(ignore)
    targets = {_plain(p.name): p for p in network.get_parameters()}
    values = {_plain(name): value for name, value in _from_pytorch(read_weights(path)).items()}
    untouched = [name for name in targets if name.startswith(ignore)]
    dropped = [name for name in values if name.startswith(ignore) or _is_dropped(name, targets)]
    wanted, given = targets.keys() - set(untouched), values.keys() - set(dropped)

    problems = []
    for what, names in (('lacks', wanted - given), ('has, unknown to the network,', given - wanted)):
        if names:
            problems.append(f'it {what} {_some(sorted(names))}')
    reshaped = [f'{name} {tuple(np.shape(values[name]))} instead of {tuple(targets[name].shape)}'
                for name in sorted(wanted & given) if tuple(np.shape(values[name])) != tuple(targets[name].shape)]
    if reshaped:
        problems.append(f'it has of another shape {_some(reshaped)}')
    if problems:
        raise InputError(f'{path} does not fit the network: {"; ".join(problems)}. Give the weights of this network.')

    for name in wanted:
        targets[name].set_data(ms.Tensor(values[name], targets[name].dtype))
    return {'loaded': sorted(wanted), 'dropped': sorted(dropped), 'untouched': sorted(untouched)}


def read_weights(path):
    """The contents of a weight file by their names there.

    Returns:
        dict: name -> numpy array; a .ckpt may hold a str among them.

    Raises:
        InputError: the file is missing, unreadable or of an unknown kind.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f'{path} is not a weight file: give one that ends in {", ".join(SUFFIXES)}')
    try:
        path.open('rb').close()
    except OSError as error:
        raise InputError(f'{path} cannot be opened ({error.strerror}): give an existing weight file') from error
    if path.suffix == '.pth':
        return _read_pth(path)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # MindSpore logs what the exception says again
    try:
        values = ms.load_checkpoint(str(path), format=path.suffix[1:])
        return {name: _to_numpy(value) for name, value in values.items()}
    except Exception as error:
        raise _unreadable(path) from error
    finally:
        logging.disable(disabled)


def _read_pth(path):
    try:
        import torch
    except ImportError as error:
        raise InputError(f'{path} needs PyTorch to be read: pip install torch, or give a .safetensors file') from error
    try:
        values = torch.load(path, map_location='cpu', weights_only=True)
        # Files of older torchvision releases hold Parameters, which refuse numpy() unless detached.
        values = {name: value.detach() for name, value in values.items()}
        return {name: (value.float() if value.is_floating_point() else value).numpy()
                for name, value in values.items()}
    except Exception as error:
        raise _unreadable(path) from error


def _unreadable(path):
    return InputError(f'{path} cannot be read as {path.suffix}: it is cut short, damaged, or holds something else '
                      'than named weights; give another file')


def _to_numpy(value):
    if not isinstance(value, ms.Tensor):
        return value
    return (value.astype(ms.float32) if value.dtype == ms.bfloat16 else value).asnumpy()


def _from_pytorch(values):
    """Torchvision's names in MindSpore's; the weights of a module with a running_mean are a BatchNorm's."""
    norms = {name[:-len('.running_mean')] for name in values if name.endswith('.running_mean')}
    renamed = {}
    for name, value in values.items():
        module, _, kind = name.rpartition('.')
        if module in norms:
            if kind == 'num_batches_tracked':
                continue
            name = f'{module}.{BATCH_NORM.get(kind, kind)}'
        renamed[name.replace('.downsample.', '.down_sample_layer.')] = value
    return renamed


def _plain(name):
    return name[len('network.'):] if name.startswith('network.') else name


def _is_dropped(name, targets):
    return name not in targets and name.split('.')[0] in TRAINING_STATE | CLASSIFIERS


def _some(items, most=4):
    more = f' and {len(items) - most} more' if len(items) > most else ''
    return f'{len(items)}: {", ".join(items[:most])}{more}'

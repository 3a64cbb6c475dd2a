"""Consistency checks between the entries of a recipe."""
from typing import Any, Mapping

from src.common.errors import InputError
from src.losses import loss_kind


def check(entries: Mapping[str, Any], given: Mapping[str, str], base: Mapping[str, Any]) -> None:
    """Refuse entries that contradict each other.

    Args:
        entries: all entries of a recipe. given: the words that the user wrote, by changed entry. base: entries before changes.

    Raises:
        InputError: entries that contradict each other, or a change that would have no effect.
    """
    if 'warmup_epochs' in given and not entries['total_iter_num'] and entries['warmup_epochs'] > entries['epoch_size']:
        raise InputError(f'{given["warmup_epochs"]}: the whole training has {entries["epoch_size"]} epochs')
    if entries['lr_steps'] and 'lr_steps' in given and entries['lr_mode'] != 'steps':
        raise InputError(f'{given["lr_steps"].partition("=")[0]}: is for --lr_mode=steps, not {entries["lr_mode"]}')
    if 0 < entries['epoch_size'] <= entries['pretrain_epoch_size']:
        raise InputError(f'--pretrain_epoch_size={entries["pretrain_epoch_size"]}: the whole training has '
                         f'{entries["epoch_size"]} epochs')
    for name in ('gather', 'memory'):
        if entries.get(name) and loss_kind(entries['loss_name']) != 'pair':
            raise InputError(f'{given.get(name, name)}: needs a pair loss, which --loss_name={entries["loss_name"]} is not; '
                             'remove it')
    for name, idle, why in (
            ('momentum', entries['optimizer'] != 'momentum', f'the optimizer is {entries["optimizer"]}'),
            ('beta1', entries['optimizer'] == 'momentum', 'the optimizer is momentum'),
            ('epsilon_hat', entries['optimizer'] == 'momentum', 'the optimizer is momentum'),
            ('lr_init', not entries['warmup_epochs'], 'there is no warm-up; give --warmup_epochs'),
            ('lr_end', entries['lr_mode'] in ('const', 'steps', 'one_cycle'), f'--lr_mode is {entries["lr_mode"]}'),
            ('pretrain_epoch_size', entries['total_iter_num'], 'the training counts iterations; give --epoch_size'),
            ('validation_fraction', entries['validation'] not in ('seen_images', 'seen_classes'),
             f'--validation is {entries["validation"]}'),
            ('memory_warm_up', not entries.get('memory'), 'there is no memory; give --set memory=ROWS')):
        # The published configuration, given in full, repeats values of the recipe.
        if name in given and entries[name] != base[name] and entries[name] and idle:
            raise InputError(f'{given[name]}: would have no effect: {why}')

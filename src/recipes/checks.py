"""Consistency checks between the entries of a recipe."""
from typing import Any, Mapping

from src.common.errors import InputError
from src.losses import loss_kind
from src.recipes.entries import ENTRIES, OFF


def check(entries: Mapping[str, Any], given: Mapping[str, str], base: Mapping[str, Any]) -> None:
    """Refuse entries that contradict each other, and changes that would have no effect.

    Args:
        entries: all entries of a recipe. given: the words that the user wrote, by changed entry or DICT.OPTION.
        base: entries before changes.

    Raises:
        InputError: entries that contradict each other, or a change that would have no effect.
    """
    if 'warmup_epochs' in given and not entries['total_iter_num'] and entries['warmup_epochs'] > entries['epoch_size']:
        raise InputError(f'{given["warmup_epochs"]}: the whole training has {entries["epoch_size"]} epochs')
    if 0 < entries['epoch_size'] <= entries['pretrain_epoch_size']:
        raise InputError(f'--pretrain_epoch_size={entries["pretrain_epoch_size"]}: the whole training has '
                         f'{entries["epoch_size"]} epochs')
    for name in ('gather', 'memory'):
        if entries.get(name) and loss_kind(entries['loss_name']) != 'pair':
            raise InputError(f'{given.get(name, name)}: needs a pair loss, which --loss_name={entries["loss_name"]} is not; '
                             'remove it')
    for path, word in given.items():
        name = path.partition('.')[0]
        entry, value = ENTRIES[name], entries[name]
        why = entry.why_idle(entries)
        if why and value != base[name] and value not in OFF:
            raise InputError(f'{word}: would have no effect: {why}')
        # The published configuration, given in full, repeats values of the recipe.
        if why and entry.about:
            print(f'{word}: has no effect: {why}')
        if value != base[name] and entries.get(entry.overridden_by):
            print(f'{word}: has no effect: {given.get(entry.overridden_by, entry.overridden_by)} overrides it')

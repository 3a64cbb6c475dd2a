"""Training states: whole or not there, the newest kept, the broken refused."""
import resource

import numpy as np
import pytest
from mindspore import nn

from src.errors import InputError
from src.training.checkpoint import TrainingStates, read_checkpoint, save_cell


def states(folder, keep=2):
    return TrainingStates(folder, 'train', 10, keep)


def test_names_facts_and_how_many_stay(tmp_path):
    mine, cell = states(tmp_path), nn.Dense(3, 4)
    for step in (5, 10, 11):
        mine.save(cell, step, {'best': 0.1 + 0.2, 'none': None})
    assert sorted(p.name for p in tmp_path.iterdir()) == ['train-1_10.ckpt', 'train-2_1.ckpt']
    assert mine.steps() == [10, 11]
    other = nn.Dense(3, 4)
    assert mine.load(other, 11) == {'best': 0.1 + 0.2, 'none': None}
    np.testing.assert_array_equal(other.weight.asnumpy(), cell.weight.asnumpy())


def test_a_new_training_replaces_the_states_of_an_old_one_once_it_has_its_own(tmp_path):
    cell = nn.Dense(3, 4)
    states(tmp_path).save(cell, 95, {})
    mine = states(tmp_path)
    mine.replace_existing()
    assert mine.steps() == [95]
    mine.save(cell, 5, {})
    assert mine.steps() == [5]


@pytest.mark.parametrize('harm', [lambda b: b[:-30], lambda b: b[:40], lambda b: b'', lambda b: b[:200] + b'x' + b[201:]])
def test_a_broken_state_is_named_and_the_one_before_offered(tmp_path, harm):
    mine, cell = states(tmp_path), nn.Dense(30, 4)
    mine.save(cell, 5, {})
    mine.save(cell, 15, {})
    path = mine.path(15)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(InputError, match=r'train-2_5.ckpt: broken.*train-1_5.ckpt'):
        mine.load(cell, 15)
    assert mine.load(cell, 5) == {}


def test_a_state_of_another_network_or_other_data_is_refused(tmp_path):
    states(tmp_path).save(nn.Dense(3, 4), 5, {})
    for cell in (nn.Dense(3, 5), nn.Dense(3, 4, has_bias=False), nn.BatchNorm1d(4)):
        with pytest.raises(InputError, match='another network'):
            states(tmp_path).load(cell, 5)
    with pytest.raises(InputError, match='other data'):
        TrainingStates(tmp_path, 'train', 20, 2).load(nn.Dense(3, 4), 5)


def test_what_cannot_be_written_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path, cell = tmp_path / 'a.ckpt', nn.Dense(100, 100)
    save_cell(cell, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The way a test can have a full disk: no file may grow beyond 4 kB.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(InputError, match=f'cannot write {path}'):
            save_cell(nn.Dense(100, 100), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match='no.ckpt: no such checkpoint'):
        read_checkpoint(tmp_path / 'no.ckpt')

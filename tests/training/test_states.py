"""Training states: whole or not there, the newest kept, the broken refused."""
import json
import resource
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.checkpoints.checkpoint import Recorded, find_checkpoint, read_checkpoint, save_cell
from src.common.errors import InputError
from src.common.records import as_table
from src.training.progress import Run
from src.training.states import TrainingStates, find_training, set_aside


def states(folder, keep=2):
    return TrainingStates(folder, 'train', 10, keep)


def facts(device_num=1, **recipe):
    return Recorded(recipe, device_num=device_num)


def test_names_facts_and_how_many_stay(tmp_path):
    mine, cell = states(tmp_path), nn.Dense(3, 4)
    for step in (5, 10, 11):
        mine.save(cell, Run(step, best=0.1 + 0.2), facts())
        mine.prune()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['train-1_10.ckpt', 'train-2_1.ckpt']
    assert mine.points() == [(1, 10), (2, 1)]
    other = nn.Dense(3, 4)
    assert mine.load(other, (2, 1), facts()) == Run(11, best=0.1 + 0.2)
    assert mine.read((2, 1))[1].steps_per_epoch == 10
    np.testing.assert_array_equal(other.weight.asnumpy(), cell.weight.asnumpy())


def test_what_another_training_left_is_moved_and_not_overwritten(tmp_path):
    assert set_aside(tmp_path) is None
    for number in (1, 2):
        states(tmp_path).save(nn.Dense(3, 4), Run(95), facts())
        (tmp_path / 'result.json').write_text(f'{{"recipe": {number}}}')
        (tmp_path / 'train.log').write_text('stays')
        assert set_aside(tmp_path) == tmp_path / f'earlier-{number}'
        assert sorted(p.name for p in (tmp_path / f'earlier-{number}').iterdir()) == ['result.json', 'train-10_5.ckpt']
        assert (tmp_path / f'earlier-{number}' / 'result.json').read_text() == f'{{"recipe": {number}}}'
    assert {p.name for p in tmp_path.iterdir()} == {'earlier-1', 'earlier-2', 'train.log'}


@pytest.mark.parametrize('name', ['train.ckpt', 'best.ckpt', 'train-1_10.ckpt', 'result.json', 'curves.png'])
def test_what_no_training_wrote_is_neither_moved_nor_written_over(tmp_path, name):
    states(tmp_path).save(nn.Dense(3, 4), Run(95), facts())
    (tmp_path / 'resnet50.ckpt').write_bytes(b'weights from elsewhere')
    (tmp_path / name).write_bytes(b'mine')
    with pytest.raises(InputError, match=f'--save_ckpt={tmp_path}/{name}: exists, and was not written by this project'):
        set_aside(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'resnet50.ckpt', 'train-10_5.ckpt', name}
    (tmp_path / name).unlink()
    set_aside(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'resnet50.ckpt', 'earlier-1'}


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_neither_saved_nor_read(tmp_path, value):
    cell = nn.Dense(3, 4)
    states(tmp_path).save(cell, Run(5), facts())
    cell.weight.set_data(Tensor(np.full((4, 3), value, np.float32)))
    with pytest.raises(InputError, match='weight holds .*the training has diverged'):
        states(tmp_path).save(cell, Run(6), facts())
    assert [path.name for path in tmp_path.iterdir()] == ['train-1_5.ckpt']
    ms.save_checkpoint(cell, str(tmp_path / 'train-1_6.ckpt'), append_dict={'facts': '{}'}, crc_check=True)
    with pytest.raises(InputError, match='train-1_6.ckpt: broken'):
        states(tmp_path).read((1, 6))


def test_a_training_that_goes_on_from_an_older_state_replaces_the_newer_ones(tmp_path):
    cell = nn.Dense(3, 4)
    for step in (5, 10, 15, 25):
        states(tmp_path).save(cell, Run(step), facts())
    mine = states(tmp_path, keep=1)
    mine.load(cell, (1, 5), facts())
    mine.save(cell, Run(10), facts())
    mine.prune()
    assert mine.points() == [(1, 10)]


@pytest.mark.parametrize('harm', [lambda b: b[:-30], lambda b: b[:40], lambda b: b'',
                                  lambda b: b[:200] + b'x' + b[201:]])
def test_a_broken_state_is_named_and_the_one_before_offered(tmp_path, harm):
    mine, cell = states(tmp_path), nn.Dense(30, 4)
    mine.save(cell, Run(5), facts())
    mine.save(cell, Run(15), facts())
    path = mine.path((2, 5))
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(InputError, match=r'train-2_5.ckpt: broken.*train-1_5.ckpt'):
        mine.load(cell, (2, 5), facts())
    assert mine.load(cell, (1, 5), facts()).step == 5
    with pytest.raises(InputError, match='train-7_1.ckpt: no such training state'):
        mine.load(cell, (7, 1), facts())


def test_a_state_of_another_network_or_other_data_is_refused_and_changes_nothing(tmp_path):
    states(tmp_path).save(nn.Dense(3, 4), Run(5), facts())
    for cell in (nn.Dense(3, 5), nn.Dense(3, 4, has_bias=False), nn.BatchNorm1d(4)):
        before = [p.asnumpy().copy() for p in cell.get_parameters()]
        with pytest.raises(InputError, match='another network'):
            states(tmp_path).load(cell, (1, 5), facts())
        for p, old in zip(cell.get_parameters(), before):
            np.testing.assert_array_equal(p.asnumpy(), old)
    with pytest.raises(InputError, match='other data .steps per epoch'):
        TrainingStates(tmp_path, 'train', 20, 2).load(nn.Dense(3, 4), (1, 5), facts())


@pytest.mark.parametrize('now, name', [
    (facts(lr_max=0.2, loss_options={'margin': 0.1}), 'lr_max 0.1, now it is 0.2: the 5 steps'),
    (facts(lr_max=0.1, loss_options={'margin': 0.3}), 'loss_options.margin 0.1, now it is 0.3'),
    (facts(lr_max=0.1, loss_options={'margin': 0.1}, seed=2), 'seed 1, now it is 2'),
    (facts(lr_max=0.1, loss_options={'margin': 0.1}, turned=True), 'turned False, now it is True'),
    (facts(2, lr_max=0.1, loss_options={'margin': 0.1}), 'device_num 1, now it is 2')])
def test_a_state_of_other_flags_is_refused_by_the_flag(tmp_path, now, name):
    was = facts(lr_max=0.1, loss_options={'margin': 0.1}, data_path='/old')
    states(tmp_path).save(nn.Dense(3, 4), Run(5), was)
    with pytest.raises(InputError, match=f'train-1_5.ckpt: was trained with {name}'):
        states(tmp_path).load(nn.Dense(3, 4), (1, 5), now)
    states(tmp_path).load(nn.Dense(3, 4), (1, 5), replace(was, recipe={**was.recipe, 'data_path': '/new'}))


def test_a_state_that_is_older_than_an_entry_goes_on_where_that_is_off(tmp_path):
    states(tmp_path).save(nn.Dense(3, 4), Run(5), facts(lr_max=0.1))
    states(tmp_path).load(nn.Dense(3, 4), (1, 5), facts(lr_max=0.1, mirror=False))
    with pytest.raises(InputError, match='mirror False, now it is True'):
        states(tmp_path).load(nn.Dense(3, 4), (1, 5), facts(lr_max=0.1, mirror=True))


def test_a_state_with_an_entry_removed_since_goes_on_where_that_was_off(tmp_path):
    for turned in (False, True):
        states(tmp_path).save(nn.Dense(3, 4), Run(5), facts(lr_max=0.1, turned_classes=turned))
        if not turned:
            states(tmp_path).load(nn.Dense(3, 4), (1, 5), facts(lr_max=0.1))
    with pytest.raises(InputError, match='train-1_5.ckpt: was trained with turned_classes=True, which versions after'):
        states(tmp_path).load(nn.Dense(3, 4), (1, 5), facts(lr_max=0.1))


def test_a_state_that_is_older_than_something_found_in_the_data_goes_on(tmp_path):
    states(tmp_path).save(nn.Dense(3, 4), Run(5), replace(facts(), found={'class_num': 3}))
    states(tmp_path).load(nn.Dense(3, 4), (1, 5), replace(facts(), found={'class_num': 3, 'images': 'hash'}))
    with pytest.raises(InputError, match='class_num 3, now it is 4'):
        states(tmp_path).load(nn.Dense(3, 4), (1, 5), replace(facts(), found={'class_num': 4, 'images': 'hash'}))


@pytest.mark.parametrize('run, words', [
    ({'step': 3}, 'holds the state after step 3'), ({'step': 10 ** 9}, 'holds the state after step 1000000000'),
    ({'step': -3}, 'out of range'), ({'step': [1]}, 'step is a list'), ({'step': '5'}, 'step is "5"'),
    ({'step': 5, 'skipped': -1}, 'out of range'), ({'step': 5, 'losses': [0.0]}, 'out of range'),
    ({'step': 5, 'history': [{'loss': 1.0}]}, 'history: an epoch'), (None, 'null instead of a table')])
def test_a_state_whose_progress_was_edited(tmp_path, run, words):
    path = tmp_path / 'train-1_5.ckpt'
    states(tmp_path).save(nn.Dense(3, 4), Run(5), facts())
    ms.save_checkpoint(nn.Dense(3, 4), str(path), crc_check=True,
                       append_dict={'facts': json.dumps(as_table(replace(facts(), steps_per_epoch=10, run=run)))})
    with pytest.raises(InputError, match=f'train-1_5.ckpt: .*{words}'):
        states(tmp_path).load(nn.Dense(3, 4), (1, 5), facts())


def test_numbers_too_small_to_be_normal_are_saved_as_zero(tmp_path):
    cell = nn.Dense(6, 1, has_bias=False)
    tiny = np.finfo(np.float32).tiny
    cell.weight.set_data(Tensor(np.array([[tiny / 8, -tiny / 8, -0.0, 0.0, tiny, -1]], np.float32)))
    states(tmp_path).save(cell, Run(5), facts())
    bits = read_checkpoint(tmp_path / 'train-1_5.ckpt')['weight'].asnumpy().view(np.uint32)
    np.testing.assert_array_equal(bits, np.array([[0, 0, 0, 0, tiny, -1]], np.float32).view(np.uint32))
    np.testing.assert_array_equal(cell.weight.asnumpy().view(np.uint32), bits)


def test_find_checkpoint(tmp_path):
    with pytest.raises(InputError, match='no checkpoint in this folder'):
        find_checkpoint(tmp_path)
    with pytest.raises(InputError, match='--save_ckpt .* is missing'):
        find_checkpoint('')
    (tmp_path / '.train-1_5.77.part.ckpt').write_bytes(b'half')
    states(tmp_path).save(nn.Dense(3, 4), Run(5), facts())
    assert find_checkpoint(tmp_path).name == 'train-1_5.ckpt'
    save_cell(nn.Dense(3, 4), tmp_path / 'train.ckpt')
    assert find_checkpoint(tmp_path).name == 'train.ckpt' and find_checkpoint('x.ckpt').name == 'x.ckpt'


def test_other_files_of_the_folder_are_no_states(tmp_path):
    mine = states(tmp_path)
    mine.save(nn.Dense(3, 4), Run(5), facts())
    (tmp_path / 'train-99999999999999999999_1.ckpt').write_bytes(b'x')
    (tmp_path / 'x.ckpt').symlink_to(tmp_path / 'nothing')
    assert mine.points() == [(1, 5)]
    (tmp_path / 'train-99999999999999999999_1.ckpt').unlink()
    assert find_checkpoint(tmp_path).name == 'train-1_5.ckpt'


def test_find_training(tmp_path):
    state = tmp_path / 'out' / '1' / 'auto_parallel-2_5.ckpt'
    state.parent.mkdir(parents=True)
    state.touch()
    assert find_training(str(tmp_path / 'out'), None, True) == (tmp_path / 'out', True)
    assert find_training(str(state), str(tmp_path / 'x' / '..' / 'out'), True) == (tmp_path / 'out', state.name)
    assert find_training(str(state), None, False) == (state.parent, state.name)
    with pytest.raises(InputError, match='--checkpoint=nowhere: no such'):
        find_training('nowhere', None, False)
    with pytest.raises(InputError, match='--save_ckpt'):
        find_training(str(state), str(tmp_path), False)


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

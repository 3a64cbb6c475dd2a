"""What a training recorded in its checkpoints, read back, edited and foreign."""
import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from src.checkpoints.checkpoint import Recorded, read_checkpoint, read_recorded, save_cell
from src.checkpoints.weights import read_weights
from src.common.errors import InputError

WHOLE = Recorded({'lr_max': 0.1}, {'class_num': 3}, 8, 100, {'step': 7, 'best': None})


@pytest.mark.parametrize('recorded', [Recorded(), Recorded({'a': [1]}, {'b': {}}, 2), WHOLE, None])
def test_recorded_is_read_as_it_was_saved(recorded, tmp_path):
    path = tmp_path / 'a.ckpt'
    save_cell(nn.Dense(2, 3), path, recorded)
    assert read_weights(path).recorded == recorded and sorted(read_weights(path).values) == ['bias', 'weight']
    if recorded:
        text = read_checkpoint(path)['facts']
        assert read_recorded(text, path) == recorded
        assert all(value is not None for value in json.loads(text).values())


def test_checkpoints_from_before_an_entry_existed_are_read():
    assert read_recorded('{"recipe": {"seed": 1}}', 'a.ckpt') == Recorded({'seed': 1}, {}, 1, None, None)
    assert read_recorded({'found': {'class_num': 2}, 'device_num': 4}, 'a.ckpt') == Recorded({}, {'class_num': 2}, 4)


@pytest.mark.parametrize('text, words', [
    ('', 'damaged'), ('{"recipe": {', 'damaged'), ('[1]', 'a list instead of a table'), ('null', 'null instead of a table'),
    ('"recipe"', '"recipe" instead of a table'), ('{"recipe": ' + '[' * 100000 + ']' * 100000 + '}', 'damaged'),
    ('{"recipe": "small"}', 'recipe is "small", expected a table'), ('{"recipe": [1]}', 'recipe is a list, expected a table'),
    ('{"found": null}', 'found is null, expected a table'), ('{"run": 5}', 'run is 5, expected a table'),
    *((f'{{"{name}": {value}}}', f'{name} is {value}, expected a whole number')
      for name in ('device_num', 'steps_per_epoch') for value in ('0', '-1', '1.0', 'true', '"8"')),
    ('{"device_num": null}', 'device_num is null, expected a whole number'),
    ('{"epoch": 3}', 'has an unknown entry "epoch"')], ids=lambda value: value[:30])
def test_an_edited_record_is_one_line_that_names_file_and_entry(text, words, tmp_path):
    path = tmp_path / 'a.ckpt'
    ms.save_checkpoint(nn.Dense(2, 3), str(path), append_dict={'facts': text})
    for read in (lambda: read_recorded(text, path), lambda: read_weights(path)):
        with pytest.raises(InputError) as raised:
            read()
        message = str(raised.value)
        assert message.startswith(f'{path}: record of its training: {words}') and '\n' not in message
        assert len(message) < len(str(path)) + 150


def test_a_foreign_parameter_of_that_name_is_no_record(tmp_path):
    path = tmp_path / 'a.ckpt'
    ms.save_checkpoint([{'name': 'facts', 'data': ms.Tensor(np.ones(2, np.float32))}], str(path))
    with pytest.raises(InputError, match='record of its training: "Parameter" instead of a table'):
        read_weights(path)

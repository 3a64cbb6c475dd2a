"""What the loop relies on between the system of zero-shot learning and its network."""
from dataclasses import replace

import numpy as np
import pytest
from mindspore import nn

from src.common.device import Process
from src.common.errors import InputError
from src.datasets.zero_shot_data import EvalPart, ZeroShotData
from src.recipes.recipe import Recipe, make_recipe
from src.systems.zero_shot import ZeroShot, ZeroShotFound, check_told_apart, say_measured


@pytest.mark.parametrize('training', [True, False])
def test_prototypes_are_of_evaluation_and_leave_the_mode_as_it_was(training):
    """A validation in the middle of a training must not end it for networks that behave otherwise in training."""
    class Tells(nn.Cell):
        def construct(self, semantics):
            return semantics + 1 if self.training else semantics
    system = ZeroShot(Recipe(make_recipe('CUB', 'att', 'published')), Process('CPU', 0, 0, 1))
    system.network = Tells().set_train(training)
    semantics = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(system.prototypes((semantics,)), semantics)
    assert system.network.training == training


def test_what_can_tell_nothing_is_refused_and_what_is_measured_is_said(capsys):
    def part(labels, ids, semantics):
        return EvalPart(np.eye(len(labels), 2, dtype=np.float32), np.array(labels), np.array(ids), (np.array(semantics),))
    check_told_apart(part([1, 2], [1, 2], [[1, 2], [1, 3]]), 'data')
    for bad, words in ((part([1], [1], [[1, 2]]), 'one unseen class'),
                       (part([1, 2], [1, 2], [[1, 2], [1, 2]]), 'by the same numbers'),
                       (part([1], [1, 2], [[1, 2], [1, 3]]), 'the same features')):
        with pytest.raises(InputError, match=f'data: .*{words}'):
            check_told_apart(bad, 'data')
    whole = part([4, 4, 1, 1, 2], [4, 1, 2, 3], [[0]])
    assert say_measured(whole, np.array([4, 4, 1, 1, 1])) == {
        'images': 5, 'classes': 3, 'classes_without_images': 1}
    assert capsys.readouterr().out == ('measured: 5 images of 3 classes; 1 more classes have no image, and may be answers\n')
    say_measured(whole, np.full(5, 2))
    assert 'all images got the same answer: has the training collapsed' in capsys.readouterr().out
    check_told_apart(part([1, 2], [1, 2], [[1, 2], [1, 3]]), 'data', [np.array([[1, 3], [5, 5]])])
    assert 'data: 1 of 2 unseen classes have the numbers of a training class' in capsys.readouterr().out


def test_a_training_is_resumed_on_the_same_data_only():
    labels, rows = np.arange(4), np.eye(4, dtype=np.float32)
    data = ZeroShotData(rows, (rows + 1,), labels, EvalPart(rows, labels, labels, (rows,)))
    system = ZeroShot(make_recipe('CUB', 'att', 'published', {'data_path': 'data'}), Process('CPU', 0, 0, 1))
    found = ZeroShotFound(contents=system._contents(data, None))
    assert system._contents(data, found) == system._contents(data, ZeroShotFound()) == found.contents
    for changed in ({'train_features': rows[[1, 0, 2, 3]]}, {'train_semantics': (rows,)}, {'train_labels': labels[::-1]}):
        with pytest.raises(InputError, match='data: the features, labels or descriptions to train on have changed'):
            system._contents(replace(data, **changed), found)

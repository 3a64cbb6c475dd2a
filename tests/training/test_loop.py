"""The loop with a system of a few numbers: what is counted, printed, saved and stopped, and which errors are whose."""
import json
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
from mindspore import Tensor, nn

from src.common.device import Process
from src.common.errors import InputError
from src.losses.loss import Loss
from src.recipes.recipe import Recipe, make_recipe
from src.training.loop import fit
from src.training.signals import Signals
from src.training.system import System

ALONE = Process('CPU', 0, 0, 1)
STEPS = 5


class Line(Loss):
    """Mean of the squared differences from the labels."""

    def construct(self, values, labels):
        return ((values - labels) ** 2).mean()


@dataclass(frozen=True)
class Known:
    known: int = 0


class Numbers(System):
    """A line through points; what happens at a step is told by `events`: {step: function}."""

    def __init__(self, recipe, events=None):
        super().__init__(recipe, ALONE)
        self.events = events or {}
        self.validated = []

    Found = Known

    def prepare(self, found=None):
        self.found = Known((found or Known()).known + 1)
        self.network, self.loss, self.steps_per_epoch = self.build_network(self.recipe, self.found), Line(), STEPS

    @classmethod
    def build_network(cls, recipe, found):
        network = nn.Dense(1, 1, weight_init='zeros', bias_init='zeros')
        network.new_layers = ()
        return network

    @classmethod
    def input_shapes(cls, network, size):
        return [(1,)]

    def batches(self, epoch, skip):
        for step in range(skip, STEPS):
            event = self.events.get(epoch * STEPS + step + 1)
            value = event() if event else None
            rows = np.random.default_rng((epoch, step)).standard_normal((4, 1)).astype(np.float32)
            yield Tensor(rows if value is None else np.full_like(rows, value)), Tensor(2 * rows + 1)

    def validate(self):
        self.validated.append(float(self.network.weight.asnumpy().item()))
        return min(self.validated[-1] / 2, 1.0)

    def evaluate(self, checkpoint):
        return {'checkpoint': checkpoint}


def recipe(**changes):
    return Recipe({**make_recipe('SOP', 'softmax', 'small'), 'lr_max': 0.05, 'lr_mode': 'const', 'weight_decay': 0.0,
                   'epoch_size': 3, 'batch_size': 4, 'save_checkpoint_epochs': 1, **changes})


def weights(folder):
    import mindspore as ms
    return {name: value.asnumpy() for name, value in ms.load_checkpoint(str(folder / 'train.ckpt')).items()
            if name != 'facts'}


def test_what_a_training_prints_writes_and_returns(tmp_path, capsys):
    used = recipe(validation='test_classes', interval_step=2, run_eval=True)
    result = fit(Numbers(used), tmp_path)
    out = capsys.readouterr().out
    assert [line.split(',')[0] for line in out.splitlines() if 'loss is' in line] == [
        'epoch: 1 step: 2', 'epoch: 1 step: 4', 'epoch: 2 step: 1', 'epoch: 2 step: 3', 'epoch: 2 step: 5',
        'epoch: 3 step: 2', 'epoch: 3 step: 4']
    rows = np.random.default_rng((0, 0)).standard_normal((4, 1)).astype(np.float32)
    first = fit(Numbers(recipe(total_iter_num=1)), tmp_path / 'first')
    assert first['loss'] == pytest.approx(((2 * rows + 1) ** 2).mean(), rel=1e-5)
    assert out.count('validation accuracy') == 3 and 'trained 15 steps on CPU' in out
    assert [row['step'] for row in result['history']] == [5, 10, 15] and result['steps'] == 15
    assert result['history'][0]['loss'] > result['history'][2]['loss']
    assert result['checkpoint'] == str(tmp_path / 'train.ckpt') and result['found'] == {'known': 1}
    assert json.loads((tmp_path / 'result.json').read_text()) == result
    assert {p.name for p in tmp_path.iterdir()} == {'train-2_5.ckpt', 'train-3_5.ckpt', 'train.ckpt', 'best.ckpt',
                                                    'result.json', 'curves.png', 'first'}


def test_losses_are_means_of_their_epoch_and_of_equal_validations_the_later_is_best(tmp_path):
    used = recipe(validation='test_classes', lr_max=0.0)
    system = Numbers(used)
    system.validate = lambda: 0.5
    result = fit(system, tmp_path)
    for epoch, row in enumerate(result['history']):
        steps = [np.random.default_rng((epoch, step)).standard_normal((4, 1)) for step in range(STEPS)]
        assert row['loss'] == pytest.approx(np.mean([((2 * rows + 1) ** 2).mean() for rows in steps]), rel=1e-5)
    assert (result['best_step'], result['validation_accuracy']) == (15, 0.5)


def test_a_signal_saves_and_a_resumed_training_ends_with_the_same_weights(tmp_path, capsys):
    used, number = recipe(), signal.SIGTERM
    whole = fit(Numbers(used), tmp_path / 'whole')
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end:
        fit(Numbers(used, {7: lambda: os.kill(os.getpid(), number)}), tmp_path / 'out')
    assert end.value.code == 128 + number and signal.getsignal(number) is before
    assert 'stopped by a signal after step 7 of 15' in capsys.readouterr().out
    # The one that goes on is told what the first had found.
    system = Numbers(used)
    with pytest.raises(InputError, match='known'):
        fit(system, tmp_path / 'out', resume=True)
    assert system.found == Known(2)

    class Remembers(Numbers):
        def prepare(self, found=None):
            super().prepare()
            self.found = found or self.found

    resumed = fit(Remembers(used), tmp_path / 'out', resume=True)
    assert resumed['history'] == whole['history']
    for name, value in weights(tmp_path / 'whole').items():
        np.testing.assert_array_equal(weights(tmp_path / 'out')[name], value)


def test_a_network_is_made_ready_before_it_is_measured_or_kept(tmp_path):
    class Ready(Numbers):
        def before_measuring(self, hurried=False):
            self.validated.append('hurried' if hurried else 'ready')

        def validate(self):
            self.validated.append('validated')
            return 0.5
    used = recipe(validation='test_classes', validation_epochs=2)
    system = Ready(used)
    fit(system, tmp_path / 'whole')
    assert system.validated == ['ready', 'ready', 'validated', 'ready']
    system = Ready(used, {7: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(SystemExit):
        fit(system, tmp_path / 'stopped')
    assert system.validated == ['ready', 'hurried']


def test_signals_are_noted():
    with Signals() as signals:
        assert signals.noted == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.noted == signal.SIGTERM


def test_a_loss_that_is_no_number_is_told_and_saves_no_such_weights(tmp_path):
    used = recipe()
    with pytest.raises(InputError, match='NaN or infinite after step'):
        fit(Numbers(used, {7: lambda: np.inf}), tmp_path)
    assert [p.name for p in tmp_path.glob('*.ckpt')] == ['train-1_5.ckpt']


def test_an_error_of_the_network_is_not_one_of_the_data(tmp_path):
    def fail():
        raise RuntimeError('the device is on fire')
    used = recipe()
    with pytest.raises(RuntimeError, match='on fire'):
        fit(Numbers(used, {2: fail}), tmp_path)


def test_nothing_but_the_last_network_is_kept_where_states_are_not_wanted(tmp_path):
    used = recipe(save_checkpoint=False)
    fit(Numbers(used), tmp_path)
    assert [p.name for p in tmp_path.glob('*.ckpt')] == ['train.ckpt']


def test_a_folder_of_another_training_is_moved_aside(tmp_path, capsys):
    used = recipe(total_iter_num=2)
    for _ in range(2):
        fit(Numbers(used), tmp_path)
    assert f'moved to {tmp_path}/earlier-1' in capsys.readouterr().out
    assert (tmp_path / 'earlier-1' / 'train.ckpt').is_file() and (tmp_path / 'train.ckpt').is_file()

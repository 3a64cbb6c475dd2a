"""Signals: noted at once, acted on after the step, never lost."""
import os
import signal

import pytest
from mindspore.train import RunContext

from src.training import callbacks
from src.training.callbacks import Run, Stop
from src.training.distributed import Place

ALONE = Place('CPU', 0, 0, 1)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    run, context = Run(), RunContext({})
    with Stop(run, 10, ALONE) as stop:
        stop.on_train_step_end(context)
        assert not context.get_stop_requested()
        os.kill(os.getpid(), number)
        assert not context.get_stop_requested()
        stop.on_train_step_end(context)
        assert context.get_stop_requested() and stop.signal == number
    assert signal.getsignal(number) is before


def test_a_signal_that_comes_while_the_processes_agree_counts_after_the_next_step(monkeypatch):
    context, gather = RunContext({}), callbacks.gather

    def interrupted(values, place):
        gathered = gather(values, place)
        os.kill(os.getpid(), signal.SIGTERM)
        return gathered

    with Stop(Run(), 10, ALONE) as stop:
        monkeypatch.setattr(callbacks, 'gather', interrupted)
        stop.on_train_step_end(context)
        assert not stop.signal
        monkeypatch.setattr(callbacks, 'gather', gather)
        stop.on_train_step_end(context)
        assert stop.signal == signal.SIGTERM


def test_the_last_step_stops():
    run, context = Run(step=3), RunContext({})
    Stop(run, 3, ALONE).on_train_step_end(context)
    assert context.get_stop_requested()

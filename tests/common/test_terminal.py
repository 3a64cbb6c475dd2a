"""A line that moves: on a terminal alone, written over, and cleared before lines that stay."""
import io
import sys

import pytest

from src.common import terminal


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize('stream, wanted', [(io.StringIO, True), (Screen, False)])
def test_a_log_and_another_process_stay_silent(monkeypatch, stream, wanted):
    monkeypatch.setattr(sys, 'stderr', stream())
    line = terminal.MovingLine(wanted)
    line.show('half')
    line.clear()
    assert not line.active and sys.stderr.getvalue() == ''


def test_the_line_is_written_over_not_too_often_and_cleared_once(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', Screen())
    now = iter((0.0, 10.0, 10.1, 10.3))
    monkeypatch.setattr(terminal.time, 'perf_counter', lambda: next(now))
    line = terminal.MovingLine()
    for text in ('one', 'too soon', 'two'):
        line.show(text)
    line.clear()
    line.clear()
    assert sys.stderr.getvalue() == '\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K'


@pytest.mark.parametrize('stream, said', [(io.StringIO, '2\n4\n'), (Screen, '\r\x1b[K1\r\x1b[K2\r\x1b[K3\r\x1b[K4\r\x1b[K4\n')])
def test_progress_is_told_now_and_then_and_at_the_end(monkeypatch, stream, said):
    monkeypatch.setattr(sys, 'stderr', stream())
    now = [0.0]
    monkeypatch.setattr(terminal.time, 'perf_counter', lambda: now[0])
    line = terminal.MovingLine()
    for number in range(1, 5):
        now[0] += 3
        line.tell(str(number), number == 4)
    assert sys.stderr.getvalue() == said

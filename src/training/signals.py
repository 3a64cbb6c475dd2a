"""Signals that end a training after the step in progress, with its state saved."""
from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Signals:
    """Block in which SIGINT, SIGTERM and SIGHUP, unless ignored, are noted instead of ending the process; `noted` is the
    signal's number or 0.

    Once MindSpore has run a graph, its own handler turns SIGINT into SIGTERM.
    """

    def __init__(self) -> None:
        self.noted = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        self._before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
        self.now()
        return self

    def now(self) -> int:
        """Return `noted`, and install the handlers again: a starting image pipeline puts a handler of MindSpore, which ends the
        process, below Python's."""
        for number in self._before:
            signal.signal(number, self._note)
        return self.noted

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = number

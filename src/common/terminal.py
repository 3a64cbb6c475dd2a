"""Progress on a terminal."""
import sys
import time

SECONDS = 0.2   # between two states of the line


class MovingLine:
    """One line of standard error that is written over; silent where standard error is no terminal.

    Args:
        wanted: whether this process may write at all.
    """

    def __init__(self, wanted: bool = True):
        self.active = wanted and sys.stderr.isatty()
        self.shown = 0.0

    def show(self, text: str) -> None:
        """Write over the line, but not more often than every SECONDS."""
        now = time.perf_counter()
        if self.active and now - self.shown > SECONDS:
            self.shown = now
            print(f'\r\x1b[K{text}', end='', file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for lines that stay."""
        if self.active and self.shown:
            self.shown = 0.0
            print('\r\x1b[K', end='', file=sys.stderr, flush=True)

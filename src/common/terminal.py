"""Progress on a terminal."""
import sys
import time

SECONDS = 0.2   # between two updates of the line
TOLD_EVERY = 5  # seconds between two printed lines without a terminal


class MovingLine:
    """One line of standard error that is overwritten; `show` is silent if standard error is no terminal.

    Args:
        wanted: whether this process may write at all.
    """

    def __init__(self, wanted: bool = True):
        self.active = wanted and sys.stderr.isatty()
        self.wanted, self.shown, self.told = wanted, 0.0, time.perf_counter()

    def show(self, text: str) -> None:
        """Overwrite the line, at most once in SECONDS."""
        now = time.perf_counter()
        if self.active and now - self.shown > SECONDS:
            self.shown = now
            print(f'\r\x1b[K{text}', end='', file=sys.stderr, flush=True)

    def tell(self, text: str, last: bool = False) -> None:
        """Show progress. The last line stays; without a terminal, a line is printed every TOLD_EVERY seconds."""
        self.show(text)
        if self.wanted and (last or not self.active and time.perf_counter() - self.told > TOLD_EVERY):
            self.told = time.perf_counter()
            self.clear()
            print(text, file=sys.stderr)

    def clear(self) -> None:
        """Clear the line before permanent lines are printed."""
        if self.active and self.shown:
            self.shown = 0.0
            print('\r\x1b[K', end='', file=sys.stderr, flush=True)

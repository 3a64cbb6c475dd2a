"""MindSpore without its own log."""
import logging
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def quiet_mindspore() -> Iterator[None]:
    """MindSpore logs several lines of its own before it raises; what is raised becomes one line of ours."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)

"""The exception for bad input."""
from typing import Any, Dict, Optional


class InputError(ValueError):
    """Bad input from the user: a file, a flag or their contents.

    The message is one line that names the file or flag and says what to do; line breaks in names become blanks. The doors print
    it on standard error and exit with code 2, without a traceback; every other exception is a defect of the project and
    keeps its traceback.

    Attributes:
        figures: results of an evaluation measured before the error.
    """

    figures: Optional[Dict[str, Any]] = None

    def __init__(self, message: object):
        super().__init__(' '.join(str(message).splitlines()))

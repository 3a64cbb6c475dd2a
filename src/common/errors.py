"""The one exception that stands for bad input."""


class InputError(ValueError):
    """Bad input from the user: a file, a flag or their contents.

    The message is one line that names the file or flag and says what to do. The doors print it on standard
    error and exit with code 2, without a traceback; every other exception is a defect of the project and keeps
    its traceback.
    """

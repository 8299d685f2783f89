"""The one error a user can cause."""


class InputError(ValueError):
    """Bad input. The message is one line: the file, the row where there is one, and the remedy.

    The command lines print it as ``error: ...`` and exit with 1; a library user can catch it.
    """

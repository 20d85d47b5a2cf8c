"""The one exception that stands for a mistake of the user, not of the program."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Bad input: a file, a setting or data that cannot be used.

    The message is one clear sentence that names the thing and the way out. The command-line tools print it and exit
    with code 2; from Python it is a ``ValueError`` like any other.
    """

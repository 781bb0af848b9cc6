"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Something the user gave is wrong: a file, a flag, a folder.

    The message is one line: where, what was found, what was wanted, what to do next. The command line prints
    it after `error:` and exits with status 2, without a traceback.
    """

"""What a command reports in one line: a mistake in the input, a training that failed, a server that refused."""


class InputError(ValueError):
    """An input of the user is wrong: a file, a flag, a folder.

    The message is one line: what is wrong (file, value), what was expected, what to do. The command line prints
    it after `error:` and exits with status 2, without a traceback. `TrainingError` and `ServerError` are subclasses.
    """


class TrainingError(InputError):
    """A training cannot continue: no seed has a finite loss, or the device has no memory for it."""


class ServerError(InputError):
    """A server refuses a request, or its answer cannot be used.

    Attributes:
      passing: whether the same command may succeed later (too many requests, an invalid key, no credit).
    """

    def __init__(self, message: str, passing: bool = False):
        super().__init__(message)
        self.passing = passing

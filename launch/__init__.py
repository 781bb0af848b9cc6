"""The commands. Until `cli.run` takes over, and after it has ended, an interrupt leaves in one line and status 130."""

import os
import signal
import sys


def _leave(*_) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)  # imports and tear-down have nothing to save, and no place for an exception


if sys.argv[0] == "-m":  # as it is while Python looks for the module of `python -m launch.train`
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)

"""The commands. Before and after `cli.run`, an interrupt ends the process with one line and status 130."""

import sys

from . import signals

if sys.argv[0] == "-m":  # as it is while Python looks for the module of `python -m launch.train`
    signals.leave_at_once()

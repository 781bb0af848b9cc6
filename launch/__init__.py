"""The commands. Before `cli.run` begins and after it has ended, an interrupt ends the process with status 130."""

import sys

from . import quick, signals

if sys.argv[0] == "-m":  # Python sets this while it looks for the module of `python -m launch.train`
    signals.leave_at_once()
    quick.begin()

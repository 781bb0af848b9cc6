"""How a user starts a command of this project: from the repository, or from an installed wheel."""

from __future__ import annotations

_by_script = False


def of_script() -> None:
    """From now on, `line` spells commands as the console script does: `llmesr train`."""
    global _by_script
    _by_script = True


def line(command: str) -> str:
    """The start of a command line: `llmesr train` if this command was started so, else `python -m launch.train`.

    >>> line("train")
    'python -m launch.train'
    """
    return f"llmesr {command}" if _by_script else f"python -m launch.{command}"

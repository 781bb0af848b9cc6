"""All commands behind one name: `llmesr train --dataset=demo` from an installed wheel, or `python -m launch train ...`."""

from __future__ import annotations

import contextlib
import importlib
import sys

from . import quick, signals

COMMANDS = {
    "train": "train one or several methods",
    "prepare": "make a data set from raw files",
    "filter": "apply the rules of prepare with DuckDB or Spark",
    "inspect": "show what is in a data set, and what may mislead",
    "embed": "embed the texts of items and users",
    "recommend": "recommend to users of a run, or to any users",
    "export": "write a bundle that recommends without the training set",
    "serve": "answer over HTTP, with a page to try it",
    "evaluate": "measure finished runs again",
    "sweep": "train a grid of runs, or search for settings",
    "report": "write tables, tests and figures of finished runs",
    "leaderboard": "write the page of published runs",
    "gradients": "analyse the loss of a run by terms, users and items",
    "benchmark": "time every part of a run",
    "doctor": "show the state of this installation and its problems",
}


def main() -> None:
    """Runs the command of the first argument with the other arguments."""
    name = next(iter(sys.argv[1:]), "--help")
    if name in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = ["llmesr <command> [--flags]", "", *(f"  {c:<{width}}  {what}" for c, what in COMMANDS.items())]
        with contextlib.suppress(BrokenPipeError):  # as `llmesr --help | head` does
            print("\n".join([*lines, "", "llmesr <command> --help lists the flags of a command."]), flush=True)
        sys.exit(0)
    if name == "--version":
        from llmesr_jax import __version__

        print(__version__)
        sys.exit(0)
    if name not in COMMANDS:
        from llmesr_jax.core.nearest import not_known

        print(f"error: {not_known('command', name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    from llmesr_jax.core import commands

    signals.leave_at_once()
    quick.begin()
    commands.of_script()
    sys.argv = [f"llmesr {name}", *sys.argv[2:]]
    importlib.import_module(f"{__package__}.{name}").run()


if __name__ == "__main__":
    main()

"""Writes the page of published runs.

    python -m launch.train --dataset=demo --method=none --publish
    python -m launch.leaderboard

The first command writes a file into leaderboard/, the second makes docs/leaderboard.md of all files there.
"""

import dataclasses
from pathlib import Path

from llmesr_jax.core.knobs import knob

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """What to read and write."""

    folder: str = knob("leaderboard", "folder of the entries, as launch.train --publish writes them")
    out: str = knob("docs/leaderboard.md", "the page, in Markdown")


def define_flags() -> None:
    setting_flags.define(Options)


def main(argv, stop):
    from llmesr_jax.core import files
    from llmesr_jax.core.errors import InputError
    from llmesr_jax.experiments import leaderboard

    options = setting_flags.made(Options)
    out, entries = Path(options.out), leaderboard.read(options.folder)
    if not out.parent.is_dir():
        raise InputError(f"{out.parent}: no such folder; expected one to write the page into; choose another --out")
    files.write_text(out, leaderboard.page(entries))
    print(f"{out}: {len(entries)} runs")


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main, with_config=False)


if __name__ == "__main__":
    run()

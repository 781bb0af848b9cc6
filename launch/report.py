"""Writes tables, tests, figures and one page from finished runs.

    python -m launch.report runs/demo/sasrec-paper

Run folders are found in and below the named folders; they are not changed. See docs/report.md.
"""

import dataclasses

from llmesr_jax.core import commands
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.experiments.report.settings import Options

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Folders:
    """The folders of the runs, and of the report."""

    workdir: tuple[str, ...] = knob((), "folder with runs in or below it; the same as an argument without --workdir")
    out: str = knob("", "folder for the report; empty: report/ in the first of the folders")


def define_flags() -> None:
    for cls in (Folders, Options):
        setting_flags.define(cls, repeated=("workdir", "data_dir"))


def main(argv, stop):
    asked = setting_flags.made(Folders)
    folders = [*argv[1:], *asked.workdir]
    if not folders:
        raise InputError(
            f"no folder is named; expected the folder of a run, or of several: {commands.line('report')} runs/demo"
        )
    from llmesr_jax.experiments.report import make

    print(make.make(folders, asked.out, setting_flags.made(Options)))


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main, words=True)


if __name__ == "__main__":
    run()

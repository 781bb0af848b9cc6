"""Analyses the loss of a trained run: which terms conflict, in which parts of the model, and for which users.

    python -m launch.gradients --workdir=runs/demo/sasrec-paper/llmesr
    python -m launch.gradients --workdir=runs/demo/sasrec-paper/llmesr --epochs=0,1,2,5,10
    python -m launch.gradients --workdir=runs/demo/sasrec-paper/llmesr --epochs=0,1,2,5 --influence=tracin

The first command measures the run's best parameters. The second trains the same configuration again, below `--out`, and
measures after each of these epochs. The third also estimates by how much training on each user changes the loss of the
targets. The same command continues an interrupted study. See docs/gradients.md for the measurements.
"""

import dataclasses

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.experiments.gradients import settings

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Study(settings.Options):
    """Which run to analyse, and where to write."""

    workdir: str = knob("", "folder of a run, made by launch.train")
    out: str = knob("", "folder for numbers and pictures; empty: gradients/ below the run")
    epochs: tuple[int, ...] = knob(
        (), "train again and measure after each of these epochs; empty: measure the run's best parameters"
    )
    data_dir: str = knob("", "folder of the data set, if it was moved since training")
    seed: int | None = knob(None, "seed of the run; default: the first", least=0)


def define_flags() -> None:
    setting_flags.define(Study)


def main(argv, stop):
    asked = setting_flags.made(Study)
    if not asked.workdir:
        raise InputError("--workdir is missing; expected the folder of a run, made by launch.train")
    from llmesr_jax.experiments.gradients import plots, study

    options = setting_flags.made(settings.Options)
    folder = study.study(asked.workdir, asked.out, options, asked.epochs, asked.data_dir, asked.seed, stop=stop)
    influence = [study.INFLUENCE] * (options.influence != "none")
    made = [study.RESULTS, study.USERS, *influence, *(path.name for path in plots.draw(folder))]
    print(f"\n{folder}: {', '.join(made)}")


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

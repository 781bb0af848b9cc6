"""Measures one or several trained runs again, from their best parameters, and prints all groups.

    python -m launch.evaluate --workdir=runs/demo/sasrec-paper

Nothing is written. The numbers should equal those of results.json; a line says whether every digit does.
"""

import dataclasses

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import groups
from llmesr_jax.ranking import metrics

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Options(groups.TailConfig):
    """What to measure."""

    workdir: str = knob("", "folder of a run, or a folder with several runs in it, which are compared")
    data_dir: str = knob("", "folder of the data set, if it was moved since training")
    protocol: str = knob(
        "both",
        "candidates that a target is ranked against: full (all items), sampled (100 random items), or both in turn",
        choices=("both", *metrics.PROTOCOLS),
    )
    split: str = knob(
        "both", "targets to rank: those of test, of valid (validation), or both", choices=("both", "test", "valid")
    )


def define_flags() -> None:
    setting_flags.define(Options)


def main(argv, stop):
    options = setting_flags.made(Options)
    if not options.workdir:
        raise InputError("--workdir is missing; expected the folder of a run, or of several, made by launch.train")
    from llmesr_jax.ranking import breakdown, evaluate
    from llmesr_jax.training import runs

    protocols = metrics.PROTOCOLS if options.protocol == "both" else (options.protocol,)
    splits = runs.SPLITS if options.split == "both" else (options.split,)
    results = {}
    for name, folder in runs.find(options.workdir).items():
        run = runs.load(folder, options.data_dir)
        print(f"{folder}: {run.describe()}", flush=True)
        tail = groups.tail_of(options.tail, run.experiment.config.dataset, options.tail_user, options.tail_item)
        results[name] = runs.evaluate_run(run, splits, protocols, tail)
        same = runs.compare(run, results[name]) if tail == groups.TRAINING else f"head and tail: {tail}"
        print(same, flush=True)
    for split in splits:
        for protocol in protocols:
            of_split = {name: found[split] for name, found in results.items()}
            print(f"\n{split}\n{evaluate.results_table(of_split, protocol)}\n\n{breakdown.table(of_split, protocol)}")


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

"""Measures one or several trained runs again, from their best parameters, and prints all groups.

    python -m launch.evaluate --workdir=runs/demo/sasrec-paper

Nothing is written. The numbers are those of results.json; a line says whether they are, to the last digit.
"""

from absl import flags

from llmesr_jax.core.errors import InputError
from llmesr_jax.ranking import metrics

from . import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("workdir", "", "folder of a run, or a folder with several below it, which are compared")
    flags.DEFINE_string("data_dir", "", "folder of the data set, where it is not where it was at training")
    flags.DEFINE_enum("protocol", "both", ["both", "full", "sampled"], "candidates that the target is ranked against")
    flags.DEFINE_enum("split", "both", ["both", "test", "valid"], "which items are the targets")
    cli.define_tail_flags()


def main(argv, stop):
    if not FLAGS.workdir:
        raise InputError("--workdir is missing; wanted the folder of a run, or of several, as launch.train makes it")
    from llmesr_jax.data import groups
    from llmesr_jax.ranking import breakdown, evaluate
    from llmesr_jax.training import runs

    protocols = metrics.PROTOCOLS if FLAGS.protocol == "both" else (FLAGS.protocol,)
    splits = runs.SPLITS if FLAGS.split == "both" else (FLAGS.split,)
    results = {}
    for name, folder in runs.find(FLAGS.workdir).items():
        run = runs.load(folder, FLAGS.data_dir)
        print(f"{folder}: {run.describe()}", flush=True)
        tail = groups.tail_of(FLAGS.tail, run.experiment.config.dataset, FLAGS.tail_user, FLAGS.tail_item)
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

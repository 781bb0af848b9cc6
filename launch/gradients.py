"""Takes the loss of a trained run apart: which terms conflict, where in the model, and for whom.

    python -m launch.gradients --workdir=runs/demo/sasrec-paper/llmesr
    python -m launch.gradients --workdir=runs/demo/sasrec-paper/llmesr --epochs=0,1,2,5,10

The first measures the run's best parameters, the second follows a training of the same configuration, made anew below
`--out`. The same command continues an interrupted study. What is measured: docs/gradients.md.
"""

from absl import flags

from llmesr_jax.core.errors import InputError

from . import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("workdir", "", "folder of a run, as launch.train makes it")
    flags.DEFINE_string("out", "", "folder for numbers and pictures; empty: gradients/ below the run")
    flags.DEFINE_list("epochs", [], "train anew and measure after each of these; empty: the run's best parameters")
    flags.DEFINE_string("data_dir", "", "folder of the data set, where it is not where it was at training")
    flags.DEFINE_integer("seed", None, "which of the run's seeds; its first if not given", lower_bound=0)
    flags.DEFINE_integer("steps", 32, "training batches on which terms are compared", lower_bound=1)
    flags.DEFINE_integer(
        "users", 1024, "users who are looked at one by one, rounded up to whole batches", lower_bound=2
    )
    flags.DEFINE_integer("eigenvalues", 1, "leading eigenvalues of the Hessian, of each term; 0: none", lower_bound=0)
    flags.DEFINE_integer("hessian_batches", 2, "batches whose mean loss the curvature is of", lower_bound=1)
    flags.DEFINE_enum("surface", "none", ["none", "random", "eigenvectors"], "directions of the loss's surface")
    flags.DEFINE_integer("grid", 15, "points of the surface along either direction", lower_bound=2)


def main(argv, stop):
    if not FLAGS.workdir:
        raise InputError("--workdir is missing; wanted the folder of a run, as launch.train makes it")
    if not all(epoch.strip().isdigit() for epoch in FLAGS.epochs):
        raise InputError(f"--epochs={','.join(FLAGS.epochs)}: wanted numbers of epochs, as in --epochs=0,1,2,5,10")
    from llmesr_jax.experiments.gradients import plots, probe, study

    names = ("steps", "users", "eigenvalues", "hessian_batches", "surface", "grid")
    options = probe.Options(**{name: FLAGS[name].value for name in names})
    epochs = [int(epoch) for epoch in FLAGS.epochs]
    folder = study.study(FLAGS.workdir, FLAGS.out, options, epochs, FLAGS.data_dir, FLAGS.seed, stop=stop)
    made = [study.RESULTS, study.USERS, *(path.name for path in plots.draw(folder))]
    print(f"\n{folder}: {', '.join(made)}")


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

"""Tables, tests, figures and one page from finished runs.

    python -m launch.report runs/demo/sasrec-paper

Run folders are found below the folders that are named; nothing in them is changed. See docs/report.md.
"""

from absl import flags

from llmesr_jax.core import commands
from llmesr_jax.core.errors import InputError

from . import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_multi_string("workdir", [], "a folder with runs in or below it, as if named without --workdir")
    flags.DEFINE_string(
        "baseline",
        "",
        "what rows are tested against: a method (on the same backbone), the name of a row or of a folder",
    )
    flags.DEFINE_string("out", "", "folder for the report; empty: report/ in the first of the folders")
    flags.DEFINE_multi_string("data_dir", [], "a folder of data that are not where they were at training")
    flags.DEFINE_enum("metric", "N@10", ["H@10", "N@10"], "what is tested and drawn")
    flags.DEFINE_integer("resamples", 2000, "of the bootstrap", lower_bound=100)
    flags.DEFINE_integer("users", 6, "tail users whose lists are shown; 0: none", lower_bound=0)
    flags.DEFINE_integer("items", 800, "items in the pictures of item vectors (t-SNE); 0: none", lower_bound=0)
    cli.define_tail_flags()


def main(argv, stop):
    folders = [*argv[1:], *FLAGS.workdir]
    if not folders:
        raise InputError(f"no folder is named; wanted one of a run, or of several: {commands.line('report')} runs/demo")
    from llmesr_jax.experiments.report import make

    names = ("metric", "resamples", "users", "items", "tail", "tail_user", "tail_item")
    options = make.Options(FLAGS.baseline, tuple(FLAGS.data_dir), *(FLAGS[name].value for name in names))
    print(make.make(folders, FLAGS.out, options))


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main, words=True)


if __name__ == "__main__":
    run()

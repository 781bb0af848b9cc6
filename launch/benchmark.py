"""Times training steps, evaluation and ranking of any method, backbone and data set; writes and trains nothing.

python -m launch.benchmark --dataset=demo --method=llmesr --out=benchmark.json
"""

import json
from pathlib import Path

from absl import flags

from . import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    cli.define_flags()
    flags.DEFINE_list("groups", ["1", "3"], "sizes of the groups of seeds whose steps are timed")
    flags.DEFINE_integer("count", 50, "training steps of one timing", lower_bound=1)
    flags.DEFINE_integer("repeats", 5, "timings of each part; medians are shown", lower_bound=1)
    flags.DEFINE_integer("eval_users", 0, "users who are ranked for, drawn once; 0: all", lower_bound=0)
    flags.DEFINE_string(
        "synthetic", "", "users,items,width: noise of this size, Zipf popularity, in place of a data set's files"
    )
    flags.DEFINE_string("out", "", "JSON file for the numbers")
    flags.DEFINE_string("plot", "", "times nothing: a picture (.svg, .png, .pdf) of the files named by --files")
    flags.DEFINE_list("files", [], "files of earlier --out, for --plot")


def main(argv, stop):
    from llmesr_jax.core import files
    from llmesr_jax.core.errors import InputError
    from llmesr_jax.experiments import benchmark, benchmark_plot
    from llmesr_jax.training import experiment

    if FLAGS.plot:
        return benchmark_plot.plot(FLAGS.files, FLAGS.plot)
    configs = cli.configs_from_flags()

    if not all(size.isdigit() and int(size) for size in FLAGS.groups):
        raise InputError(f"--groups={','.join(FLAGS.groups)}: wanted numbers of seeds, as in --groups=1,3")
    size = FLAGS.synthetic.split(",") if FLAGS.synthetic else []
    if size and not (len(size) == 3 and all(n.isdigit() and int(n) for n in size)):
        raise InputError(f"--synthetic={FLAGS.synthetic}: wanted users,items,width, as in --synthetic=100000,50000,384")
    results = {}
    for config in configs:
        sizes = tuple(int(size) for size in FLAGS.groups)
        made = benchmark.synthetic(config, *map(int, size)) if size else experiment.prepare(config)
        results[config.method] = benchmark.run(made, sizes, FLAGS.count, FLAGS.repeats, FLAGS.eval_users)
        print(benchmark.table(results[config.method]) + "\n", flush=True)
    if FLAGS.out:
        files.write_text(Path(FLAGS.out), json.dumps(results, indent=1) + "\n")


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

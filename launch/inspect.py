"""Says what is in a data set, and what in it would mislead.

    python -m launch.inspect --dataset=fashion
    python -m launch.inspect --dataset=mine --data_dir=path/to/folder --json

Nothing is written, and nothing is trained. See docs/data.md, "Audit".
"""

import json

from absl import flags

from llmesr_jax.core.errors import InputError

from . import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("dataset", "", "data set: the demo, one that launch.prepare made, or any name with --data_dir")
    flags.DEFINE_string("data_dir", "", "its folder; empty: data/<dataset>")
    flags.DEFINE_boolean("json", False, "print JSON; docs/data.md documents its keys")


def main(argv, stop):
    if not FLAGS.dataset:
        raise InputError("--dataset is missing; wanted the name of a data set, such as fashion")
    from llmesr_jax.audit import audit

    found = audit.of_folder(FLAGS.dataset, FLAGS.data_dir or None)
    print(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if FLAGS.json else audit.describe(found))


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main, with_config=False)


if __name__ == "__main__":
    run()

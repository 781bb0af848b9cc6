"""Shows what is in a data set, and warns of what may make results misleading.

    python -m launch.inspect --dataset=fashion
    python -m launch.inspect --dataset=mine --data_dir=path/to/folder --json

Nothing is written, and nothing is trained. See docs/data.md, "Audit".
"""

import dataclasses
import json

from llmesr_jax.core import wording
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """The data set, and the form of the output."""

    dataset: str = knob("", "data set: the demo, one that launch.prepare made, or any name with --data_dir")
    data_dir: str = knob("", "folder of the data set; empty: data/<dataset>")
    json: bool = knob(False, "print JSON; docs/data.md documents its keys")


def define_flags() -> None:
    setting_flags.define(Options)


def main(argv, stop):
    options = setting_flags.made(Options)
    if not options.dataset:
        raise InputError("--dataset is missing; expected the name of a data set, such as fashion")
    from llmesr_jax.audit import audit

    found = audit.of_folder(options.dataset, options.data_dir or None)
    print(
        json.dumps(found.as_json(), indent=2, ensure_ascii=False)
        if options.json
        else wording.wrapped(audit.describe(found))
    )


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main, with_config=False)


if __name__ == "__main__":
    run()

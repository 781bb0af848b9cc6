"""Shows the state of this installation and its problems, as text to paste into an issue.

    python -m launch.doctor
    python -m launch.doctor --clear_cache

It shows versions, devices and their speed, memory and caches. Nothing is trained, and no secret is printed.
"""

import dataclasses

from llmesr_jax.core.knobs import knob

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags."""

    clear_cache: bool = knob(False, "delete traced and compiled programs instead; they are made again when needed")


def define_flags() -> None:
    setting_flags.define(Options)


def main(argv, stop):
    from llmesr_jax.core.version import VERSION
    from llmesr_jax.experiments import doctor

    folder = cli.compiled_folder()
    if setting_flags.made(Options).clear_cache:
        return print(f"{folder}: {doctor.clear(folder) / 2**20:,.0f} MiB deleted")
    print(doctor.examine(VERSION, folder, cli.MOST_COMPILED))


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main, with_config=False)


if __name__ == "__main__":
    run()

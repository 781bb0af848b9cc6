"""Writes a bundle: a folder that recommends without the training set, the method's code and most packages.

    python -m launch.export --workdir=runs/demo/sasrec-paper/llmesr --out=bundle

It needs jax, numpy and flatbuffers: `llmesr_jax.load_bundle("bundle").recommend([["raw id", ...]])`. What is exported is
compared with the run before it is put in place. What a bundle holds: docs/serving.md.
"""

import dataclasses

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """What is exported, and where to."""

    workdir: str = knob("", "folder of a run, as launch.train makes it")
    data_dir: str = knob("", "folder of the data set, where it is not where it was at training")
    out: str = knob("", "folder of the bundle")
    seed: int | None = knob(None, "which of the run's seeds; the one best in validation if not given", least=0)
    platforms: tuple[str, ...] = knob(("cpu", "cuda"), "where the bundle runs: some of cpu, cuda, rocm, tpu")
    embeddings: bool = knob(True, "with the items' frozen embeddings, for new items and diversity")
    onnx: int = knob(0, "the encoder as ONNX, too, for so many histories at a time; 0: none", least=0)
    overwrite: bool = knob(False, "replace a bundle that is there")


def define_flags() -> None:
    setting_flags.define(Options)


def main(argv, stop):
    options = setting_flags.made(Options)
    for name in ("workdir", "out"):
        if not getattr(options, name):
            raise InputError(
                f"--{name} is missing; expected --workdir, the folder of a run, and --out, a folder to make"
            )
    from llmesr_jax.serving import export, run

    settings = export.Settings(tuple(options.platforms), options.embeddings, options.onnx, options.overwrite)
    manifest = export.export(run.load(options.workdir, options.data_dir), options.out, settings, options.seed)
    size = sum(file["bytes"] for file in manifest["files"].values()) / 2**20
    print(
        f"{options.out}: {manifest['items']:,} items, {size:.1f} MiB, for {' and '.join(manifest['platforms'])}; "
        f"scores equal the run's to {max(manifest['parity'].values()):.0e}"
    )


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

"""Writes a bundle: a folder that recommends without the training set, the method's code and most packages.

    python -m launch.export --workdir=runs/demo/sasrec-paper/llmesr --out=bundle

A bundle needs jax, numpy and flatbuffers: `llmesr_jax.load_bundle("bundle").recommend([["raw id", ...]])`. It is
compared with the run before it is moved into place. See docs/serving.md for its content.
"""

import dataclasses

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """What to export, and where to."""

    workdir: str = knob("", "folder of a run, made by launch.train")
    data_dir: str = knob("", "folder of the data set, if it was moved since training")
    out: str = knob("", "folder of the bundle")
    seed: int | None = knob(None, "seed of the run; default: the seed best in validation", least=0)
    platforms: tuple[str, ...] = knob(("cpu", "cuda"), "platforms of the bundle: some of cpu, cuda, rocm, tpu")
    embeddings: bool = knob(True, "include the items' frozen embeddings, for new items and diversity")
    onnx: int = knob(0, "also write the encoder as ONNX, for this number of histories per batch; 0: no ONNX", least=0)
    overwrite: bool = knob(False, "replace an existing bundle")


def define_flags() -> None:
    setting_flags.define(Options)


def main(argv, stop):
    options = setting_flags.made(Options)
    for name in ("workdir", "out"):
        if not getattr(options, name):
            raise InputError(f"--{name} is missing; expected --workdir, the folder of a run, and --out, a new folder")
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

"""Writes a bundle: a folder that recommends without the training set, the method's code and most packages.

    python -m launch.export --workdir=runs/demo/sasrec-paper/llmesr --out=bundle

It needs jax, numpy and flatbuffers: `llmesr_jax.load_bundle("bundle").recommend([["raw id", ...]])`. What is exported is
compared with the run before it is put in place. What a bundle holds: docs/serving.md.
"""

from absl import flags

from llmesr_jax.core.errors import InputError

from . import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("workdir", "", "folder of a run, as launch.train makes it")
    flags.DEFINE_string("data_dir", "", "folder of the data set, where it is not where it was at training")
    flags.DEFINE_string("out", "", "folder of the bundle")
    flags.DEFINE_integer(
        "seed", None, "which of the run's seeds; the one best in validation if not given", lower_bound=0
    )
    flags.DEFINE_list("platforms", ["cpu", "cuda"], "where the bundle runs: some of cpu, cuda, rocm, tpu")
    flags.DEFINE_bool("embeddings", True, "with the items' frozen embeddings, for new items and diversity")
    flags.DEFINE_integer("onnx", 0, "the encoder as ONNX, too, for so many histories at a time; 0: none", lower_bound=0)
    flags.DEFINE_bool("overwrite", False, "replace a bundle that is there")


def main(argv, stop):
    for name in ("workdir", "out"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is missing; wanted --workdir, the folder of a run, and --out, a folder to make")
    from llmesr_jax.serving import export, run

    settings = export.Settings(tuple(FLAGS.platforms), FLAGS.embeddings, FLAGS.onnx, FLAGS.overwrite)
    manifest = export.export(run.load(FLAGS.workdir, FLAGS.data_dir), FLAGS.out, settings, FLAGS.seed)
    size = sum(file["bytes"] for file in manifest["files"].values()) / 2**20
    print(
        f"{FLAGS.out}: {manifest['items']:,} items, {size:.1f} MiB, for {' and '.join(manifest['platforms'])}; scores "
        f"equal the run's to {max(manifest['parity'].values()):.0e}"
    )


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

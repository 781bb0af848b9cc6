"""Embeds the texts of a data set's items and users, and prepares the tables that training starts from.

    python -m launch.embed --dataset=fashion
    python -m launch.embed --dataset=fashion --encoder=openai --model=text-embedding-3-small

The same command continues an interrupted run, pays nothing twice, and does nothing if everything is up to date.
"""

import dataclasses
import shlex

from absl import flags
from ml_collections import config_flags

from llmesr_jax.core import commands, knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import reading
from llmesr_jax.semantic import encoders
from llmesr_jax.training import config as config_lib

from . import cli, encoder_flags, setting_flags

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Options:
    """What to embed, by which encoder, and how."""

    dataset: str = knob("", "data set to embed, made by launch.prepare")
    data_dir: str = knob("", "folder of the data set; empty: data/<dataset>")
    encoder: str = knob("tfidf", "encoder of the texts; --encoder=help lists all")
    user_template: str = knob("", "your own user prompt, with {titles} for the titles of the training items")
    float16: bool = knob(False, "write float16, which has half the size and three significant digits")
    append: bool = knob(False, "embed only new items and users; existing rows stay as they are")
    overwrite: bool = knob(False, "replace embeddings that were made with other settings, or by you")
    tables: bool = knob(True, "also compute PCA start and similar users; else the first training does")
    yes: bool = knob(False, "spend money without asking")
    dry_run: bool = knob(False, "show the number of texts and tokens, and the price, and stop")
    skip_failed: bool = knob(False, "write rows of zeros for texts without a usable vector, and count them")
    shards: int = knob(
        1,
        "number of processes that share the texts, each started with its own --shard; when all are done, run the "
        "command without --shards and --shard to merge them",
        least=1,
    )
    shard: int | None = knob(None, "which of the --shards this process embeds, from 0", least=0)
    ray: int = knob(
        0, "number of Ray actors that encode, in the cluster of RAY_ADDRESS or on this machine; 0: without Ray", least=0
    )
    ray_gpus: float = knob(0.0, "--ray: GPUs of each actor, such as 1 or 0.5", least=0)


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Settings of the section `semantic`; if they are not set, those of the data set apply."""

    item_template: str | None = knob(
        None, "your own item prompt, such as 'A {noun}: {title}[ by {brand}]' (docs/embeddings.md)"
    )
    crop: bool | None = knob(None, "item prompts with name and categories only")


def define_flags() -> None:
    for cls in (Options, Prompts):
        setting_flags.define(cls)
    encoder_flags.define({*knobs.fields(Options), *knobs.fields(Prompts)})


def main(argv, stop):
    options = setting_flags.made(Options)
    if options.encoder in ("?", "help"):
        return print(encoders.PLUGINS.listing())
    if not options.dataset:
        raise InputError("--dataset is missing; expected the name of a data set, such as fashion")
    given = {"dataset": options.dataset, "data_dir": options.data_dir}
    given |= {f"semantic.{name}": value for name, value in setting_flags.given(Prompts).items()}
    config = config_lib.build(config_flags.get_override_values(FLAGS["config"]), given, FLAGS.config)
    encoder_config = encoder_flags.config(options.encoder)
    from llmesr_jax.data.splits import MOST_REPEATED
    from llmesr_jax.semantic import embed, ray_data, shards, tables, texts

    corpus = reading.load(config.dataset, config.data_dir or None, config_lib.section(config, "data"))
    semantic = config_lib.section(config, "semantic")
    wording = texts.Wording(semantic.item_template, semantic.crop, options.user_template)
    flagged = {name: getattr(options, name) for name in embed.Options._fields}
    flagged["shard"] = shards.shard_of(options.shards, options.shard)
    flagged["ray"] = ray_data.Actors(options.ray, options.ray_gpus) if options.ray else None
    if embed.embed(corpus, options.encoder, encoder_config, wording, embed.Options(**flagged), stop=stop):
        if options.tables:
            tables.derive(corpus, semantic, config_lib.section(config, "llmesr").width)
        args = [f"--dataset={options.dataset}", *([f"--data_dir={options.data_dir}"] if options.data_dir else [])]
        if max(corpus.repeated(part).mean() for part in corpus.targets) > MOST_REPEATED:
            args.append("--config.train.seen_items=shown")
        if options.dataset not in reading.DATASETS:  # on the papers' data sets, users may want their presets
            args.append("--preset=best")
        print(f"next: {commands.line('train')}", shlex.join(args))


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

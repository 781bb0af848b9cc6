"""Embeds the texts of a data set's items and users, and prepares the tables that training starts from.

    python -m launch.embed --dataset=fashion
    python -m launch.embed --dataset=fashion --encoder=openai --model=text-embedding-3-small

The same command continues an interrupted run, pays nothing twice, and does nothing where all is up to date.
"""

import shlex

from absl import flags
from ml_collections import config_flags

from llmesr_jax.core import commands
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import reading
from llmesr_jax.semantic import encoders
from llmesr_jax.training import config as config_lib

from . import cli, encoder_flags

FLAGS = flags.FLAGS
_SEMANTIC = ("item_template", "crop")


def define_flags() -> None:
    flags.DEFINE_string("dataset", "", "data set to embed, as launch.prepare made it")
    flags.DEFINE_string("data_dir", "", "its folder; empty: data/<dataset>")
    flags.DEFINE_string("encoder", "tfidf", "what makes the vectors; --encoder=help lists them")
    flags.DEFINE_string(
        "item_template", None, "item prompts of your own, 'A {noun}: {title}[ by {brand}]' (docs/data.md)"
    )
    flags.DEFINE_string("user_template", "", "user prompts of your own, over {titles}, those of the training items")
    flags.DEFINE_boolean("crop", None, "item prompts with name and categories only")
    flags.DEFINE_boolean("float16", False, "write float16: half the size")
    flags.DEFINE_boolean("append", False, "embed new items and users only; the rows that are there stay as they are")
    flags.DEFINE_boolean("overwrite", False, "replace embeddings that other settings, or you, made")
    flags.DEFINE_boolean("tables", True, "PCA start and similar users, too; else the first training makes them")
    flags.DEFINE_boolean("yes", False, "spend without a question")
    flags.DEFINE_boolean("dry_run", False, "count texts, tokens and price, and stop")
    encoder_flags.define()


def main(argv, stop):
    if FLAGS.encoder in ("?", "help"):
        return print(encoders.PLUGINS.listing())
    if not FLAGS.dataset:
        raise InputError("--dataset is missing; wanted the name of a data set, such as fashion")
    given = {"dataset": FLAGS.dataset, "data_dir": FLAGS.data_dir}
    given |= {f"semantic.{name}": FLAGS[name].value for name in _SEMANTIC if FLAGS[name].value is not None}
    config = config_lib.build(config_flags.get_override_values(FLAGS["config"]), given, FLAGS.config)
    encoder_config = encoder_flags.config(FLAGS.encoder)
    from llmesr_jax.data.splits import MOST_REPEATED
    from llmesr_jax.semantic import embed, tables, texts

    corpus = reading.load(config.dataset, config.data_dir or None, config_lib.section(config, "data"))
    semantic = config_lib.section(config, "semantic")
    wording = texts.Wording(semantic.item_template, semantic.crop, FLAGS.user_template)
    flagged = {name: FLAGS[name].value for name in embed.Options._fields}
    if embed.embed(corpus, FLAGS.encoder, encoder_config, wording, embed.Options(**flagged), stop=stop):
        if FLAGS.tables:
            tables.derive(corpus, semantic, config_lib.section(config, "llmesr").width)
        args = [f"--dataset={FLAGS.dataset}", *([f"--data_dir={FLAGS.data_dir}"] if FLAGS.data_dir else [])]
        if max(corpus.repeated(part).mean() for part in corpus.targets) > MOST_REPEATED:
            args.append("--config.train.seen_items=shown")
        print(f"next: {commands.line('train')}", shlex.join(args))


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

"""Recommends to all users of a trained run, to some of them, or to anyone by a file of histories.

    python -m launch.recommend --workdir=runs/demo/sasrec-paper/llmesr --out=recs.csv
    python -m launch.recommend --workdir=runs/mine/sasrec-best/faerec --histories=orders.csv --out=recs.parquet --k=20
    python -m launch.recommend --bundle=bundle --histories=orders.jsonl --out=recs.jsonl --where='price<20'

The file has a row a recommendation (user, rank, item, score, title, source), or in JSON lines an object a user. The same
command continues what was interrupted. What the flags mean in full: docs/serving.md.
"""

from absl import flags

from . import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("workdir", "", "folder of a run, as launch.train makes it")
    flags.DEFINE_string("bundle", "", "folder of a bundle, as launch.export makes it; in place of --workdir")
    flags.DEFINE_string("data_dir", "", "folder of the data set, where it is not where it was at training")
    flags.DEFINE_integer(
        "seed", None, "which of the run's seeds; the one best in validation if not given", lower_bound=0
    )
    flags.DEFINE_string("out", "", "file to write: .parquet, .csv or .jsonl")
    flags.DEFINE_bool("overwrite", False, "replace --out where it is there already")
    flags.DEFINE_string("users", "", "file of raw user ids of the data set, one a line; empty: all of them")
    flags.DEFINE_string("histories", "", "CSV, JSON lines or Parquet file of histories of anyone, by raw item ids")
    flags.DEFINE_string("user_column", "user_id", "--histories: column of the user")
    flags.DEFINE_string(
        "item_column", "item_id", "--histories: column of the item, in a file with a row an interaction"
    )
    flags.DEFINE_string(
        "time_column", "", "--histories: column of the time; empty: one that looks like it, else file order"
    )
    flags.DEFINE_string("items_column", "items", "--histories: column of the list, in a file with a row a user")
    flags.DEFINE_string("separator", "", "--histories: between the fields of a line; empty: the one that fits")
    flags.DEFINE_string("encoding", "", "--histories: of a text file; empty: UTF-8, and Windows-1252 where it is not")
    flags.DEFINE_integer("k", 10, "recommendations a user", lower_bound=1)
    flags.DEFINE_enum("seen", "hidden", ["hidden", "shown"], "items of the user's own history")
    flags.DEFINE_string(
        "new_items", "", "JSON lines of items that came after training: item (raw id), title, other columns"
    )
    flags.DEFINE_string("new_embeddings", "", ".npy of floats: the embeddings of --new_items, a row a line")
    flags.DEFINE_string("allow", "", "file of raw item ids, one a line: recommend these only")
    flags.DEFINE_string("deny", "", "file of raw item ids, one a line: never recommend these")
    flags.DEFINE_multi_string(
        "where", [], "condition on a column of the items' file, such as brand=Acme, price<20, title~tea; all must hold"
    )
    flags.DEFINE_enum(
        "index",
        "exact",
        ["exact", "faiss", "usearch"],
        "search; faiss and usearch are approximate, for millions of items",
    )
    flags.DEFINE_float("tail_share", 0.0, "at least this share of a list are tail items", lower_bound=0, upper_bound=1)
    flags.DEFINE_float(
        "diversity",
        0.0,
        "0: the best scores; towards 1: items that are unlike each other by their embeddings (maximal marginal relevance)",
        lower_bound=0,
        upper_bound=1,
    )


def main(argv, stop):
    from llmesr_jax.serving import bulk, histories
    from llmesr_jax.serving.model import Options

    columns = histories.Columns(
        FLAGS.user_column, FLAGS.item_column, FLAGS.time_column, FLAGS.items_column, FLAGS.separator, FLAGS.encoding
    )
    options = Options(
        FLAGS.k,
        FLAGS.seen == "hidden",
        where=tuple(FLAGS.where),
        tail_share=FLAGS.tail_share,
        diversity=FLAGS.diversity,
    )
    names = (
        "out",
        "workdir",
        "bundle",
        "data_dir",
        "seed",
        "users",
        "histories",
        "new_items",
        "new_embeddings",
        "index",
    )
    given = {name: FLAGS[name].value for name in (*names, "allow", "deny", "overwrite")}
    print(bulk.recommend(bulk.Request(**given, columns=columns, options=options), stop=stop))


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

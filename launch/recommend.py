"""Recommends to all or some users of a trained run, or to any users by a file of histories.

    python -m launch.recommend --workdir=runs/demo/sasrec-paper/llmesr --out=recs.csv
    python -m launch.recommend --workdir=runs/mine/sasrec-best/faerec --histories=orders.csv --out=recs.parquet --k=20
    python -m launch.recommend --bundle=bundle --histories=orders.jsonl --out=recs.jsonl --where='price<20'

The file has one row per recommendation (user, rank, item, score, title, source), or in JSON lines one object per user.
The same command continues an interrupted one. See docs/serving.md for all flags.
"""

import dataclasses

from llmesr_jax.core.knobs import knob

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Model:
    """The model, the users and the file to write; fields of `serving.bulk.Request`."""

    workdir: str = knob("", "folder of a run, made by launch.train")
    bundle: str = knob("", "folder of a bundle, made by launch.export; in place of --workdir")
    data_dir: str = knob("", "folder of the data set, if it was moved since training")
    seed: int | None = knob(None, "seed of the run; default: the seed best in validation", least=0)
    out: str = knob("", "file to write: .parquet, .csv or .jsonl; with --shards, a folder for a Parquet file of each")
    shards: int = knob(1, "number of processes that share the users, each started with its own --shard", least=1)
    shard: int | None = knob(None, "which of the --shards this process is, from 0", least=0)
    mesh: str = knob("", "devices that share the users: data:4 for four, auto for all; empty: one")
    overwrite: bool = knob(False, "replace --out if it already exists")
    users: str = knob("", "file of raw user ids of the data set, one per line; empty: all users")
    histories: str = knob("", "CSV, JSON lines or Parquet file of histories of any users, by raw item ids")
    new_items: str = knob("", "JSON lines of items added after training: item (raw id), title, other columns")
    new_embeddings: str = knob("", ".npy of floats: the embeddings of --new_items, one row per line of that file")
    allow: str = knob("", "file of raw item ids, one per line: recommend only these")
    deny: str = knob("", "file of raw item ids, one per line: never recommend these")
    index: str = knob(
        "exact",
        "kind of search; faiss and usearch are approximate, for millions of items",
        choices=("exact", "faiss", "usearch"),
    )


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of --histories: `serving.histories.Columns`."""

    user_column: str = knob("user_id", "--histories: column of the user")
    item_column: str = knob("item_id", "--histories: column of the item, in a file with one row per interaction")
    time_column: str = knob("", "--histories: column of the time; empty: detected by name and values, else file order")
    items_column: str = knob("items", "--histories: column of the list, in a file with one row per user")
    separator: str = knob("", "--histories: separator of the fields of a line; empty: detected")
    encoding: str = knob(
        "", "--histories: encoding of a text file; empty: UTF-8, and Windows-1252 for bytes that are not"
    )
    time_unit: str = knob(
        "s", "--histories: unit of times that are numbers, since 1970", choices=("s", "ms", "us", "ns")
    )
    header: str = knob(
        "auto", "--histories: whether the first line is a header with the columns' names", choices=("auto", "yes", "no")
    )
    time_format: str = knob(
        "", "--histories: format of times that are text, as of Python's strptime, such as %d.%m.%Y; empty: ISO 8601"
    )


@dataclasses.dataclass(frozen=True)
class Lists:
    """The options of a list: `serving.options.Options`."""

    k: int = knob(10, "recommendations per user", least=1)
    seen: str = knob("hidden", "what to do with items of the user's own history", choices=("hidden", "shown"))
    where: tuple[str, ...] = knob(
        (),
        "condition on a column of the items' file, such as brand=Acme, price<20, title~tea (contains); "
        "repeatable, all must hold",
    )
    tail_share: float = knob(0.0, "minimum share of tail items in a list", least=0, most=1)
    diversity: float = knob(
        0.0,
        "0: the best scores; towards 1: more diverse items, by their embeddings (maximal marginal relevance)",
        least=0,
        most=1,
    )


def define_flags() -> None:
    for group in (Model, Columns, Lists):
        setting_flags.define(group, repeated=("where",))


def main(argv, stop):
    from llmesr_jax.serving import bulk, histories
    from llmesr_jax.serving.options import Options

    model, columns, lists = setting_flags.made(Model), setting_flags.made(Columns), setting_flags.made(Lists)
    read = histories.Columns(*dataclasses.astuple(columns))
    options = Options(
        lists.k,
        lists.seen == "hidden",
        where=tuple(lists.where),
        tail_share=lists.tail_share,
        diversity=lists.diversity,
    )
    print(bulk.recommend(bulk.Request(**dataclasses.asdict(model), columns=read, options=options), stop=stop))


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()

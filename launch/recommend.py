"""Recommends to all users of a trained run, to some of them, or to anyone by a file of histories.

    python -m launch.recommend --workdir=runs/demo/sasrec-paper/llmesr --out=recs.csv
    python -m launch.recommend --workdir=runs/mine/sasrec-best/faerec --histories=orders.csv --out=recs.parquet --k=20
    python -m launch.recommend --bundle=bundle --histories=orders.jsonl --out=recs.jsonl --where='price<20'

The file has a row a recommendation (user, rank, item, score, title, source), or in JSON lines an object a user. The same
command continues what was interrupted. What the flags mean in full: docs/serving.md.
"""

import dataclasses

from llmesr_jax.core.knobs import knob

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Model:
    """What recommends, and where the answers go: fields of `serving.bulk.Request`."""

    workdir: str = knob("", "folder of a run, as launch.train makes it")
    bundle: str = knob("", "folder of a bundle, as launch.export makes it; in place of --workdir")
    data_dir: str = knob("", "folder of the data set, where it is not where it was at training")
    seed: int | None = knob(None, "which of the run's seeds; the one best in validation if not given", least=0)
    out: str = knob("", "file to write: .parquet, .csv or .jsonl")
    overwrite: bool = knob(False, "replace --out where it is there already")
    users: str = knob("", "file of raw user ids of the data set, one a line; empty: all of them")
    histories: str = knob("", "CSV, JSON lines or Parquet file of histories of anyone, by raw item ids")
    new_items: str = knob("", "JSON lines of items that came after training: item (raw id), title, other columns")
    new_embeddings: str = knob("", ".npy of floats: the embeddings of --new_items, a row a line")
    allow: str = knob("", "file of raw item ids, one a line: recommend these only")
    deny: str = knob("", "file of raw item ids, one a line: never recommend these")
    index: str = knob(
        "exact",
        "search; faiss and usearch are approximate, for millions of items",
        choices=("exact", "faiss", "usearch"),
    )


@dataclasses.dataclass(frozen=True)
class Columns:
    """How --histories is read: `serving.histories.Columns`."""

    user_column: str = knob("user_id", "--histories: column of the user")
    item_column: str = knob("item_id", "--histories: column of the item, in a file with a row an interaction")
    time_column: str = knob("", "--histories: column of the time; empty: one that looks like it, else file order")
    items_column: str = knob("items", "--histories: column of the list, in a file with a row a user")
    separator: str = knob("", "--histories: between the fields of a line; empty: the one that fits")
    encoding: str = knob("", "--histories: of a text file; empty: UTF-8, and Windows-1252 where it is not")
    time_unit: str = knob(
        "s", "--histories: unit of times that are numbers, since 1970", choices=("s", "ms", "us", "ns")
    )
    header: str = knob("auto", "--histories: does its first line name columns", choices=("auto", "yes", "no"))


@dataclasses.dataclass(frozen=True)
class Lists:
    """What a list holds: `serving.options.Options`."""

    k: int = knob(10, "recommendations a user", least=1)
    seen: str = knob("hidden", "items of the user's own history", choices=("hidden", "shown"))
    where: tuple[str, ...] = knob(
        (), "condition on a column of the items' file, such as brand=Acme, price<20, title~tea; all must hold"
    )
    tail_share: float = knob(0.0, "at least this share of a list are tail items", least=0, most=1)
    diversity: float = knob(
        0.0,
        "0: the best scores; towards 1: items that are unlike each other by their embeddings (maximal marginal relevance)",
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

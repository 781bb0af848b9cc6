"""A made-up shop whose raw file holds days instead of times, and within a day the items in order of their ids.

    python tests/tied_catalogue.py raw
    python -m launch.prepare --dataset=tied --importer=table --raw_dir=raw --time_column=timestamp --file=inter.csv \
        --items_file=items.csv --core=none

What Amazon's files look like: 45 % of neighbours share their day, and the order within a day says nothing of the
users; a model that learns it ranks better than it should (docs/protocol.md). Ids are given family by family, as a shop
lists its goods, so that what has nearby ids is alike; the order of the families is drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from llmesr_jax.data import synthetic

SAME_DAY = 0.45
_DAY = 86_400
_START = 1_262_304_000  # 2010-01-01


def write(folder: Path, users: int, items: int, seed: int = 0, by_id: bool = True) -> None:
    """`inter.csv` and `items.csv`: the demo's shop, larger.

    Args:
      by_id: whether the items of a day are in order of id; else in the order in which the user met them.
    """
    rng = np.random.default_rng([seed, 1])
    shop = synthetic.shop(seed, users, items)
    corpus, kinds = shop.corpus, shop.catalogue
    families = kinds.topic * (kinds.subtopic.max() + 1) + kinds.subtopic
    listed = np.lexsort((rng.random(corpus.num_items), kinds.style, rng.permutation(families.max() + 1)[families]))
    raw_V = np.empty(corpus.num_items, "U10")
    raw_V[listed] = [f"B{n:09d}" for n in np.sort(rng.choice(10**9, corpus.num_items, replace=False))]
    user_n = np.repeat(np.arange(corpus.num_users), corpus.lengths_U)
    first_n = np.diff(user_n, prepend=-1) != 0
    gap_n = np.where(rng.random(len(user_n)) < SAME_DAY, 0, rng.integers(1, 20, len(user_n)))
    gap_n[first_n] = 0
    since_n = np.cumsum(gap_n)
    since_n = since_n - np.maximum.accumulate(np.where(first_n, since_n, 0))
    day_n = rng.integers(0, 1000, corpus.num_users)[user_n] + since_n
    frame = pl.DataFrame(
        {
            "user_id": [f"U{user}" for user in user_n],
            "item_id": raw_V[corpus.items - 1],
            "timestamp": _START + day_n * _DAY,
            "user": user_n,
        }
    )
    if by_id:
        frame = frame.sort("user", "timestamp", "item_id", maintain_order=True)
    folder.mkdir(parents=True, exist_ok=True)
    frame.drop("user").write_csv(folder / "inter.csv")
    records = corpus.item_records
    pl.DataFrame({"item_id": raw_V, "title": [record["title"] for record in records]}).write_csv(folder / "items.csv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--users", type=int, default=8000)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.out, args.users, args.items, args.seed)

"""Parquet parts of synthetic interactions, to time `launch.prepare` with: a million users, 200,000 items, ids as text.

python tests/synthetic_interactions.py --rows=10000000 --out=raw
python -m launch.prepare --dataset=big --importer=table --raw_dir=raw --time_column=time --rating_column=rating
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

_PART = 1_000_000  # rows


def write(rows: int, folder: Path, users: int = 1_000_000, items: int = 200_000, seed: int = 0) -> None:
    """`part-000.parquet`, ...: user_id and item_id (text of 14 and 10 letters), rating, time (seconds), unsorted.

    Popularity falls as a power of the rank, users' activity less so.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for part, start in enumerate(range(0, rows, _PART)):
        count = min(_PART, rows - start)
        user_n = (users * rng.random(count) ** 2).astype(np.int64)
        item_n = (items * rng.random(count) ** 3).astype(np.int64)
        frame = pl.DataFrame(
            {
                "user": user_n * 7919 % users,
                "item": item_n * 7919 % items,
                "rating": rng.integers(1, 6, count).astype(np.float64),
                "time": 1_262_304_000 + rng.integers(0, 300_000_000, count),
            }
        )
        ids = {
            "user_id": pl.format("A{}", (pl.col("user") + 10**12).cast(pl.String)),
            "item_id": pl.format("B{}", (pl.col("item") + 10**8).cast(pl.String)),
        }
        frame.select(**ids, rating="rating", time="time").write_parquet(folder / f"part-{part:03d}.parquet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write(args.rows, args.out, args.users, args.items)

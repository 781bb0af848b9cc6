"""Writes a data folder with many items and users, to measure `launch.embed` on.

    python tests/large_catalogue.py --items=900000 --users=100000 data/large
    python tests/embedding_server.py --port=8123 --width=64 &
    /usr/bin/time -v python -m launch.embed --dataset=large --encoder=openai --model=toy --dimensions=64 \
        --base_url=http://127.0.0.1:8123/v1
    /usr/bin/time -v python -m launch.embed --dataset=large --encoder=tfidf --overwrite

Titles are eight words out of 50,000, some common and most rare; every item is met, users have 12 interactions or more.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

_WORDS = 50_000
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
_BLOCK = 100_000


def write(folder: Path, num_items: int, num_users: int) -> None:
    """`inter.txt` and `items.jsonl` in `folder`."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    count = max(num_items, 12 * num_users)
    user_n = np.sort(np.concatenate([np.repeat(np.arange(num_users), 3), rng.integers(0, num_users, count)]))
    item_n = np.concatenate([rng.permutation(num_items), rng.integers(0, num_items, len(user_n) - num_items)])
    with (folder / "inter.txt").open("w") as file:
        for start in range(0, len(user_n), _BLOCK):
            pairs = zip(user_n[start : start + _BLOCK].tolist(), item_n[start : start + _BLOCK].tolist())
            file.writelines(f"{user + 1} {item + 1}\n" for user, item in pairs)
    words = ["".join(_SYLLABLES[n // 70**k % 70] for k in range(3)) for n in range(_WORDS)]
    with (folder / "items.jsonl").open("w") as file:
        for start in range(0, num_items, _BLOCK):
            rank_Bx8 = (_WORDS * rng.random((min(_BLOCK, num_items - start), 8)) ** 4).astype(int).tolist()
            for item, ranks in enumerate(rank_Bx8, start + 1):
                record = {"item_id": item, "title": " ".join(words[n] for n in ranks), "brand": words[item % 997]}
                file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=900_000)
    parser.add_argument("--users", type=int, default=100_000)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.items, arguments.users)

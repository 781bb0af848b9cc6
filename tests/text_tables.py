"""A small shop's interactions as text files, and what is read of them."""

import json
import random

import prepared
import pytest

from llmesr_jax.core.errors import InputError

# 60 users with 8 of 40 items each, a day apart; no item twice, none in order of its name.
_random = random.Random(0)
SEQUENCES = {f"U{u:03d}": [f"I{i:03d}" for i in _random.sample(range(1, 41), 8)] for u in range(1, 61)}
TIME = 1_500_087_400
ROWS = [(u, i, 3 + n % 3, TIME + 86_400 * n) for u, items in SEQUENCES.items() for n, i in enumerate(items)]
SHUFFLED = _random.sample(ROWS, len(ROWS))
TITLES = {f"I{n:03d}": f"Brush {n}" + " café" * (n % 2) for n in range(1, 41)}


def lines(separator, header, rows):
    return "".join(separator.join(map(str, row)) + "\n" for row in ([header] if header else []) + list(rows))


def write(folder, **files):
    """Files by name; __ stands for a dot and ___ for a slash. Text is written as UTF-8."""
    for name, content in files.items():
        path = folder / "raw" / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def read(folder, *flags):
    """The outcome, and {raw user: raw items in order}."""
    outcome = prepared.run(folder / "raw", folder / "out", flags)
    ids = {kind: (folder / "out" / f"{kind}_ids.txt").read_text().split("\n") for kind in ("user", "item")}
    numbers = prepared.sequences(folder / "out")
    return outcome, {ids["user"][u - 1]: [ids["item"][i - 1] for i in items] for u, items in numbers.items()}


def titles(folder):
    records = map(json.loads, (folder / "out" / "items.jsonl").read_text(encoding="utf-8").splitlines())
    return {record["raw_id"]: record["title"] for record in records}


def refused(folder, *flags):
    with pytest.raises(InputError) as caught:
        prepared.run(folder / "raw", folder / "out", flags)
    assert "\n" not in str(caught.value) and not (folder / "out").exists()
    return str(caught.value)


CSV = ("user_id", "item_id", "rating", "timestamp")
INTER = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
TABLE, RECBOLE = "--importer=table", "--importer=recbole"

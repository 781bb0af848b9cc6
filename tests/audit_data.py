"""Folders of interactions made in code, audited; and what the audit warns of."""

from __future__ import annotations

import json

import numpy as np

from llmesr_jax.audit import audit

DAY = 86_400


def codes(found):
    return [one.code for one in found.warnings]


def text(found, code):
    return next(one.text for one in found.warnings if one.code == code)


def write(folder, items, users, times=None, records=None, item_ids=None):
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.unique(items, return_inverse=True)[1] + 1 if item_ids is None else items
    np.savetxt(folder / "inter.txt", np.stack([np.asarray(users) + 1, ids], axis=1), fmt="%d")
    if times is not None:
        np.save(folder / "times.npy", np.asarray(times, np.int64))
    if records is not None:
        (folder / "items.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if item_ids is not None:
        (folder / "item_ids.txt").write_text("".join(f"{i}\n" for i in item_ids))
    return audit.of_folder("mine", folder)


def plain(users=600, items=300, seed=0):
    """8 different items a user at random."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(items, 8, replace=False) for _ in range(users)]), np.repeat(np.arange(users), 8)

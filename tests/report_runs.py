"""Run folders made by hand: the files of a finished run, its ranks drawn rather than trained."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import numpy as np

from llmesr_jax.data import reading
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.training import config, experiment


def data(folder: Path) -> Path:
    """60 users, 150 items, every user tested."""
    return commands.write_data(folder / "tiny")


def write(
    folder: Path,
    data_dir: Path,
    method: str = "none",
    seeds: tuple[int, ...] = (1, 2, 3),
    ahead: int = 0,
    dataset: str = "tiny",
    **settings,
) -> Path:
    """A run whose ranks are `ahead` places better than chance; `settings` are flat keys with '__' for '.'."""
    flags = {"dataset": dataset, "data_dir": str(data_dir), "method": method, "workdir": str(folder)}
    flags |= {"seeds": ",".join(map(str, seeds))} | {key.replace("__", "."): v for key, v in settings.items()}
    made = config.build({}, {"backbone": "gru4rec", **flags})
    corpus = reading.load(dataset, data_dir)
    inputs = evaluate.inputs(corpus, "test", made.train.eval_users)
    ranks, summaries = {}, []
    for seed in seeds:
        rng = np.random.default_rng([seed, len(str(sorted(settings.items()))), ahead, ord(method[0])])
        summary = {}
        for protocol, most in (("full", corpus.num_items), ("sampled", 100)):
            higher = np.maximum(rng.integers(0, most, len(inputs.rows_E)) - ahead, 0).astype(np.int32)
            ranks[f"test/{protocol}/{seed}"] = np.stack([higher, np.zeros_like(higher)])
            summary[protocol] = metrics.summarise(metrics.from_ranks(higher, 0 * higher), inputs.members)
        shares = {f"{kind}Coverage@{k}": float(rng.random()) for k in metrics.CUTOFFS for kind in ("", "Tail")}
        summary["full"]["coverage"] = shares
        summaries.append(summary)
    folder.mkdir(parents=True)
    identity = {"interactions": corpus.digest, "recipe": "", "tables": ""}
    stored = {
        "format": experiment.FORMAT,
        "config": json.loads(config.to_json(made)),
        "data": identity,
        "jax": "0.10.2",
    }
    (folder / "config.json").write_text(json.dumps(stored))
    results = {"config": stored["config"], "seeds": list(seeds), "test": evaluate.stack(summaries)}
    results |= {"best_epoch": [2] * len(seeds), "epochs": 3, "early_stopped": False, "parameters": 12345}
    (folder / "results.json").write_text(json.dumps(results))
    np.savez(folder / "ranks.npz", **ranks, **{"test/users": inputs.rows_E + 1, "test/stops": inputs.stops_E})
    lines = [
        {"epoch": epoch, "seed": s, "valid/overall/N@10": 0.1 * epoch, "valid/tail_item/N@10": 0.05 * epoch}
        for epoch in (1, 2, 3)
        for s in seeds
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def change(path: Path, **changes) -> None:
    """Replaces top-level entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

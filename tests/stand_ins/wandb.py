"""Stands in for Weights & Biases: the calls that `llmesr_jax.training.loggers.wandb` makes, kept in `calls`."""

from types import SimpleNamespace

calls = []


class Error(Exception):
    pass


_FREE = iter(range(1, 100))


def init(**options):
    if options["name"].endswith("refused"):
        raise Error("no API key configured\nand more")
    run_id = options["id"] or f"run{next(_FREE)}"
    calls.append(("init", run_id, options))
    return SimpleNamespace(
        id=run_id,
        define_metric=lambda name, step_metric: calls.append(("define_metric", run_id, name, step_metric)),
        log=lambda values: calls.append(("log", run_id, values)),
        finish=lambda: calls.append(("finish", run_id)),
    )

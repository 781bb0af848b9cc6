"""Weights & Biases: one run there for each run here, continued under the same id (kept in wandb.id).

Its own environment variables decide the rest: WANDB_MODE=offline for no network, WANDB_PROJECT, WANDB_ENTITY and
WANDB_API_KEY.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmesr_jax.core.errors import InputError

PACKAGE, INSTALL = "wandb", "wandb"


class Logger:
    """Writes to a run of Weights & Biases."""

    def __init__(self, folder: Path, last_epoch: int, config: Mapping[str, Any]):
        import wandb

        kept = folder / "wandb.id"
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "llmesr_jax"),
                name=str(folder),
                dir=str(folder),
                config=dict(config),
                id=kept.read_text().strip() if kept.exists() else None,
                resume="allow",
                reinit="create_new",  # other runs of this process stay open
            )
        except wandb.Error as error:
            raise InputError(
                f"loggers: wandb: {str(error).splitlines()[0]}; run wandb login, or set WANDB_MODE=offline"
            ) from error
        kept.write_text(self._run.id)
        self._run.define_metric("*", step_metric="epoch")  # wandb's own count of steps cannot go back to an epoch

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        self._run.log({"epoch": epoch, **values})

    def close(self) -> None:
        self._run.finish()

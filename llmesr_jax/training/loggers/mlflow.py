"""MLflow: one run there for each run here, continued under the same id (kept in mlflow.id).

MLflow's own environment variables decide where: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME; without them it is local.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmesr_jax.core.errors import InputError

PACKAGE, INSTALL = "mlflow", "mlflow"
_PARAMETERS = 100  # the most parameters that one call may have


class Logger:
    """Writes to MLflow by a client, because the module's own functions have one active run at a time."""

    def __init__(self, folder: Path, last_epoch: int, config: Mapping[str, Any]):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        self._client, self._metric = MlflowClient(), Metric
        kept = folder / "mlflow.id"
        try:
            self._run = self._begin(kept, config, Param)
        except MlflowException as error:
            known = f"{kept}, which may be of another store; delete it, or " if kept.exists() else ""
            raise InputError(
                f"loggers: mlflow: {str(error).splitlines()[0]}; check {known}MLFLOW_TRACKING_URI"
            ) from error

    def _begin(self, kept: Path, config: Mapping[str, Any], parameter: Any) -> str:
        """The id of the run: the one in the file `kept`, or that of a new run."""
        if kept.exists():
            run = kept.read_text().strip()
            self._client.update_run(run, status="RUNNING")
            return run
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "llmesr_jax")
        found = self._client.get_experiment_by_name(name)
        place = found.experiment_id if found else self._client.create_experiment(name)
        run = self._client.create_run(place, run_name=str(kept.parent)).info.run_id
        settings = [parameter(key, str(value)) for key, value in config.items()]
        for start in range(0, len(settings), _PARAMETERS):
            self._client.log_batch(run, params=settings[start : start + _PARAMETERS])
        kept.write_text(run)
        return run

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        named = {name.replace("@", "_at_"): value for name, value in values.items()}
        self._client.log_batch(self._run, [self._metric(name, value, now, epoch) for name, value in named.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)

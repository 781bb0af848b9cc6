"""Stands in for MLflow: the calls that `llmesr_jax.training.loggers.mlflow` makes, kept in `calls`."""

from types import SimpleNamespace

from mlflow.exceptions import MlflowException

calls = []
_EXPERIMENTS = {}


class MlflowClient:
    def get_experiment_by_name(self, name):
        return _EXPERIMENTS.get(name)

    def create_experiment(self, name):
        _EXPERIMENTS[name] = SimpleNamespace(experiment_id=f"experiment{len(_EXPERIMENTS)}")
        return _EXPERIMENTS[name].experiment_id

    def create_run(self, experiment_id, run_name):
        run_id = f"run{len(calls)}"
        calls.append(("create_run", run_id, experiment_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def update_run(self, run_id, status):
        if run_id not in {call[1] for call in calls}:
            raise MlflowException(f"Run '{run_id}' not found")
        calls.append(("update_run", run_id, status))

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100 and len(metrics) <= 1000  # its own limits
        calls.append(("log_batch", run_id, [tuple(m) for m in metrics], [tuple(p) for p in params]))

    def set_terminated(self, run_id):
        calls.append(("set_terminated", run_id))

"""The benchmark times the very program that training runs: the same jitted function, static arguments and types."""

import jax
import pytest

from llmesr_jax.experiments import benchmark
from llmesr_jax.training import config, experiment, loop, steps

pytestmark = pytest.mark.slow

SMALL = {
    "dataset": "demo",
    "method": "none",
    "backbone": "gru4rec",
    "none.width": 4,
    "data.max_len": 8,
    "data.batch_size": 512,
    "train.epochs": 1,
    "train.eval_users": 8,
    "train.window": 3,
    "loggers": "none",
}


class Recorder:
    """Stands in for `steps.run_window`, and keeps what it is compiled for."""

    def __init__(self, run_window):
        self._run_window, self.programs = run_window, []

    def _keep(self, args, options):
        def shape(x):
            return (x.shape, str(x.dtype)) if hasattr(x, "shape") else x

        self.programs.append(jax.tree.map(shape, (args, options)))

    def __call__(self, *args, **options):
        self._keep(args, options)
        return self._run_window(*args, **options)

    def lower(self, *args, **options):
        self._keep(args, options)
        return self._run_window.lower(*args, **options)


@pytest.fixture(autouse=True)
def standard_promotion():
    """As in a run: what tests forbid, Adam's bias correction does outside the tests' small models."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize(
    "changes",
    [
        {"train.average": 0.99, "data.negatives": "uniform", "loss.ranking": "sampled_softmax"},
        {"train.table_updates": "touched"},
        {"precision": "bfloat16", "method": "llminit", "llminit.width": 4, "semantic.tfidf_width": 8},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_training_and_the_benchmark_compile_one_program(tmp_path, monkeypatch, changes):
    made = experiment.prepare(config.build({**SMALL, **changes, "workdir": str(tmp_path / "w")}))
    recorders = []
    for run in (lambda: loop.train(made), lambda: benchmark.train_steps(made, (1,), count=4, repeats=1)):
        recorders.append(Recorder(steps.run_window))
        with monkeypatch.context() as patch:
            patch.setattr(steps, "run_window", recorders[-1])
            run()
    trained, timed = recorders
    assert timed.programs[0] == trained.programs[0]
    assert all(one == timed.programs[0] for one in timed.programs)
    assert "train.learning_rate" in trained.programs[0][1]["numbers_S"]


def test_several_lanes_go_through_the_steps_as_in_training(tmp_path, monkeypatch):
    made = experiment.prepare(config.build({**SMALL, "seeds": "1,2,3", "train.lanes": 2, "workdir": str(tmp_path)}))
    recorder = Recorder(steps.run_window)
    monkeypatch.setattr(steps, "run_window", recorder)
    benchmark.train_steps(made, (3,), count=1, repeats=1)
    lanes = {options["numbers_S"]["train.learning_rate"][0] for _, options in recorder.programs}
    assert lanes == {(2,), (1,)}

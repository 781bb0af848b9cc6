"""A loop of one's own, made of the public parts, takes the steps of `train`."""

import jax
import numpy as np
import pytest
from jax.tree_util import tree_leaves

import llmesr_jax
from llmesr_jax.training.checkpoint import Checkpoints


@pytest.fixture(autouse=True)
def standard_promotion():
    """Of optax's Adam."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.slow
def test_a_loop_of_the_public_parts_trains_to_the_same_parameters(tmp_path):
    (tmp_path / "inter.txt").write_text("".join(f"{u} {1 + (3 * u + i) % 9}\n" for u in range(1, 21) for i in range(6)))
    experiment = llmesr_jax.prepare(
        llmesr_jax.settings(
            {"data.max_len": 5, "data.batch_size": 8},
            dataset="tiny",
            data_dir=str(tmp_path),
            workdir=str(tmp_path / "run"),
            method="none",
            backbone="gru4rec",
            seeds="3,7",
            none={"width": 4},
            train={"epochs": 2, "learning_rate": 0.01},
        )
    )
    results = llmesr_jax.train(experiment)
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        tree, _ = checkpoints.restore()
    best = [jax.tree.map(lambda x, i=i: x[i], tree["best"]) for i in (0, 1)]
    run = llmesr_jax.run_of(experiment, *best)
    assert llmesr_jax.evaluate(run, ["test"])["test"] == results["test"]
    assert run.recommend([["3", "4"]], k=2)[0].recommendations
    with pytest.raises(llmesr_jax.InputError, match=r"got 1 trees of parameters; expected one for each seed: \[3, 7\]"):
        llmesr_jax.run_of(experiment, best[0])
    p = llmesr_jax.loop_parts(experiment, seed=7)

    @jax.jit
    def step(now, samples_B, epoch):
        batch_key, dropout_key = llmesr_jax.step_keys(now)
        batch = llmesr_jax.make_batch(p.plan, p.data, p.tables, samples_B, batch_key)
        return llmesr_jax.train_step(p.model, p.optimizer, now, p.tables, batch, dropout_key, epoch, numbers=p.numbers)[
            0
        ]

    now = p.state
    for epoch in (1, 2):
        for samples_B in p.order(epoch):
            now = step(now, samples_B, np.float32(epoch))
    found, wanted = tree_leaves(now.params), tree_leaves(jax.tree.map(lambda x: x[1], tree["state"]["params"]))
    assert int(now.step) == 2 * p.epochs.steps
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)

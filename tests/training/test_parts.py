"""A loop of one's own, made of the public parts, takes the steps of `train`."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from batch_worlds import world
from jax.tree_util import tree_leaves

import llmesr_jax
from llmesr_jax.training import parts
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


def test_users_left_out_change_nothing_for_the_others():
    """The others keep their step, place, teachers, targets and negatives; nothing else is in a batch. A user stands twice."""
    corpus, _, epochs, make = world("masked")
    p = parts.LoopParts(*[None] * 4, SimpleNamespace(start_U=corpus.offsets[:-1]), None, None, epochs, 5)
    out = [int(user) for user in np.unique(epochs.samples_N % corpus.num_users)[1::3]]
    whole, left = p.order(2), p.order(2, without=out)
    np.testing.assert_array_equal(p.order(2, without=()), whole)
    gone = np.isin(whole % corpus.num_users, out) & (whole >= 0)
    assert 0 < gone.sum() < (whole >= 0).sum()
    np.testing.assert_array_equal(left, np.where(gone, -1, whole))

    def entries(samples):
        """{place in the batch: what its positions have, what its teachers are}."""
        batch = make(samples, jax.random.key(7))
        s, found = batch.students, {}
        columns = [np.asarray(x) for x in (s.positions_T, s.items_T, batch.targets_T, *batch.negatives_TxK.T)]
        for row, at in enumerate(tiny.slots(s)):
            teachers = np.asarray(batch.teachers.users_R)[np.asarray(batch.teacher_rows_BxN)[row]].tolist()
            found[int(s.place_R[row])] = [tuple(int(c[t]) for c in columns) for t in at], teachers
        return found

    for samples, fewer, absent in zip(whole, left, gone):
        before, after = entries(samples), entries(fewer)
        assert all(after[place] == before[place] for place in np.flatnonzero(~absent))
        assert all(not after[place][0] and set(after[place][1]) == {-1} for place in np.flatnonzero(absent))


def test_a_user_who_is_not_there_cannot_be_left_out():
    corpus, _, epochs, _ = world("every")
    p = parts.LoopParts(*[None] * 4, SimpleNamespace(start_U=corpus.offsets[:-1]), None, None, epochs, 5)
    with pytest.raises(
        llmesr_jax.InputError, match=rf"^without=\[0, {corpus.num_users}\]: expected rows of users from 0 to"
    ):
        p.order(1, without=[0, corpus.num_users])

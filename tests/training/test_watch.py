"""Watched gradients: numbers by hand and against a step taken apart; training is the same with and without them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llmesr_jax.core.interrupts import Stop
from llmesr_jax.data import groups
from llmesr_jax.training import config, experiment, loop, parts, state, steps, watch
from llmesr_jax.training.checkpoint import Checkpoints, checksum
from llmesr_jax.training.program import Program

SMALL = {
    "dataset": "demo",
    "method": "llmesr",
    "backbone": "gru4rec",
    "llmesr.width": 4,
    "data.max_len": 8,
    "data.batch_size": 512,
    "train.epochs": 2,
    "train.eval_users": 8,
    "train.window": 2,
    "loggers": "none",
    "seeds": "1",
}


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def trained(folder, monkeypatch=None, stop_at=0, **changes):
    """(lines of metrics.jsonl by seed and epoch, without their times; the last state), stopped at a window and resumed."""
    found = experiment.prepare(config.build({**SMALL, "workdir": str(folder), **changes}))
    if stop_at:
        stop, calls, run_window = Stop(), [], steps.run_window

        def counted(*args, **kwargs):
            calls.append(None)
            if len(calls) == stop_at:
                stop.request()
            return run_window(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(steps, "run_window", counted)
            with pytest.raises(KeyboardInterrupt):
                loop.train(found, stop=stop)
    loop.train(found)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        tree, _ = checkpoints.restore()
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines], checksum(tree)


@pytest.mark.slow
def test_training_is_the_same_and_a_stop_loses_nothing(tmp_path, monkeypatch):
    plain, parameters = trained(tmp_path / "plain")
    watched, same = trained(tmp_path / "watched", **{"train.watch_gradients": 3})
    assert same == parameters
    assert [{k: v for k, v in line.items() if not k.startswith(watch.PREFIX)} for line in watched] == plain
    stopped = trained(tmp_path / "stopped", monkeypatch, 3, **{"train.watch_gradients": 3})
    assert stopped == (watched, parameters)
    for line in watched:
        found = {k.removeprefix(watch.PREFIX): v for k, v in line.items() if k.startswith(watch.PREFIX)}
        pair = "distillation-ranking"
        assert {"norm/ranking", "norm/distillation", "norm/sum", "tail_share/table.items"} < found.keys()
        assert -1 <= found[f"cosine/{pair}"] <= 1 and 0 <= found[f"conflicts/{pair}"] <= 1
        assert 0 < found["tail_share/table.items"] < 1


@pytest.mark.slow
def test_the_numbers_are_those_of_the_step_that_is_taken(tmp_path):
    """Under touched updates, where a row that the step leaves alone does not move."""
    made = experiment.prepare(config.build({**SMALL, "workdir": str(tmp_path), "train.table_updates": "touched"}))
    p, program = parts.loop_parts(made), Program.of(made).started("float32")
    tail_V = ~groups.head_items(made.corpus)
    samples_B = jnp.asarray(p.order(1)[0])
    rate = {key: np.float32(value)[None] for key, value in p.numbers.items()}
    states = state.stack([p.state])
    looked = watch.before(program, states, samples_B[None], 1, rate, tail_V)

    @jax.jit
    def taken(now):
        batch_key, dropout_key = steps.step_keys(now)
        batch = steps.make_batch(p.plan, p.data, p.tables, samples_B, batch_key)
        by_term = steps.by_term(p.model, now.params, p.tables, batch, dropout_key, 1.0, p.numbers)[2].gradients
        after, _ = steps.train_step(
            p.model, p.optimizer, now, p.tables, batch, dropout_key, 1.0, program.axes, dict(p.numbers)
        )
        return by_term, after.params

    by_term, params = taken(p.state)
    found = {
        k: float(v[0]) for k, v in watch.after(looked, program, state.stack([p.state.replace(params=params)])).items()
    }
    flat = {name: np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for name, g in by_term.items()}
    for name, g in flat.items():
        assert found[f"norm/{name}"] == pytest.approx(np.linalg.norm(g), rel=1e-4)
    whole = sum(flat.values())
    assert found["norm/sum"] == pytest.approx(np.linalg.norm(whole), rel=1e-4)
    a, b = flat["distillation"], flat["ranking"]
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found["cosine/distillation-ranking"] == pytest.approx(cosine, abs=1e-4)
    assert found["conflicts/distillation-ranking"] == (cosine < 0)
    moved = np.square(np.asarray(params["table"]["items"] - p.state.params["table"]["items"]))[1:-1].sum(axis=1)
    assert found["tail_share/table.items"] == pytest.approx(moved[tail_V].sum() / moved.sum(), rel=1e-4)


def test_noise_from_halves_by_hand():
    """Halves of 3 and 1 positions with gradients (2, 0) and (1, 2): a . b = 2, |a - b|^2 = 5, so tr = 8 * 5 / 4."""
    a, b, share = np.array([2.0, 0.0]), np.array([1.0, 2.0]), 0.75
    g = share * a + (1 - share) * b
    trace, signal = watch.noise(*(jnp.float32(x) for x in (a @ a, a @ g, g @ g, share, 8)))
    assert (float(trace), float(signal)) == (pytest.approx(10, rel=1e-6), pytest.approx(2, rel=1e-6))


def test_noise_from_halves_is_without_bias():
    """Users with mean (1, 0, 0, 0) and unit variance in four dimensions: tr = 4, |G|^2 = 1."""
    rng = np.random.default_rng(0)
    users = rng.normal(size=(4000, 16, 4)) + np.array([1, 0, 0, 0])[None, None]
    a, b = users[:, :8].mean(axis=1), users[:, 8:].mean(axis=1)
    g = (a + b) / 2
    dot = lambda x, y: np.sum(x * y, axis=1)  # noqa: E731
    trace, signal = watch.noise(dot(a, a), dot(a, g), dot(g, g), 0.5, 16)
    assert np.mean(trace) == pytest.approx(4, rel=0.05) and np.mean(signal) == pytest.approx(1, rel=0.05)


def test_sums_and_means_by_hand():
    sums = watch.added({}, {"norm/sum": 2.0, "cosine/a-b": float("nan"), "noise/trace": 6.0, "noise/signal": 1.0})
    sums = watch.added(sums, {"norm/sum": 4.0, "cosine/a-b": -0.5, "noise/trace": 2.0, "noise/signal": 3.0})
    assert watch.means(json.loads(json.dumps(sums))) == {
        "gradients/norm/sum": 3.0,
        "gradients/cosine/a-b": -0.5,
        "gradients/noise_scale": 2.0,
    }
    assert watch.means({}) == {}
    assert "gradients/noise_scale" not in watch.means({"noise/trace": [1.0, 1], "noise/signal": [-1.0, 1]})


@pytest.mark.parametrize(("every", "most"), [(3, 2), (50, 50), (1, 4), (7, 50), (0, 5)])
def test_windows_part_before_and_after_watched_steps(every, most):
    step, watched = 0, []
    while step < 60:
        count = watch.width(every, step, most)
        assert 1 <= count <= most
        watched += [step] if watch.due(every, step) else []
        assert not any(watch.due(every, later) for later in range(step + 1, step + count))
        assert not watch.due(every, step) or count == 1
        step += count
    assert watched == ([s for s in range(step) if s % every == 0] if every else [])

"""Interactions that are streamed to the device give the very batches, and runs, of interactions that lie there."""

import functools
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from batch_worlds import NEEDS

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.training import (
    config,
    epoch_plan,
    experiment,
    interactions,
    loop,
    streaming,
)
from llmesr_jax.training.streaming import Streamed


@pytest.mark.parametrize(
    ("supervision", "changes"),
    [
        ("every", {"layout": "padded", "avoid": "history"}),
        pytest.param("last", {"prefixes": True, "max_len": 4}, marks=pytest.mark.slow),
        pytest.param("masked", {"max_len": 5, "negatives": "in_batch"}, marks=pytest.mark.slow),
        pytest.param("every", {"max_len": 3, "teacher_input": "input"}, marks=pytest.mark.slow),
    ],
)
def test_batches_are_those_of_interactions_on_the_device(supervision, changes):
    corpus = tiny.ragged(1)
    similar = tiny.tables(corpus, NEEDS, 1)["similar_users"]
    similar[::5] = -1  # users who are not distilled
    settings = DataConfig(**{"batch_size": 4, "max_len": 9, "buckets": 2, "num_negatives": 2, **changes})
    epochs = epoch_plan.plan_epochs(corpus, settings, supervision, 0.6, NEEDS, similar)
    streamed, tables = Streamed(corpus, epochs.plan, similar), {"similar_users": jnp.asarray(similar)}
    resident = interactions.resident(corpus, epochs.plan)
    order = np.stack([epochs.order(seed, 1) for seed in (3, 4)])
    order = np.pad(order, ((0, 0), (0, -order.shape[1] % 2), (0, 0)), constant_values=-1)
    windows = [order[:, i : i + 2] for i in range(0, order.shape[1], 2)]
    make = functools.partial(tiny.make_batch, epochs.plan)
    for place, window in enumerate(windows):
        if place % 2:
            streamed.send_ahead(window)
        of_window = streamed.window(window)
        assert len(streamed.users(window)) <= corpus.num_users
        for lane in range(2):
            for step in range(2):
                key = jax.random.key(place * 4 + step)
                tiny.assert_equal(
                    make(of_window, tables, window[lane, step], key), make(resident, tables, window[lane, step], key)
                )


def test_only_what_a_window_reads_is_sent():
    corpus = tiny.corpus([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3], [1, 3, 5]])
    settings = DataConfig(batch_size=1, max_len=2, num_negatives=2)
    epochs = epoch_plan.plan_epochs(corpus, settings, "every", 0.0, tiny.types.Needs(), None)
    streamed = Streamed(corpus, epochs.plan, None)
    data = streamed.window(np.full((1, 1, 1), 0, np.int32))
    # Of user 0 the training items are 1 2 3 4, of which the newest three are read; seen are all four.
    assert np.flatnonzero(data.items_n).tolist() == [0, 1, 2] and data.items_n[:3].tolist() == [2, 3, 4]
    assert int(data.start_U[0]) == -1 and data.gap_count_U.tolist() == [4, 2, 1]
    streamed.send_ahead(np.full((1, 1, 1), 1, np.int32))
    assert streamed.window(np.full((1, 1, 1), 2, np.int32)).items_n[:1].tolist() == [1]  # not what was sent ahead


def test_windows_that_were_not_sent_ahead_are_made_in_the_same_thread(monkeypatch):
    """Two threads would grow the sizes of one window's arrays apart."""
    corpus, threads = tiny.corpus([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3], [1, 3, 5]]), []
    epochs = epoch_plan.plan_epochs(corpus, DataConfig(batch_size=1), "every", 0.0, tiny.types.Needs(), None)
    staged = Streamed._staged
    monkeypatch.setattr(
        Streamed, "_staged", lambda *args: threads.append(threading.current_thread().name) or staged(*args)
    )
    streamed = Streamed(corpus, epochs.plan, None)
    streamed.example()
    streamed.send_ahead(np.full((1, 1, 1), 1, np.int32))
    streamed.window(np.full((1, 1, 1), 2, np.int32))
    assert threads == ["interactions_0"] * 3


RUN = {
    "dataset": "demo",
    "backbone": "gru4rec",
    "data.max_len": 8,
    "data.batch_size": 512,
    "train.epochs": 2,
    "train.eval_users": 8,
    "train.window": 2,
    "loggers": "none",
    "seeds": "1,2",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"method": "llmesr", "llmesr.width": 4},
        {"method": "none", "none.width": 4, "train.lanes": 2, "train.watch_gradients": 3},
    ],
)
def test_a_streamed_run_ends_in_the_same_numbers(tmp_path, changes, monkeypatch):
    found, sent, asked = {}, [], []
    send_ahead, window = Streamed.send_ahead, Streamed.window
    monkeypatch.setattr(Streamed, "send_ahead", lambda s, x: sent.append(x.tobytes()) or send_ahead(s, x))
    monkeypatch.setattr(Streamed, "window", lambda s, x: asked.append(x.tobytes()) or window(s, x))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for where in ("streamed", "resident"):
            settings = {**RUN, **changes, "workdir": str(tmp_path / where), "train.interactions": where}
            results = loop.train(experiment.prepare(config.build(settings)))
            lines = [json.loads(line) for line in (tmp_path / where / "metrics.jsonl").read_text().splitlines()]
            lines = [{k: v for k, v in line.items() if "second" not in k} for line in lines]
            found[where] = lines, {key: results[key] for key in ("test", "valid", "seeds")}
    assert found["streamed"] == found["resident"] and found["resident"][0]
    assert sent and set(sent) <= set(asked)


def test_a_method_that_reads_other_users_is_refused():
    class Reads:
        extra, before_epoch, for_serving = None, None, len

    corpus = tiny.ragged(1)
    assert not streaming.is_streamed("auto", corpus, Reads, "melt")
    with pytest.raises(
        InputError, match="train.interactions=streamed, but melt reads the interactions of users outside"
    ):
        streaming.is_streamed("streamed", corpus, Reads, "melt")


def test_auto_streams_what_would_fill_the_device(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": limit}

    class Reads:
        extra = before_epoch = for_serving = None

    corpus = tiny.ragged(1)
    size = 8 * len(corpus.items)
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    for limit, streamed in ((4 * size, False), (4 * size - 1, True)):
        assert streaming.is_streamed("auto", corpus, Reads, "none") == streamed
    assert not streaming.is_streamed("resident", corpus, Reads, "none")

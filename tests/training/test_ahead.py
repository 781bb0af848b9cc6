"""Which runs are prepared while another one trains, and what `program_of` makes of it."""

import threading

import jax
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.models import kept
from llmesr_jax.training import active_run, ahead, config, experiment
from llmesr_jax.training.program import Program

SMALL = {
    "dataset": "demo",
    "method": "llminit",
    "backbone": "gru4rec",
    "llminit.width": 4,
    "data.max_len": 8,
    "data.batch_size": 512,
    "loggers": "none",
    "seeds": "1",
}


@pytest.fixture(autouse=True)
def made(monkeypatch, tmp_path):
    """Programs are kept, and the list has the name of the thread that made each program."""
    monkeypatch.setattr(kept, "folder", lambda: tmp_path / "programs")
    threads = []

    def of(one):
        threads.append(threading.current_thread().name)
        if one.config.seeds == "2":
            raise InputError("the data are too large")
        return one.config.workdir

    monkeypatch.setattr(Program, "of", of)
    monkeypatch.setattr(ahead, "_compiling", of)
    return threads


@pytest.fixture
def prepared(tmp_path):
    with jax.numpy_dtype_promotion("standard"):
        yield lambda **changes: experiment.prepare(config.build({**SMALL, "workdir": str(tmp_path / "w"), **changes}))


def is_ahead(thread):
    return thread != threading.main_thread().name


def test_a_program_made_ahead_is_used_once(prepared, made):
    one = prepared()
    ahead.begin(one)
    for _ in range(2):
        assert ahead.program_of(one) == one.config.workdir
    assert [is_ahead(thread) for thread in made] == [True, False]


def test_an_error_in_the_thread_is_raised_where_the_run_begins(prepared, made):
    one = prepared(seeds="2")
    ahead.begin(one)
    with pytest.raises(InputError, match="too large"):
        ahead.program_of(one)
    assert [is_ahead(thread) for thread in made] == [True]


@pytest.mark.parametrize("reason", ["nothing is kept", "large tables", "finished", "a mesh", "an accelerator"])
def test_what_is_not_made_ahead(reason, prepared, made, monkeypatch):
    changes = {}
    if reason == "nothing is kept":
        monkeypatch.setattr(kept, "folder", lambda: None)
    elif reason == "large tables":
        monkeypatch.setattr(ahead, "_MOST", 0)
    elif reason == "finished":
        monkeypatch.setattr(active_run, "finished", lambda config: {"epochs": 1})
    elif reason == "a mesh":
        monkeypatch.setattr(jax, "device_count", lambda: 2)
        changes = {"train.mesh": "data:2"}
    one = prepared(**changes)
    if reason == "an accelerator":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    ahead.begin(one)
    assert not made and ahead.program_of(one) == one.config.workdir
    assert [is_ahead(thread) for thread in made] == [False]

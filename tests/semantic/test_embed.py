"""Whole runs of `embed` against a server on loopback, in this process."""

import gc
import hashlib
import json
import os
import signal
import threading
import time

import embedding_server
import numpy as np
import pytest
from embedded import WIDTH, arrays, contents, listing, texts_of, wanted

from launch.signals import Signals
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.data import reading
from llmesr_jax.semantic.embed import Options
from llmesr_jax.semantic.openai_api import batch_api, sending
from llmesr_jax.semantic.store import Store
from llmesr_jax.semantic.texts import Wording


def test_each_row_is_the_vector_of_its_text_and_each_text_is_paid_once(embed, server, folder, capsys):
    assert embed()
    items, users = arrays(folder)
    assert items.dtype == users.dtype == np.float32 and (items.shape, users.shape) == ((30, WIDTH), (12, WIDTH))
    np.testing.assert_array_equal(np.concatenate([items, users]), wanted(folder))
    assert not items[29].any() and np.array_equal(items[0], items[28])
    assert server.paid == dict.fromkeys(set(texts_of(folder)) - {""}, 1)
    assert max(map(len, server.requests)) == 4
    assert "30 items and 12 users; 40 different texts; 1 without any text" in capsys.readouterr().out
    keys = f"embed_texts-{json.loads((folder / 'embeddings.json').read_text())['texts'][:12]}.npy"
    assert sorted(path.name for path in folder.rglob("*")) == [
        "cache", keys, "embeddings.json", "inter.txt", "item_emb.npy", "items.jsonl", "user_emb.npy",
    ]  # fmt: skip


def test_the_manifest_says_what_the_files_are(embed, folder, server):
    embed(max_tokens=10)
    made = json.loads((folder / "embeddings.json").read_text())
    assert made["made_by"] == {
        "encoder": "openai", "model": "toy", "dimensions": WIDTH, "item_template": "", "crop": False,
        "user_template": "", "dtype": "float32",
    }  # fmt: skip
    for name, content in zip(("item_emb.npy", "user_emb.npy"), contents(folder)):
        assert made["arrays"][name]["sha256"] == hashlib.sha256(content).hexdigest()
    assert made["arrays"]["item_emb.npy"]["shape"] == [30, WIDTH]
    items = hashlib.sha256((folder / "items.jsonl").read_bytes()).hexdigest()
    assert made["inputs"] == {
        "interactions": reading.load("toy", folder).digest,
        "items.jsonl": items,
        "most_tokens": "10, counted by the server",
    }
    cut = [text for text in texts_of(folder) if len(text) > 80]  # no language has eight characters a token
    assert made["counts"]["cut"] == len(cut) > 0 and made["counts"]["empty"] == 1
    assert made["counts"]["texts"] == 42 and max(map(len, server.paid)) == 80
    assert made["counts"]["shortened"] == 0
    limits = {"max_tokens": 10, "tokenizer": ""}
    assert made["notes"] == {"source": server.base_url, "requests_asked_again": 0, **limits}
    assert made["libraries"]["numpy"] == np.__version__ and "created" in made


@pytest.mark.parametrize("fault", embedding_server.FAULTS)
def test_a_server_that_misbehaves_changes_no_bit(embed, server, folder, fault):
    server.faults, server.slow = (fault,), 0.6
    embed(timeout=0.3)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))
    asked_again = len(server.requests) > 11  # one text, then 39 in fours
    assert asked_again == (fault != "shuffled")


def test_all_faults_together_and_both_ways_to_write_numbers(embed, server, folder):
    server.faults, server.slow = embedding_server.FAULTS, 0.6
    embed(timeout=0.3, batch_size=1, encoding="float")
    assert len(server.requests) > 2 * len(embedding_server.FAULTS)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


def test_a_second_run_has_nothing_to_do(embed, server, folder, capsys):
    embed()
    before, count = listing(folder), len(server.requests)
    capsys.readouterr()
    assert embed() and embed(batch_size=9)
    assert capsys.readouterr().out == 2 * f"{folder}: the embeddings are up to date; nothing to do\n"
    assert (listing(folder), len(server.requests)) == (before, count)


def test_of_changed_texts_only_the_new_ones_are_paid(embed, server, folder):
    embed()
    path = folder / "items.jsonl"
    path.write_text(path.read_text().replace('"thing 1"', '"fez"').replace('"title": ""', '"title": "thing 2"'))
    before = set(texts_of(folder)) & set(server.paid)
    server.paid.clear()
    embed()
    assert server.paid == dict.fromkeys(set(texts_of(folder)) - before, 1)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


def test_another_limit_is_paid_for_where_it_changes_texts(embed, server, folder):
    embed()
    server.paid.clear()
    embed(max_tokens=10)  # those of users are longer
    assert set(server.paid.values()) == {1} and {len(text) for text in server.paid} == {80}
    assert 0 < len(server.paid) <= 12


def test_templates_decide_about_the_texts(embed, server, folder):
    wording = Wording(item_template="A {noun}: {title}", user_template="likes {titles}")
    embed(wording)
    assert "A item: thing 3" in server.paid and any(text.startswith("likes thing") for text in server.paid)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder, wording))


def test_float16(embed, server, folder):
    embed(options=Options(float16=True))
    items, users = arrays(folder)
    assert items.dtype == users.dtype == np.float16
    np.testing.assert_array_equal(np.concatenate([items, users]), wanted(folder).astype(np.float16))


def test_numbers_too_large_for_float16_are_refused_and_kept_for_float32(embed, server, folder, monkeypatch):
    vector = embedding_server.vector
    monkeypatch.setattr(embedding_server, "vector", lambda text, width: 1e5 * (2 + vector(text, width)))
    with pytest.raises(InputError, match="item_emb.npy.partial: holds numbers that are not finite; float16 holds"):
        embed(options=Options(float16=True))
    assert not [path for path in folder.iterdir() if "emb" in path.name]
    count = len(server.requests)
    embed()
    assert len(server.requests) == count and arrays(folder)[0].max() > 1e5


def test_files_of_others_are_not_replaced_unasked(embed, server, folder):
    np.save(folder / "item_emb.npy", np.ones((30, 4), np.float32))
    with pytest.raises(InputError, match="item_emb.npy: was not written by launch.embed.*--overwrite"):
        embed()
    assert not server.requests
    embed(options=Options(overwrite=True))
    with pytest.raises(
        InputError, match="has embeddings made with other settings .model is 'toy', expected 'other'.*--overwrite"
    ):
        embed(model="other")
    embed(model="other", options=Options(overwrite=True))
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


@pytest.mark.parametrize("stop", range(1, 4))
def test_a_kill_between_the_files_is_told_and_costs_nothing(embed, server, folder, monkeypatch, stop):
    from pathlib import Path

    embed()
    path = folder / "items.jsonl"
    path.write_text(path.read_text().replace("thing 1", "fez 1"))
    calls, replace = iter(range(100)), Path.replace

    def killed(self, target):
        if Path(target).suffix == ".npy" and Path(target).parent == folder or Path(target).name == "embeddings.json":
            if next(calls) == stop:
                raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        embed()
    assert json.loads((folder / "embeddings.json").read_text())["incomplete"] is True
    count = len(server.requests)
    embed()
    assert len(server.requests) == count
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


def test_the_width_is_what_two_answers_agree_on(embed, server, folder):
    server.faults = ("width", *["shuffled"] * 30)  # the very first answer is wrong
    embed(dimensions=0)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))
    server.faults = ()
    server.paid.clear()
    embed(dimensions=0, model="other", options=Options(overwrite=True))
    assert set(server.paid.values()) == {1}  # the two that told the width, too


@pytest.mark.parametrize("stored", [1, 3])
def test_a_continued_run_does_not_ask_for_the_width_again(embed, server, folder, monkeypatch, stored):
    add, calls = Store.add, iter(range(100))

    def interrupted(*args):
        add(*args)
        if next(calls) == stored - 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "add", interrupted)
        embed(dimensions=0, concurrency=1)
    alone = [request for request in server.requests if len(request) == 1]
    count = len(server.requests)
    embed(dimensions=0, concurrency=1)
    assert len(alone) == 2 and list(map(len, server.requests[count : count + 2])) == [1, 4]
    assert sum(server.paid.values()) - len(server.paid) <= (1 if stored == 1 else 0)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


@pytest.fixture
def embed_hearing(embed):
    """`embed` as the command runs it: it hears signals."""

    def run(**settings):
        with Signals() as signals:
            return embed(stop=signals.stop, **settings)

    return run


@pytest.mark.parametrize("way", [{"batch_size": 1}, {"batch_api": True}])
def test_an_interrupt_amid_garbage_collection_stops_the_spending(embed_hearing, server, folder, monkeypatch, way):
    """Python swallows what is raised there."""
    monkeypatch.setattr(batch_api, "_MOST_TEXTS", 4)
    add = Store.add

    def interrupted(phase, info):
        gc.callbacks.remove(interrupted)
        signal.raise_signal(signal.SIGINT)

    def add_amid_collection(*args):
        gc.callbacks.append(interrupted)
        gc.collect()
        add(*args)

    monkeypatch.setattr(Store, "add", add_amid_collection)
    with pytest.raises(KeyboardInterrupt):
        embed_hearing(concurrency=1, **way)
    assert len(server.requests) + len(server.batches) <= 2 and not (folder / "item_emb.npy").exists()


def interrupt(server, requests, *after):
    """SIGINT at these seconds after so many requests have come."""

    def watch():
        while len(server.requests) < requests:
            time.sleep(0.002)
        for wait in after:
            time.sleep(wait)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.parametrize("width", [WIDTH, 0])
def test_an_interrupt_sends_nothing_more_and_stores_the_answers_under_way(
    embed, embed_hearing, server, folder, capsys, width
):
    server.delay = 0.8
    interrupt(server, 2 if width == 0 else 4, 0.1)
    with pytest.raises(KeyboardInterrupt):
        embed_hearing(dimensions=width)
    sent = sum(map(len, server.requests))
    assert len(server.requests) == (2 if width == 0 else 4) and server.paid.total() == sent
    assert capsys.readouterr().out.endswith(f"\n{sent} of 40 texts are done; run the same command again to continue\n")
    server.delay = 0.0
    embed(dimensions=width)
    assert set(server.paid.values()) == {1}
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


def test_a_stop_from_another_thread_needs_no_signal(embed, server, folder, capsys):
    server.delay, stop = 0.8, Stop()

    def watch():
        while len(server.requests) < 4:
            time.sleep(0.002)
        stop.request()

    threading.Thread(target=watch, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        embed(stop=stop)
    assert len(server.requests) == 4 and server.paid.total() == sum(map(len, server.requests))
    assert capsys.readouterr().out.endswith(
        f"\n{server.paid.total()} of 40 texts are done; run the same command again to continue\n"
    )


def test_a_second_interrupt_does_not_wait_for_the_server(embed_hearing, server, folder):
    server.delay = 5.0
    interrupt(server, 1, 0.1, 0.4)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        embed_hearing(timeout=10.0)
    assert time.monotonic() - started < 1.4 and not server.paid


def test_an_interrupt_waits_for_a_slow_server_for_a_moment_only(embed_hearing, server, folder):
    server.delay = 6.0
    interrupt(server, 1, 0.1)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        embed_hearing(timeout=10.0)
    assert sending.GRACE < time.monotonic() - started < sending.GRACE + 1.5


def test_an_interrupt_does_not_wait_till_a_request_is_sent_again(embed_hearing, server, folder):
    server.status = 500
    threading.Timer(0.8, os.kill, [os.getpid(), signal.SIGINT]).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        embed_hearing(first_wait=20.0, longest_wait=20.0)
    assert time.monotonic() - started < 5.0


def test_another_template_pays_for_other_texts_only(embed, server, folder):
    embed()
    told = set(server.paid)
    server.paid.clear()
    wording = Wording(user_template="bought {titles}")
    embed(wording, Options(overwrite=True))
    assert set(server.paid) == set(texts_of(folder, wording)) - told - {""} and len(server.paid) == 12
    assert not list(folder.glob("*.partial"))  # of the items' file, which stays as it was
    (folder / "user_emb.npy.partial").write_bytes(b"left by a kill")
    embed(wording)
    assert not list(folder.glob("*.partial"))
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder, wording))
    for other in ({"model": "other"}, {"dimensions": 4}, {"options": Options(overwrite=True, float16=True)}):
        server.paid.clear()
        embed(wording, **{"options": Options(overwrite=True), **other})
        assert len(server.paid) == 40

"""The Batch API against the server on loopback: the same files, each text paid once, whatever stops a run."""

import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.openai_api import batch_api


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(batch_api, "_MOST_TEXTS", 12)


@pytest.fixture
def undisturbed(embed, folder, server):
    """The bytes of both files, made by plain requests; the files are gone again."""
    embed()
    made = _bytes(folder)
    for path in [*folder.glob("*emb*"), *folder.glob("cache/*")]:
        path.unlink()
    server.paid.clear()
    server.requests.clear()
    return made


def _bytes(folder):
    return [(folder / name).read_bytes() for name in ("item_emb.npy", "user_emb.npy")]


def test_batches_give_the_same_files(embed, folder, server, undisturbed):
    embed(batch_api=True)
    assert _bytes(folder) == undisturbed
    assert not server.requests and set(server.paid.values()) == {1}
    assert len(server.batches) == 4  # 40 texts, in requests of 4, in batches of 12


def test_texts_of_an_answer_that_cannot_be_used_are_sent_one_request_at_a_time(embed, folder, server, undisturbed):
    spoilt = []

    class Firsts(set):
        def __contains__(self, custom_id):
            if not spoilt:
                spoilt.append(custom_id)
                return True
            return False

        def remove(self, custom_id):
            pass

    server.spoilt_lines = Firsts()
    embed(batch_api=True)
    assert _bytes(folder) == undisturbed
    assert len(server.batches) == 4 and set(server.paid.values()) == {1}
    assert [len(request) for request in server.requests] == [1]  # the text whose row was NaN


@pytest.mark.parametrize("place", ["uploaded", "made", "looked", "half-stored"])
def test_a_stopped_run_finds_its_batches_again(embed, folder, server, undisturbed, monkeypatch, place):
    from llmesr_jax.semantic.store import Store

    calls = iter(range(100))

    def stopping(function, last):
        def stopped(*args, **options):
            if next(calls) == last:
                raise KeyboardInterrupt
            return function(*args, **options)

        return stopped

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if place == "half-stored":
            patched.setattr(Store, "add", stopping(Store.add, 4))
        elif place == "looked":
            server.batch_looks = 10**6
            patched.setattr(batch_api.asyncio, "sleep", stopping(batch_api.asyncio.sleep, 2))
        else:
            patched.setattr(batch_api, "_remember", stopping(batch_api._remember, {"uploaded": 2, "made": 3}[place]))
        embed(batch_api=True)
    server.batch_looks = 2
    for batch in server.batches.values():
        batch["looks"] = 0
    embed(batch_api=True)
    assert _bytes(folder) == undisturbed
    assert set(server.paid.values()) == {1}


def test_a_full_queue_is_tried_again_and_another_failure_told(embed, folder, server, undisturbed):
    server.batch_error = {"code": "token_limit_exceeded", "message": "too many tokens"}
    embed(batch_api=True)
    assert _bytes(folder) == undisturbed


def test_a_failed_batch_is_told(embed, folder, server):
    server.batch_error = {"code": "invalid", "message": "no such\nmodel"}
    with pytest.raises(InputError, match=r"batch batch-0: failed \(no such model\); check --model and the account$"):
        embed(batch_api=True, concurrency=1)
    embed(batch_api=True)
    assert set(server.paid.values()) <= {1, 2}


def test_the_width_must_be_known(embed, folder, capsys):
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match="^--batch_api: the width of toy is not known; set it with --dimensions$"):
        embed(batch_api=True, dimensions=0)
    assert capsys.readouterr().out == "" and sorted(folder.rglob("*")) == before
    embed(dimensions=0)
    (folder / "items.jsonl").write_text((folder / "items.jsonl").read_text().replace("thing 1", "fez 1"))
    assert embed(batch_api=True, dimensions=0)  # the files tell it


def test_limits_of_a_batch(embed, folder, server, monkeypatch):
    monkeypatch.setattr(batch_api, "_MOST_BYTES", 1)
    embed(batch_api=True)
    assert len(server.batches) == 10
    assert np.load(folder / "item_emb.npy").shape == (30, 8)

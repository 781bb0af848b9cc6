"""The texts divided among processes: the same files as without shards, each text paid once, also after kills."""

import itertools
import shutil
from collections import Counter

import embedded
import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import shards
from llmesr_jax.semantic.embed import Options
from llmesr_jax.semantic.shards import Shard, shard_of
from llmesr_jax.semantic.store import KEY, Store, key_of


def test_every_text_belongs_to_one_shard_about_evenly():
    keys = np.frombuffer(b"".join(key_of(f"text {n}") for n in range(3000)), KEY)
    has = np.array([Shard(number, 3).has(keys) for number in range(3)])
    assert (has.sum(axis=0) == 1).all() and (np.abs(has.sum(axis=1) - 1000) < 150).all()


def test_shards_in_any_order_make_the_same_files_and_each_text_is_paid_once(embed, server, folder, capsys):
    for number in (2, 0, 1):
        assert not embed(options=Options(shard=Shard(number, 3)))
        assert not (folder / "item_emb.npy").exists()
    done = capsys.readouterr().out
    assert "shard 2 of 3 (from 0): " in done and "the same command without --shards and --shard merges them" in done
    texts = Counter(filter(None, set(embedded.texts_of(folder))))
    assert server.paid == texts
    assert embed()
    assert server.paid == texts  # nothing new, nothing twice
    np.testing.assert_array_equal(np.concatenate(embedded.arrays(folder)), embedded.wanted(folder))
    assert not list((folder / "cache").glob("embed-*"))  # the stores are gone
    assert embed(options=Options(shard=Shard(0, 3)))  # up to date
    assert server.paid == texts


def test_what_shards_left_out_is_embedded_by_the_merge(embed, server, folder):
    embed(options=Options(shard=Shard(0, 2)))
    first = server.paid.total()
    assert embed()
    np.testing.assert_array_equal(np.concatenate(embedded.arrays(folder)), embedded.wanted(folder))
    assert server.paid.total() == len(server.paid) > first > 0


@pytest.mark.parametrize("stage", range(3))
def test_a_merge_that_was_killed_is_completed(embed, server, folder, monkeypatch, stage):
    for number in range(2):
        embed(options=Options(shard=Shard(number, 2)))
    paid = server.paid.total()
    monkeypatch.setattr(shards, "_BLOCK", 5)
    calls, killed = itertools.count(), {0: (Store, "add"), 1: (Store, "remove"), 2: (shutil, "rmtree")}[stage]
    plain = getattr(*killed)

    def kill(*args, **kwargs):
        if stage or next(calls) == 2:
            raise SystemExit  # stands for a kill: nothing catches it
        return plain(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(*killed, kill)
        with pytest.raises(SystemExit):
            embed()
    assert embed()
    assert server.paid.total() == paid
    np.testing.assert_array_equal(np.concatenate(embedded.arrays(folder)), embedded.wanted(folder))
    assert not list((folder / "cache").glob("embed-*"))


def test_a_merge_waits_for_no_shard_at_work(embed, folder):
    embed(options=Options(shard=Shard(0, 2)))
    (there,) = (folder / "cache").glob("embed-*-shard-0-of-2")
    with Store(there, {}), pytest.raises(InputError, match="another launch.embed is using this folder"):
        embed()


@pytest.mark.parametrize("width", [None, 3, embedded.WIDTH])
def test_a_shard_at_work_is_neither_merged_nor_deleted(embed, folder, tmp_path, width):
    embed(options=Options(shard=Shard(0, 2)))
    (there,) = (folder / "cache").glob("embed-*-shard-0-of-2")
    running = there.with_name(there.name.replace("-0-of-2", "-1-of-2"))
    with Store(running, {}, width) as store:
        with pytest.raises(InputError, match="-shard-1-of-2: another launch.embed is using this folder"):
            embed()
        shards.remove(there.with_name(there.name.removesuffix("-shard-0-of-2")))
        assert not there.exists() and running.exists()
        store.add([key_of("a")], np.ones((1, width or 5), np.float32))


@pytest.mark.parametrize(
    ("count", "number", "told"),
    [(3, None, "--shard is missing; with --shards=3, expected --shard=0 to --shard=2"), (3, 3, "--shard=3: there is no"), (1, 2, "--shard=2")],
)  # fmt: skip
def test_a_shard_that_is_none(count, number, told):
    with pytest.raises(InputError, match=told):
        shard_of(count, number)
    assert shard_of(1, None) is None

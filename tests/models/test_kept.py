"""Kept programs: the same numbers without tracing, another program wherever anything differs, none where that is unclear."""

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from typing import NamedTuple

import commands
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from llmesr_jax.core.errors import InputError
from llmesr_jax.models import fingerprint, kept
from llmesr_jax.training.state import State

traced = []


class Settings(NamedTuple):
    factor: float
    name: str = "a"


def step(settings, tree, x, flag=False):
    """Results of every kind of container that a program may return."""
    traced.append(settings)
    up = jax.tree.map(lambda leaf: leaf + settings.factor * jnp.tanh(x).sum().astype(leaf.dtype), tree)
    state = optax.adam(1e-3).init(x)
    return {
        "tree": up,
        "list": [x * 2, (x + float(flag),)],
        "none": None,
        "adam": state,
        "state": State(up, state, x, x),
    }


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """JAX's cache is on, and what this file defines is taken for a part of the package."""
    monkeypatch.setattr(fingerprint, "_TRUSTED", fingerprint._TRUSTED | {__name__.partition(".")[0]})
    monkeypatch.setattr(fingerprint, "_OF_STATES", ("llmesr_jax", "optax"))
    monkeypatch.setattr(kept, "folder", lambda: tmp_path / "programs")
    traced.clear()
    return tmp_path / "programs"


def jitted():
    """As a process of its own would make it: it remembers nothing."""
    return kept.jit(step, static_argnames=("settings", "flag"), donate_argnames="tree")


def arguments(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    return {"b": draw(3), "a": (draw(2, 2), [draw(1)])}, draw(3)


def same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    assert [x.dtype for x in jax.tree.leaves(left)] == [x.dtype for x in jax.tree.leaves(right)]
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right)))


def test_a_later_process_gets_the_same_bits_and_traces_nothing(folder):
    plain = jax.jit(step, static_argnums=0)(Settings(0.5), *arguments())
    first = jitted()(Settings(0.5), *arguments())
    assert len(traced) == 2 and len(list(folder.iterdir())) == 1
    second = jitted()
    same(first, plain)
    for seed in (0, 1):
        same(second(Settings(0.5), *arguments(seed)), jax.jit(step, static_argnums=0)(Settings(0.5), *arguments(seed)))
    assert len(traced) == 2 and len(list(folder.iterdir())) == 1


ON_TWO_DEVICES = """
import sys
import jax, numpy as np
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
from llmesr_jax.models import kept, losses
second = jax.devices()[1]
made = kept.jit(losses._means.masked_mean)
x, where = np.arange(3, dtype=np.float32), np.array([True, False, True])
for device in (None, second, None):
    found = made(*jax.device_put((x, where), device))
    assert found == 1 and found.devices() == {device or jax.devices()[0]}, device
with jax.default_device(second):
    assert made(x, where).devices() == {second}
"""


@pytest.mark.slow
def test_arrays_on_another_device_stay_there(tmp_path):
    env = os.environ | {"PYTHONPATH": str(commands.PROJECT), "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path)], env=env, check=True)
    assert len(list((tmp_path / "llmesr_jax-traced").iterdir())) >= 1


def test_what_is_forgotten_is_read_again(folder):
    made = jitted()
    first = made(Settings(0.5), *arguments())
    compiled = [weakref.ref(program.call) for program in made._programs.values()]
    kept.forget()
    gc.collect()
    assert len(compiled) == 1 and compiled[0]() is None
    same(made(Settings(0.5), *arguments()), first)
    assert len(traced) == 1 and len(list(folder.iterdir())) == 1


def shapes(trees):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), trees)


def test_what_is_compiled_ahead_is_not_traced_again(folder):
    plain = jax.jit(step, static_argnums=0)(Settings(0.5), *arguments())
    traced.clear()
    made = jitted()
    made.ahead(Settings(0.5), *shapes(arguments()))
    made.ahead(Settings(0.5), *shapes(arguments()))
    for _ in range(2):
        same(made(Settings(0.5), *arguments()), plain)
    assert len(traced) == 1 and len(list(folder.iterdir())) == 1 and not kept.is_compiling()


def test_work_in_the_thread_is_known_until_it_ends():
    ends = threading.Event()
    work = kept.in_thread(ends.wait)
    assert kept.is_compiling()
    ends.set()
    assert work.result() and not kept.is_compiling()


def test_a_setting_of_the_callers_thread_alone_is_traced_by_the_call(folder):
    made = jitted()
    with jax.default_matmul_precision("highest"):
        made.ahead(Settings(0.5), *shapes(arguments()))
        same(made(Settings(0.5), *arguments()), jax.jit(step, static_argnums=0)(Settings(0.5), *arguments()))
    assert not folder.exists()


def test_a_changed_setting_is_another_program(folder):
    def drawn(seed):
        return jax.random.normal(jax.random.key(seed), (3,))

    made, plain, found = kept.jit(drawn), jax.jit(drawn), []
    for partitionable in (True, False, True):
        with jax.threefry_partitionable(partitionable):
            found.append(made(3))
            np.testing.assert_array_equal(found[-1], plain(3))
    assert len(list(folder.iterdir())) == 2 and not np.array_equal(found[0], found[1])


def test_an_error_ahead_is_the_error_of_the_call():
    def fails(x):
        raise InputError("the table is wrong")

    made = kept.jit(fails)
    made.ahead(jax.ShapeDtypeStruct((2,), np.float32))
    with pytest.raises(InputError, match="the table is wrong"):
        made(jnp.ones(2))


def test_where_nothing_is_kept_nothing_is_compiled_ahead(monkeypatch):
    monkeypatch.setattr(kept, "folder", lambda: None)
    jitted().ahead(Settings(0.5), *shapes(arguments()))
    assert not traced and not kept.is_compiling()


@pytest.mark.parametrize(
    "other",
    [
        lambda f: f(Settings(0.25), *arguments()),
        lambda f: f(Settings(0.5, "b"), *arguments()),
        lambda f: f(Settings(0.5), *arguments(), flag=True),
        lambda f: f(Settings(0.5), *arguments(dtype=np.float16)),
        lambda f: f(Settings(0.5), arguments()[0], jnp.ones(4)),
        lambda f: f(Settings(0.5), {"c": arguments()[1]}, arguments()[1]),
    ],
    ids=["number", "name", "flag", "dtype", "shape", "tree"],
)
def test_other_arguments_are_another_program(folder, other):
    jitted()(Settings(0.5), *arguments())
    same(other(jitted()), other(jax.jit(step, static_argnames=("settings", "flag"))))
    assert len(list(folder.iterdir())) == 2


def test_what_a_tree_says_beside_its_arrays_is_part_of_the_name(folder):
    """Static fields of a struct, such as the number of items that negatives are drawn from."""

    def first(data):
        return data.items_n[0] * data.num_items

    data = tiny.case("gru4rec", "none").data
    call = kept.jit(first)
    assert int(call(data)) == int(data.items_n[0]) * data.num_items
    more = data.replace(num_items=data.num_items + 1)
    assert int(kept.jit(first)(more)) == int(data.items_n[0]) * (data.num_items + 1)
    assert len(list(folder.iterdir())) == 2


def test_donated_arrays_are_given_away():
    for call in (jitted(), jitted()):
        tree, x = arguments()
        call(Settings(0.5), tree, x)
        assert [leaf.is_deleted() for leaf in jax.tree.leaves(tree)] == [True] * 3 and not x.is_deleted()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"",
        lambda data: b"[]\n" + data,
        lambda data: data.replace(b"llmesr_jax.training.state:State", b"llmesr_jax.training.state:Start"),
        lambda data: data.replace(b"llmesr_jax.training.state:State", b"subprocess:CompletedProcess    "),
    ],
)
def test_a_damaged_file_is_traced_anew_and_replaced(folder, damage):
    expected = jitted()(Settings(0.5), *arguments())
    (path,) = folder.iterdir()
    sound = path.read_bytes()
    path.write_bytes(damage(sound))
    assert path.read_bytes() != sound
    same(jitted()(Settings(0.5), *arguments()), expected)
    assert len(traced) == 2 and json.loads(path.read_bytes().partition(b"\n")[0])["format"] == 1
    jitted()(Settings(0.5), *arguments())
    assert len(traced) == 2


def test_a_folder_that_cannot_be_written_is_no_error(folder):
    folder.write_text("a file")
    tree, x = arguments()
    double, _ = jitted()(Settings(0.5), tree, x)["list"]
    assert double.tolist() == (2 * x).tolist() and folder.read_text() == "a file"


def test_what_cannot_be_described_is_not_kept(folder):
    class Hidden:
        pass

    def own(hidden, x):
        return x + 1

    assert float(kept.jit(own, static_argnames="hidden")(Hidden(), np.float32(1))) == 2
    assert not folder.exists()


def test_under_another_transformation_it_is_jax_jit(folder):
    call = jitted()
    tree, x = arguments()
    gradient = jax.grad(lambda x: call(Settings(0.5), tree, x)["tree"]["b"].sum())(x)
    np.testing.assert_allclose(gradient, 3 * 0.5 * (1 - np.tanh(x) ** 2), rtol=1e-5)
    assert not folder.exists()


def test_an_error_of_the_function_is_the_error():
    def wrong(x):
        raise InputError("this is wrong")

    with pytest.raises(InputError, match="this is wrong"):
        kept.jit(wrong)(np.ones(2))


def test_it_follows_jaxs_own_cache(monkeypatch, tmp_path):
    monkeypatch.undo()
    before = jax.config.jax_compilation_cache_dir
    try:
        for cache, found in ((None, None), ("gs://here", None), (str(tmp_path), tmp_path / "llmesr_jax-traced")):
            jax.config.update("jax_compilation_cache_dir", cache)
            assert kept.folder() == found
        for looking in (jax.disable_jit(), jax.debug_nans(True)):
            with looking:
                assert kept.folder() is None
        assert kept.folder() == found
    finally:
        jax.config.update("jax_compilation_cache_dir", before)

"""Kept programs: the same numbers without tracing, another program wherever anything differs, none where that is unclear."""

import contextlib
import dataclasses
import functools
import gc
import json
import math
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import NamedTuple

import commands
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from llmesr_jax.core.errors import InputError
from llmesr_jax.models import backbones, fingerprint, kept, losses, methods
from llmesr_jax.models.losses import _means
from llmesr_jax.training import optimizer
from llmesr_jax.training.config import settings
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


# What is part of a name.


def nested(factor):
    return lambda x: x * factor


DIFFERENT = [
    (1, 1.0),
    (0.0, -0.0),
    ("1", 1),
    ((1, 2), [1, 2]),
    ({"a": 1}, {"a": 2}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (frozenset({1}), frozenset({1, 2})),
    (np.float32(1), np.float64(1)),
    (np.zeros(2), np.zeros((2, 1))),
    (np.zeros(2), np.array([0.0, -0.0])),
    (nested(1), nested(2)),
    (lambda x: x + 1, lambda x: x - 1),
    (functools.partial(nested, 1), functools.partial(nested, 2)),
    (optax.adam(1e-3), optax.adam(1e-4)),
    (optax.adam(1e-3), optax.sgd(1e-3)),
    (jnp.sum, jnp.prod),
    (jax.nn.relu, jax.nn.gelu),
    (Settings, Settings(1.0)),
    (losses.LossConfig(), losses.LossConfig(ranking="softmax")),
]


@pytest.mark.parametrize("left, right", DIFFERENT)
def test_what_differs_has_another_digest(left, right):
    assert fingerprint.digest(left) != fingerprint.digest(right)
    assert [fingerprint.digest(x) for x in (left, right)] == [fingerprint.digest(x) for x in (left, right)]


def test_what_is_made_anew_has_the_same_digest():
    for make in (lambda: nested(1), lambda: optax.adamw(1e-3), lambda: {"a": np.arange(3), "b": {3, 1, 2}}, list):
        assert fingerprint.digest(make()) == fingerprint.digest(make())


@pytest.mark.parametrize(
    "value", [object(), iter([]), (1, [iter([])]), functools.partial(print, object()), nested({object()})]
)
def test_what_hides_its_parts_is_unknown(value):
    with pytest.raises(fingerprint.Unknown):
        fingerprint.digest(value)


def test_another_packages_function_is_unknown_whatever_it_says_of_itself(monkeypatch):
    monkeypatch.undo()

    @functools.wraps(losses.LossConfig)
    def own(x):
        return x

    own.__module__ = "llmesr_jax.models.losses"
    with pytest.raises(fingerprint.Unknown):
        fingerprint.digest(own)
    with pytest.raises(fingerprint.Unknown):
        fingerprint.digest(test_what_is_made_anew_has_the_same_digest)


def test_a_function_of_the_package_that_is_replaced_keeps_nothing(monkeypatch):
    monkeypatch.undo()
    fingerprint.environment()
    with monkeypatch.context() as patched:
        patched.setattr(_means, "masked_mean", functools.wraps(_means.masked_mean)(lambda *args: 0.0))
        with pytest.raises(fingerprint.Unknown):
            fingerprint.environment()
    with monkeypatch.context() as patched:
        patched.setattr(State, "replace", lambda self, **changes: self)
        with pytest.raises(fingerprint.Unknown):
            fingerprint.environment()


def test_sources_that_were_changed_since_they_were_loaded_keep_nothing(monkeypatch):
    """Else a program of the code before would have the name of the code behind it."""
    monkeypatch.undo()
    fingerprint._fixed.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(fingerprint, "_LOADED", Path(fingerprint.__file__).stat().st_mtime - 60)
        with pytest.raises(fingerprint.Unknown):
            fingerprint.environment()
        patched.setattr(fingerprint, "_LOADED", math.inf)
        assert fingerprint.environment()
    fingerprint._fixed.cache_clear()


def test_a_value_of_the_package_and_a_setting_of_jax_are_part_of_every_name(monkeypatch):
    monkeypatch.undo()
    before = fingerprint.environment()
    with monkeypatch.context() as patched:
        patched.setattr(losses, "PLUGINS", _means)
        assert fingerprint.environment() != before
    with jax.default_matmul_precision("highest"):
        assert fingerprint.environment() != before
    with jax.enable_x64(True):
        assert fingerprint.environment() != before
    assert fingerprint.environment() == before


@pytest.mark.parametrize("backbone", backbones.PLUGINS.names())
def test_every_model_of_the_package_can_be_described(backbone, monkeypatch):
    monkeypatch.undo()
    found = set()
    for method in methods.PLUGINS.names():
        with contextlib.suppress(InputError):  # pairs that do not go together
            model = tiny.case(backbone, method).model
            found.add(fingerprint.digest(model))
            assert fingerprint.digest(dataclasses.replace(model)) in found
    assert len(found) > 3 or backbone != "sasrec"


@pytest.mark.parametrize(
    "changes", [{}, {"train.average": 0.99}, {"train.optimizer": "adamw"}, {"train.surgery": "pcgrad"}]
)
def test_every_optimiser_of_the_package_can_be_described(changes, monkeypatch):
    monkeypatch.undo()
    config = settings({"method": "llmesr", **changes})
    model = tiny.case("sasrec", "llmesr").model
    made = optimizer.of_run(config, model, ["a", "b"], terms=2)
    assert fingerprint.digest(made) != fingerprint.digest(optimizer.adam(0.5))

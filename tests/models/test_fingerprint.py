"""What is part of a kept program's name: everything from which it follows, and nothing that only this process has."""

import contextlib
import dataclasses
import functools
import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from llmesr_jax.core.errors import InputError
from llmesr_jax.models import backbones, fingerprint, losses, methods
from llmesr_jax.models.losses import _means
from llmesr_jax.training import optimizer
from llmesr_jax.training.config import settings
from llmesr_jax.training.state import State


class Settings(NamedTuple):
    factor: float


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    """What this file defines is taken for a part of the package."""
    monkeypatch.setattr(fingerprint, "_TRUSTED", fingerprint._TRUSTED | {__name__.partition(".")[0]})


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

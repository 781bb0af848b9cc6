"""What every encoder must keep to, whatever files there are."""

import dataclasses

import pytest

from llmesr_jax.core import knobs
from llmesr_jax.semantic import encoders

NAMES = encoders.PLUGINS.names()


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_has_the_parts_of_its_kind(name):
    module = encoders.PLUGINS.load(name)
    assert module.TAKES in ("texts", "corpus") and module.__doc__
    assert dataclasses.is_dataclass(module.Config) and module.Config.__dataclass_params__.frozen
    assert callable(module.load) if module.TAKES == "texts" else callable(module.embed) and callable(module.identity)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_allowed_and_explained(name):
    for field, setting in knobs.fields(encoders.PLUGINS.load(name).Config).items():
        assert setting.doc, field
        knobs.check_value(name, field, setting.default, setting)


def test_encoders_that_share_a_flag_mean_the_same_by_it():
    found = {}
    for name in NAMES:
        for field, setting in knobs.fields(encoders.PLUGINS.load(name).Config).items():
            assert found.setdefault(field, setting.kind) is setting.kind, field

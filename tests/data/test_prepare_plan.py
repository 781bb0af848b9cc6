"""What `launch.prepare` is asked to do is checked before anything is read."""

import dataclasses
import re

import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import importers, prepare_plan


def test_the_importers_named_for_a_split_of_the_users_own_are_those_that_can_read_one():
    parts = {"train": "a", "valid": "b", "test": "c"}
    settings = prepare_plan.Settings(dataset="mine", importer="handled", **parts)
    with pytest.raises(
        InputError, match="importer handled reads files with fixed names; .* needs --importer="
    ) as caught:
        prepare_plan.plan(settings, {})
    named = re.split(", | or ", str(caught.value).partition("--importer=")[2])
    able = [
        name
        for name in importers.PLUGINS.names()
        if "file" in {field.name for field in dataclasses.fields(importers.PLUGINS.load(name).Options)}
    ]
    assert sorted(named) == sorted(able)

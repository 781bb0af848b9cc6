"""What `launch.prepare` is asked to do is checked before anything is read."""

import dataclasses
import os
import re
import sys

import prepared
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


@pytest.mark.parametrize("out", [".", "..", "/", "there/.."])
def test_a_folder_without_a_name_is_refused(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = prepared.refused(tmp_path, out, ["--importer=table"])
    assert told.startswith(f"--out={out}: does not end with a folder's name")


@pytest.mark.skipif(sys.platform != "linux", reason="such names cannot be made")
def test_names_that_are_not_utf_8_are_refused(tmp_path):
    name = os.fsdecode(b"a\xff")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / f"{name}.csv").write_text("user_id,item_id\na,x\na,y\na,z\n")
    told = prepared.refused(tmp_path / "raw", tmp_path / "out", ["--importer=table"])
    assert told == "a\\udcff.csv: its name is not UTF-8; expected a name in UTF-8; rename it"
    assert not (tmp_path / "out").exists()
    told = prepared.refused(tmp_path / "raw", tmp_path / name, ["--importer=table"])
    assert told.startswith(f"{tmp_path}/a\\udcff: its name is not UTF-8")

"""A trained run read back."""

import commands
import jax
import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import experiment, runs
from llmesr_jax.training.progress import Progress


def test_tables_come_to_the_device_once_and_without_the_start(tmp_path):
    flags = {"dataset": "tiny", "data_dir": str(commands.write_data(tmp_path / "tiny")), "workdir": str(tmp_path / "w")}
    flags |= {"method": "llmesr", "semantic.tfidf_width": 8, "llmesr.similar": 3, "llmesr.width": 4}
    prepared = experiment.prepare(config_lib.build(flags=flags))
    run = runs.Run(prepared, None, Progress(1, 0, [0], [0.0], [1]))
    assert run.tables is run.tables and sorted(run.tables) == ["item_llm", "similar_users"]
    for name, table in run.tables.items():
        assert isinstance(table, jax.Array)
        np.testing.assert_array_equal(table, prepared.tables[name])


@pytest.mark.parametrize(
    ("flags", "told"), [({"dataset": "laden"}, "data/laden"), ({"dataset": "x", "data_dir": "own"}, "own")]
)
def test_data_of_a_relative_path_are_looked_up_from_the_current_folder(flags, told, tmp_path, monkeypatch):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    elsewhere.mkdir()
    commands.write_data(here / told)
    monkeypatch.chdir(here)
    flags |= {"method": "none", "workdir": "w"}
    prepared = experiment.prepare(config_lib.build(flags=flags))
    experiment.open_workdir(prepared)
    with pytest.raises(InputError, match="no checkpoint yet"):  # the data were found
        runs.load(here / "w")
    monkeypatch.chdir(elsewhere)
    with pytest.raises(InputError, match=f"w: was trained on the data folder {told}, a path relative to .*--data_dir="):
        runs.load(here / "w")
    with pytest.raises(InputError, match="no checkpoint yet"):
        runs.load(here / "w", str(here / told))

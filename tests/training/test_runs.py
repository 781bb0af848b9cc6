"""A trained run read back."""

import commands
import jax
import numpy as np

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

"""`python -m launch.filter`: from Parquet files to parts; killed, it leaves nothing half, and the same command ends it."""

import signal
import time

import commands
import numpy as np
import polars as pl
import pytest

pytest.importorskip("duckdb")
pytestmark = pytest.mark.slow


def test_the_command_and_the_one_that_it_names(environment, tmp_path):
    (tmp_path / "raw").mkdir()
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"user_id": rng.integers(0, 5000, 300_000), "item_id": rng.integers(0, 800, 300_000)})
    frame = frame.with_columns(time=pl.int_range(pl.len()) + 10**9)
    frame.write_parquet(tmp_path / "raw" / "a.parquet")
    args = (
        "-m",
        "launch.filter",
        "--raw_dir=raw",
        "--out=parts",
        "--time_column=time",
        "--user_core=60",
        "--memory=1GB",
    )
    process = commands.start(*args, cwd=tmp_path, env=environment)
    end = time.monotonic() + 60
    while not (tmp_path / ".parts.partial").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    commands.finish(process)
    assert not (tmp_path / "parts").exists()
    result = commands.run(*args, cwd=tmp_path, env=environment)
    assert (result.status, result.err) == (0, "")
    counts = frame.group_by("user_id").len()
    wanted = frame.join(counts.filter(pl.col("len") >= 60), on="user_id", how="semi", maintain_order="left")
    assert f"users >= 60, items >= 5, once  {wanted['user_id'].n_unique():>5,}" in result.out
    assert result.out.endswith(
        "parts: written; next: python -m launch.prepare --dataset=<name> --importer=table --raw_dir=parts --core=none "
        "--exact_duplicates=keep --time_column=time --time_unit=us\n"
    )
    found = pl.read_parquet(tmp_path / "parts" / "part-00000.parquet")
    assert found["user_id"].to_list() == wanted["user_id"].cast(pl.String).to_list()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "raw"]
    again = commands.run(*args, cwd=tmp_path, env=environment)
    assert (again.status, again.err.count("\n")) == (2, 1) and "parts: already exists" in again.err

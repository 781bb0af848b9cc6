"""Checkpoints: what is saved comes back, what is damaged does not."""

import errno
import logging
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from launch import quiet
from llmesr_jax.core.errors import InputError
from llmesr_jax.training import storage
from llmesr_jax.training.checkpoint import Checkpoints, checksum, conform
from llmesr_jax.training.state import State

PARAMS = {"dense": {"kernel": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "bias": np.zeros((1, 3), np.float32)}}


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    """As in a command, until the process ends: pytest would make failures of what TensorStore's threads say."""
    quiet.hush()


def tree(value=0.0):
    params = {"dense": {name: x + np.float32(value) for name, x in PARAMS["dense"].items()}}
    state = State(params, optax.adam(1e-3).init(params), jnp.zeros(1, jnp.int32), jnp.zeros((1, 2), jnp.uint32))
    return {"state": state, "best": params, "sums": {"total": jnp.ones(1)}}


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 1, 2 and 3 were written; two are kept."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step), {"epoch": step})
    return tmp_path / "checkpoints"


def restore(folder, **options):
    with Checkpoints(folder, **options) as checkpoints:
        return checkpoints.restore(lambda progress: tree())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(checkpoint):
    """Changes a byte of the arrays."""
    path = max((p for p in (checkpoint / "tree").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def truncate(checkpoint):
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_progress(checkpoint):
    (checkpoint / "progress" / "metadata").unlink()


def lose_arrays(checkpoint):
    for path in (checkpoint / "tree" / "d").iterdir():
        path.unlink()


def lose_all_arrays(checkpoint):
    shutil.rmtree(checkpoint / "tree")


def lose_all_progress(checkpoint):
    shutil.rmtree(checkpoint / "progress")


def wrong_progress(checkpoint):
    (checkpoint / "progress" / "metadata").write_text("[]")


DAMAGES = [flip, truncate, lose_progress, lose_arrays, lose_all_arrays, lose_all_progress, wrong_progress]


def test_the_newest_comes_back_in_its_structure(folder):
    found, progress = restore(folder)
    assert progress == {"epoch": 3}
    assert isinstance(found["state"], State)
    assert checksum(found) == checksum(tree(3))
    assert names(folder) == ["2", "3"]


def test_nested_dicts_without_a_structure(folder):
    with Checkpoints(folder, read_only=True) as checkpoints:
        found, _ = checkpoints.restore()
    np.testing.assert_array_equal(found["best"]["dense"]["kernel"], PARAMS["dense"]["kernel"] + 3)
    assert checksum(found) == checksum(tree(3))


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "absent", read_only=True) is None
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_renamed_and_the_one_before_it_used(folder, capsys, damage):
    damage(folder / "3")
    before = list(contents(folder / "3").values())
    found, progress = restore(folder)
    assert progress == {"epoch": 2} and checksum(found) == checksum(tree(2))
    assert names(folder) == ["2", "damaged-3"]
    assert list(contents(folder / "damaged-3").values()) == before
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{folder}: the checkpoint of step 3 is damaged (")
    assert line.endswith("; it is renamed to damaged-3, and training continues from the checkpoint of step 2")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("cannot allocate 4 GiB"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        ValueError("DATA_LOSS: Error reading \"a/0\": Input/output error [os_error_code='5']"),
        ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 4294967296 bytes"),
        TypeError("restore() got an unexpected keyword argument"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_proves_no_damage_stops_and_changes_nothing(folder, monkeypatch, capsys, error):
    def fails(self, step, args):
        raise error

    before = contents(folder)
    monkeypatch.setattr(ocp.CheckpointManager, "restore", fails)
    with pytest.raises(InputError) as caught:
        restore(folder)
    assert str(caught.value).startswith(f"{folder / '3'}: this checkpoint cannot be read ({type(error).__name__}: ")
    assert "this does not show damage, so nothing was changed; " in str(caught.value) and "\n" not in str(caught.value)
    assert contents(folder) == before and capsys.readouterr().out == ""


def test_what_the_disk_refuses_is_no_damage(folder):
    """TensorStore hands on what the system says of a file, here that its links never end."""
    for path in list((folder / "3" / "tree").rglob("d/*")):  # one of them alone may hold nothing that is read
        path.unlink()
        path.symlink_to(path)
    with pytest.raises(InputError, match="3: this checkpoint cannot be read"):
        restore(folder)
    assert names(folder) == ["2", "3"]


def test_a_name_that_is_taken_is_not_overwritten(folder):
    flip(folder / "3")
    restore(folder)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(3, tree(3), {"epoch": 3})
    flip(folder / "3")
    restore(folder)
    assert names(folder) == ["2", "damaged-3", "damaged-3-2"]


def test_one_set_aside_is_not_deleted_by_later_saves(folder):
    flip(folder / "3")
    with Checkpoints(folder) as checkpoints:
        checkpoints.restore(lambda progress: tree())
        for step in (3, 4, 5):
            checkpoints.save(step, tree(step), {"epoch": step})
    assert names(folder) == ["4", "5", "damaged-3"]


@pytest.mark.parametrize("damage", [flip, truncate])
def test_nobody_else_s_hooks_and_filters_change(folder, damage):
    logger = logging.getLogger("asyncio")
    before = sys.unraisablehook, list(logger.filters), list(logging.getLogger("absl").filters)
    damage(folder / "3")
    with Checkpoints(folder) as checkpoints:
        checkpoints.restore(lambda progress: tree())
        checkpoints.save(4, tree(4), {"epoch": 4})
        during = sys.unraisablehook, list(logger.filters), list(logging.getLogger("absl").filters)
    assert during == before == (sys.unraisablehook, list(logger.filters), list(logging.getLogger("absl").filters))


def test_reading_only_warns_of_nothing_and_saves_nothing(folder, caplog):
    before = contents(folder)
    with Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.restore()[1] == {"epoch": 3}
        with pytest.raises(ValueError, match="opened read-only, so step 4 cannot be saved"):
            checkpoints.save(4, tree(4), {"epoch": 4})
    assert contents(folder) == before and not caplog.records


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_only_deletes_nothing(folder, damage):
    damage(folder / "3")
    before = contents(folder)
    assert restore(folder, read_only=True)[1] == {"epoch": 2}
    assert contents(folder) == before


def test_all_damaged_is_an_error_and_deletes_nothing(folder):
    for step in ("2", "3"):
        flip(folder / step)
    before = contents(folder)
    wanted = r"all checkpoints are damaged \(step 3: .*; step 2: .*\); delete the run's folder to train again from the start$"
    with pytest.raises(InputError, match=wanted):
        restore(folder)
    assert contents(folder) == before


def test_the_damaged_step_can_be_saved_again(folder):
    flip(folder / "3")
    with Checkpoints(folder) as checkpoints:
        checkpoints.restore(lambda progress: tree())
        checkpoints.save(3, tree(5), {"epoch": 3})
    assert checksum(restore(folder)[0]) == checksum(tree(5))


def test_arrays_of_another_model_are_no_damage(folder):
    before = contents(folder)
    other = tree()
    other["best"]["dense"]["kernel"] = np.zeros((1, 2, 4), np.float32)
    with Checkpoints(folder) as checkpoints, pytest.raises(InputError) as error:
        checkpoints.restore(lambda progress: other)
    assert "3: best/dense/kernel is float32 of shape (1, 2, 3), expected float32 of shape (1, 2, 4)" in str(error.value)
    assert contents(folder) == before


def test_conform_names_what_is_absent_or_too_much():
    with pytest.raises(InputError, match="here: b is absent, expected float64 of shape"):
        conform({"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)}, "here")
    with pytest.raises(InputError, match=r"here: b is float64 of shape \(2,\), expected absent"):
        conform({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2)}, "here")


def test_the_state_of_no_seed_comes_back(tmp_path):
    """All seeds have stopped: their states are empty, the best parameters are not."""
    nobody = {"state": {"params": np.zeros((0, 3), np.float32)}, "best": np.ones((2, 3), np.float32)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, nobody, {"active": []})
        found, _ = checkpoints.restore(lambda progress: nobody)
    assert found["state"]["params"].shape == (0, 3)
    np.testing.assert_array_equal(found["best"], nobody["best"])


def test_a_save_keeps_what_was_given(tmp_path):
    """The tree is copied before `save` returns: the next step overwrites its buffers."""
    array = np.ones((1000, 100), np.float32)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.asarray(array)}, {})
        found, _ = checkpoints.restore()
    np.testing.assert_array_equal(found["a"], array)


def test_checksum_depends_on_names_types_shapes_and_bytes_only():
    one = {"a": np.arange(4, dtype=np.int32), "b": np.zeros(2)}
    assert checksum(one) == checksum({"b": np.zeros(2), "a": jnp.arange(4, dtype=jnp.int32)})
    for other in (
        {"c": one["a"], "b": one["b"]},
        {"a": one["a"].astype(np.uint32), "b": one["b"]},
        {"a": one["a"].reshape(2, 2), "b": one["b"]},
        {"a": one["a"][::-1], "b": one["b"]},
    ):
        assert checksum(other) != checksum(one)


@pytest.mark.parametrize("rows, stored", [(11, 12), (12, 12), (14, 14)])
def test_large_tables_are_stored_in_parts_of_many_rows(tmp_path, monkeypatch, rows, stored):
    """Here two rows in two lanes; 11 has no such divisor, so it is stored with a row more, which nobody sees."""
    for name, value in (("ROWS", 4), ("LARGE", 8), ("_PART", 48), ("_FEW", 1)):
        monkeypatch.setattr(storage, name, value)
    large = {
        "table": np.arange(2 * rows * 3, dtype=np.float32).reshape(2, rows, 3),
        "small": np.ones((2, 7), np.float32),
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, large, {"epoch": 1})
        found, progress = checkpoints.restore()
        plain, _ = checkpoints.restore(lambda progress: large)
        table = checkpoints._reader.item_metadata(1)["tree"].tree["table"]
    assert progress == {"epoch": 1} and checksum(found) == checksum(plain) == checksum(large)
    assert table.shape == (2, stored, 3) and table.storage.chunk_shape == (2, 2, 3)

"""What a run takes from another that it starts from, and what is refused."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import stages
from llmesr_jax.training import start as start_lib
from llmesr_jax.training.start import Start

AXES = {"table/items": "item", "users": "user"}


def source(params, rows=None):
    stacked = {path: np.stack([value, value + 100]) for path, value in params.items()}
    return Start(Path("old"), (7, 9), (3, 5), stacked, rows)


def drawn(seeds=1, **params):
    """Parameters of -1 in the shapes given, stacked over seeds."""
    tree: dict = {}
    for path, shape in params.items():
        *above, name = path.split("__")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[name] = jnp.full((seeds, *shape), -1.0)
    return tree


def test_what_has_the_same_path_and_shape_is_taken():
    start = source({"table/items": np.arange(10.0).reshape(5, 2), "backbone/w": np.arange(3.0), "other": np.zeros(1)})
    params = drawn(2, table__items=(5, 2), backbone__w=(3,), adapter__kernel=(2,))
    taken = start.into(params, (9, 7), AXES)
    np.testing.assert_array_equal(taken["table"]["items"][1], np.arange(10.0).reshape(5, 2))
    np.testing.assert_array_equal(taken["backbone"]["w"], [[100, 101, 102], [0, 1, 2]])  # seed 9 stands first
    np.testing.assert_array_equal(taken["adapter"]["kernel"], -np.ones((2, 2)))
    assert start.describe(params, AXES) == "  takes backbone, table\n  freshly drawn: adapter"


def test_rows_of_a_grown_catalogue_go_to_their_items():
    """Rows: padding, three items, mask token; in the new catalogue item 1 is the old 2, items 2 and 4 are new."""
    table = np.arange(5.0)[:, None]
    rows = {"item": np.array([1, -1, 2, -1]), "user": np.array([-1, 0])}
    start = source({"table/items": table, "users": np.array([[5.0], [6.0]]), "backbone/w": np.zeros(2)}, rows)
    params = drawn(table__items=(6, 1), users=(2, 1), backbone__w=(2,))
    taken = start.into(params, (7,), AXES)
    np.testing.assert_array_equal(taken["table"]["items"][0, :, 0], [0, 2, -1, 3, -1, 4])
    np.testing.assert_array_equal(taken["users"][0, :, 0], [-1, 5])
    told = start.describe(params, AXES)
    assert told == "  takes backbone, table, users\n  rows by raw id: 2 of 4 items, 1 of 2 users"


def test_a_part_of_which_some_fits_is_told_array_by_array():
    start = source({"table/items": np.zeros((5, 2)), "backbone/positions": np.zeros((9, 2)), "backbone/w": np.zeros(3)})
    params = drawn(table__items=(5, 2), backbone__positions=(4, 2), backbone__w=(3,))
    assert start.describe(params, AXES) == "  takes backbone/w, table\n  freshly drawn: backbone/positions"


def test_a_start_of_which_nothing_fits_is_refused():
    start = source({"table/items": np.zeros((5, 2)), "adapter/w": np.zeros(3)})
    params = drawn(table__items=(5, 4), backbone__w=(3,), adapter__w=(3,))
    with pytest.raises(
        InputError, match=r"--start=old: neither .* \(table/items is \(5, 2\) there and \(5, 4\) here\)"
    ):
        start.describe(params, AXES)


def test_a_part_of_an_encoder_alone_is_no_start():
    start = source({"table/items": np.zeros((5, 2)), "backbone/scale": np.zeros(()), "backbone/w": np.zeros(3)})
    params = drawn(table__items=(5, 4), backbone__scale=(), backbone__w=(6,))
    with pytest.raises(InputError, match="neither its item table nor its encoder fits"):
        start.describe(params, AXES)


def test_a_method_that_trains_on_wants_both():
    start = source({"table/items": np.zeros((5, 2)), "backbone/w": np.zeros(3)})
    params = drawn(table__items=(5, 2), backbone__w=(6,))
    assert "freshly drawn: backbone" in start.describe(params, AXES)
    with pytest.raises(InputError, match="its encoder does not fit this model"):
        start.describe(params, AXES, both=True)


def configs(*methods, start="@none"):
    found = [config_lib.build({}, {"method": method, "start": start}) for method in methods]
    for config in found:
        config.workdir = f"w/{config.method}"
    return found


def test_a_method_of_the_same_command_comes_first():
    found = stages.among(configs("llmesr", "none"))
    assert [(config.method, config.start) for config in found] == [("none", ""), ("llmesr", "w/none")]


def test_a_method_that_is_not_in_the_command_is_refused():
    with pytest.raises(InputError, match="no run of method none;.*--method=none,llmesr"):
        stages.among(configs("llmesr", "faerec"))


def test_no_such_run(tmp_path):
    with pytest.raises(InputError, match="config.json: cannot be read.*expected the folder of a run"):
        start_lib.check(tmp_path / "none", (42,))
    with pytest.raises(
        InputError, match="--start=@none: is not a run; expected a run of that method in the same command"
    ):
        start_lib.check("@none", (42,))

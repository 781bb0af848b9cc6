"""Tables that a method makes: kept, made again when what they depend on changes, refused when they are not as named."""

import numpy as np
import pytest
import tiny

from llmesr_jax.core.axes import ITEM, Table
from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import own_tables
from llmesr_jax.semantic.sources import SemanticConfig

KINDS = {"mood": Table(ITEM), "graph": Table(ITEM, holds_ids=True)}


class Maker:
    """`tables` of a method, which counts its calls."""

    def __init__(self, **tables):
        self.tables, self.calls = tables, 0

    def __call__(self):
        self.calls += 1
        return self.tables


def made(scale=1.0):
    rows = tiny.ragged(3).num_items + 2
    return Maker(mood=np.full((rows, 2), scale), graph=np.arange(rows))


def prepare(tmp_path, make, corpus=None, **changes):
    own = own_tables.Own("mine", KINDS, make, {"width": 4}, 1, "code")._replace(**changes)
    config = SemanticConfig(cache_dir=str(tmp_path / "cache"))
    return own_tables.prepare(corpus or tiny.ragged(3), config, own)


def test_they_are_made_once_as_the_device_takes_them(tmp_path):
    make = made()
    first, second = (prepare(tmp_path, make) for _ in range(2))
    assert make.calls == 1 and first.recipe == second.recipe
    for tables in (first, second):
        assert {name: str(table.dtype) for name, table in tables.arrays.items()} == {
            "graph": "int32", "mood": "float32"
        }  # fmt: skip
        assert not any(table.flags.writeable for table in tables.arrays.values())
        np.testing.assert_array_equal(tables.arrays["graph"], make.tables["graph"])


@pytest.mark.parametrize(
    "changes", [{"settings": {"width": 5}}, {"version": 2}, {"source": "new code"}, {"corpus": tiny.ragged(4)}], ids=str
)
def test_other_settings_code_or_interactions_make_them_again(tmp_path, changes):
    rows = changes.get("corpus", tiny.ragged(3)).num_items + 2
    make = Maker(mood=np.ones((rows, 2)), graph=np.arange(rows))
    before = prepare(tmp_path, made())
    after = prepare(tmp_path, make, **changes)
    assert make.calls == 1
    assert before.recipe != after.recipe


def test_a_recipe_knows_the_content_of_whole_numbers(tmp_path):
    other = made()
    other.tables["graph"] = other.tables["graph"][::-1]
    assert prepare(tmp_path, made()).recipe != prepare(tmp_path, other, source="new code").recipe


@pytest.mark.parametrize(
    "tables, message",
    [
        ({"mood": np.ones(3)}, r"method 'mine': `tables` made \['mood'\]; expected .*: \['graph', 'mood'\]"),
        ({"mood": np.array([1.0, np.nan]), "graph": np.ones(2)}, "its table mood holds numbers that are not finite"),
        ({"mood": np.array(["a"]), "graph": np.ones(2)}, "its table mood holds <U1; expected numbers or flags"),
        (
            {"mood": np.ones(2), "graph": np.array([2**31])},
            "table graph holds 2147483648 to 2147483648; expected 32-bit",
        ),
    ],
    ids=["names", "nan", "texts", "64 bit"],
)
def test_what_is_not_as_named_is_refused_and_not_kept(tmp_path, tables, message):
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, Maker(**tables))
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_nothing_is_asked_of_a_method_without_any():
    own = own_tables.Own("mine", {}, None, {}, 1, "")
    assert own_tables.prepare(tiny.ragged(3), SemanticConfig(), own) == own_tables.Tables({}, "")

"""Tables that are mapped: each process reads the rows of its devices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tables import assert_same, prepared, save

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import tables
from llmesr_jax.semantic.mapped import Access, MappedTable
from llmesr_jax.semantic.tables import digest


@pytest.mark.parametrize("source", ["files", "half", "items", "texts", "random"])
def test_mapped_tables_have_the_same_rows_and_digest(corpus, source):
    if source in ("files", "half", "items"):
        item_llm, user_llm = save(corpus)
        if source == "half":  # is float32 where it is read
            save(corpus, item_llm.astype(np.float16), user_llm.astype(np.float16))
        if source == "items":  # a user is the mean of the user's items
            (corpus.folder / "user_emb.npy").unlink()
    changes = {"encoder": "random", "random_width": 5} if source == "random" else {"tfidf_width": 8}
    wanted = prepared(corpus, **changes)
    for access in (Access(mapped=True), Access(mapped=True, verified=True)):
        got = prepared(corpus, access=access, **changes)
        mapped = {name for name, table in got.items() if isinstance(table, MappedTable)}
        assert mapped == {"item_llm", "item_pca", "user_llm"}
        assert all(isinstance(got[name]._rows, np.memmap) for name in mapped)
        assert_same({name: np.asarray(table) for name, table in got.items()}, wanted)
        assert digest(got) == digest(wanted) and tables.sampled(got) != tables.sampled(
            wanted | {"item_llm": 0 * wanted["item_llm"]}
        )
        assert_same({n: np.asarray(x) for n, x in tables.on_device(got).items()}, wanted)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_rows_of_a_mapped_table_are_those_of_the_array(data):
    rows, more = data.draw(st.integers(0, 6), "rows"), data.draw(st.integers(0, 2), "more")
    inner = np.arange(rows * 3, dtype=np.int32).reshape(rows, 3)
    whole, table = np.pad(inner, ((more, more), (0, 0))), MappedTable(inner, more)
    edge = st.none() | st.integers(-9, 9)
    at = slice(data.draw(edge, "start"), data.draw(edge, "stop"))
    np.testing.assert_array_equal(table[at], whole[at], strict=True)
    np.testing.assert_array_equal(table[at, 1:], whole[at, 1:], strict=True)
    assert table.shape == whole.shape and table.dtype == whole.dtype


def test_a_file_that_changes_while_it_is_read_is_an_error(corpus):
    save(corpus)
    got = prepared(corpus, needs=frozenset({"item_llm"}), access=Access(mapped=True))
    tables.brought(got, None)
    save(corpus, items=np.zeros((corpus.num_items, 13), np.float32))
    with pytest.raises(InputError, match="item_emb.npy: was changed while it was read; run the same command again"):
        tables.brought(got, None)


def test_a_cached_table_that_was_changed_is_not_mapped(corpus):
    wanted = prepared(corpus, tfidf_width=8)["item_llm"]
    path = corpus.folder / "cache" / "tfidf_item_8.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    got = prepared(corpus, tfidf_width=8, access=Access(mapped=True))["item_llm"]
    np.testing.assert_array_equal(np.asarray(got), wanted)

"""Records of items that stay on disk until they are looked at."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import records

FIELDS = st.dictionaries(st.text(max_size=4), st.none() | st.integers() | st.text() | st.lists(st.text()), max_size=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "items.jsonl"


@given(
    st.lists(FIELDS, min_size=1, max_size=6),
    st.randoms(),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]),
    st.data(),
)
def test_they_are_those_of_the_file_in_order_of_id(path, fields, random, end, data):
    wanted = [{**more, "item_id": item, "title": f"t{item}"} for item, more in enumerate(fields, 1)]
    lines = [json.dumps(record, ensure_ascii=data.draw(st.booleans())) for record in wanted]
    random.shuffle(lines)
    bom = data.draw(st.sampled_from(["", "\ufeff"]))
    path.write_bytes((bom + end.join(lines)).encode("utf-8", "surrogatepass"))
    found = records.read(path, len(wanted))
    assert list(found) == wanted and len(found) == len(wanted)
    index = data.draw(st.integers(-len(wanted), len(wanted) - 1))
    assert found[index] == wanted[index]
    cut = data.draw(st.slices(len(wanted)))
    assert list(found[cut]) == wanted[cut]
    with pytest.raises(IndexError):
        found[len(wanted)]


def test_a_file_that_was_replaced_meanwhile_is_not_read_at_the_old_places(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": 1, "title": "one"}\n{"item_id": 2, "title": "two"}\n')
    found = records.read(path, 2)
    os.utime(path, ns=(0, 0))
    with pytest.raises(InputError, match="items.jsonl: was changed while it was in use; run the same command again"):
        found[1]


def test_few_bytes_an_item_are_held(path):
    path.write_text("".join(json.dumps({"item_id": n, "title": "x" * 1000}) + "\n" for n in range(1, 2001)))
    found = records.read(path, 2000)
    held = [value for value in vars(found).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in held) == 8 * 2000 and found[1999]["title"] == "x" * 1000

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.semantic.openai_api.responses import Refused, parse


def _answer(*vectors, index=None):
    index = range(len(vectors)) if index is None else index
    return {"data": [{"index": i, "embedding": vector} for i, vector in zip(index, vectors)]}


def _base64(*numbers):
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


def test_numbers_and_base64_are_the_same():
    for vectors in (([0.5, -2], [3, 0]), (_base64(0.5, -2), _base64(3, 0))):
        got = parse(json.dumps(_answer(*vectors)), 2, 2)
        np.testing.assert_array_equal(got, np.array([[0.5, -2], [3, 0]], np.float32), strict=True)


@given(st.permutations(range(6)))
def test_the_index_decides_about_the_order(order):
    got = parse(json.dumps(_answer(*([i, 1] for i in order), index=order)), 6, None)
    np.testing.assert_array_equal(got[:, 0], np.arange(6, dtype=np.float32))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "not JSON"),
        ('{"data": [', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no list of embeddings"),
        ('{"data": {}}', "no list of embeddings"),
        ('{"data": [1, 2]}', "no list of embeddings"),
        ({"error": {"message": "busy"}}, "no list of embeddings"),
        (_answer([1, 2]), "1 embeddings for 2 texts"),
        (_answer([1, 2], [1, 2], [1, 2]), "3 embeddings for 2 texts"),
        (_answer([1, 2], [1, 2], index=[0, 0]), "not numbered"),
        (_answer([1, 2], [1, 2], index=[1, 2]), "not numbered"),
        (_answer([1, 2], [1, 2], index=[0, True]), "not numbered"),
        (_answer([1, 2], [1, 2], index=[0, None]), "not numbered"),
        (_answer([1, 2], [1, 2, 3]), "widths"),
        (_answer([], []), "widths"),
        (_answer([1], [1]), "width 1, not 2"),
        (_answer([1, 2], [1, float("nan")]), "NaN or infinity"),
        (_answer([1, 2], [1, float("inf")]), "NaN or infinity"),
        (_answer([1, 2], [1, 1e39]), "NaN or infinity"),
        (_answer([1, 2], [1, None]), "not a list of numbers"),
        (_answer([1, 2], [1, "2"]), "not a list of numbers"),
        (_answer([1, 2], [True, False]), "not a list of numbers"),
        (_answer([1, 2], [[1], [2]]), "not a list of numbers"),
        (_answer([1, 2], [[1], 2]), "not a list of numbers"),
        (_answer([1, 2], None), "not a list of numbers"),
        (_answer(_base64(1, 2), "*"), "not base64"),
        (_answer(_base64(1, 2), _base64(1, 2)[:4]), "not base64"),
        (_answer(_base64(1, 2), _base64(1, np.nan)), "NaN or infinity"),
    ],
)
def test_everything_else_is_refused(answer, reason):
    with pytest.raises(Refused, match=reason):
        parse(answer if isinstance(answer, str) else json.dumps(answer), 2, 2)


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["data", "index", "embedding"]), x), max_leaves=12)  # noqa: E501  # fmt: skip


@given(_JSON)
def test_any_json_is_an_answer_or_refused(value):
    try:
        assert np.isfinite(parse(json.dumps(value), 1, None)).all()
    except Refused:
        pass

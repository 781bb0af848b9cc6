import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.semantic.openai_api.responses import (
    Refused,
    parse,
    sentence,
    unusable_rows,
)


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
        ({"error": {"message": "busy"}}, r"the answer is an error \(busy\)"),
        ({"error": "busy"}, r"the answer is an error \(busy\)"),
        ({"object": "list"}, "no list of embeddings"),
        ("<html><body>Welcome to <b>it</b></body></html>", r"a web page, not JSON \(Welcome to it\)"),
        (_answer([1, 2]), "1 embeddings for 2 texts"),
        (_answer([1, 2], [1, 2], [1, 2]), "3 embeddings for 2 texts"),
        (_answer([1, 2], [1, 2], index=[1, 2]), "not numbered"),
        (_answer([1, 2], [1, 2], index=[0, True]), "not numbered"),
        (_answer([1, 2], [1, 2], [1, 2], index=[2, None, None]), "not numbered"),
        (_answer([1, 2], [1, 2], index=["0", "1"]), "not numbered"),
        (_answer([1, 2], [1, 2, 3]), "widths"),
        (_answer([], []), "widths"),
        (_answer([1], [1]), "width 1, not 2"),
        (_answer([1, 2], [1, None]), "not a list of numbers"),
        (_answer([1, 2], [1, "2"]), "not a list of numbers"),
        (_answer([1, 2], [True, False]), "not a list of numbers"),
        (_answer([1, 2], [[1], [2]]), "not a list of numbers"),
        (_answer([1, 2], [[1], 2]), "not a list of numbers"),
        (_answer([1, 2], None), "not a list of numbers"),
        (_answer(_base64(1, 2), "*"), "not base64"),
        (_answer(_base64(1, 2), _base64(1, 2)[:4]), "not base64"),
    ],
)
def test_everything_else_is_refused(answer, reason):
    with pytest.raises(Refused, match=reason):
        count = max(2, len(answer.get("data", [])) if isinstance(answer, dict) and "not numbered" in reason else 2)
        parse(answer if isinstance(answer, str) else json.dumps(answer), count, 2)


@pytest.mark.parametrize(
    ("index", "order"),
    [
        ([None, None, None], [0, 1, 2]),
        ([None, 1, 2], [0, 1, 2]),  # 0 is left out, as Protocol Buffers do
        ([2, None, 1], [2, 0, 1]),
        ([0, 0, 0], [0, 1, 2]),
        ([0, 1, 0], [0, 1, 2]),  # numbered anew in each part of a request
        ([None, 1, None], [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("left_out", [True, False])
def test_what_is_not_numbered_is_read_by_position(index, order, left_out):
    data = [{"index": i, "embedding": [place, 1]} for place, i in enumerate(index)]
    if left_out:
        data = [{k: v for k, v in entry.items() if v is not None} for entry in data]
    got = parse(json.dumps({"data": data}), 3, None)
    np.testing.assert_array_equal(got[order, 0], [0, 1, 2])


def test_rows_that_say_nothing():
    got = parse(json.dumps(_answer([1, 2], [0, 0], [1, float("nan")], [1e39, 2], [-0.0, 0])), 5, 2)
    nan, zero = "a vector with NaN or infinity", "a vector of zeros"
    assert unusable_rows(got) == {1: zero, 2: nan, 3: nan, 4: zero}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "no\nsuch model", "code": 404}}, "no such model"),
        ({"error": "no such model"}, "no such model"),
        ({"object": "error", "message": "no such model"}, "no such model"),
        ({"detail": [{"loc": ["body", "input"], "msg": "too short"}]}, "too short"),
        ([{"error": {"message": "of a list"}}], "of a list"),
        ({"error": {"message": "", "detail": "below"}}, "below"),
        ("<html><h1>413</h1> Too Large</html>", "413 Too Large"),
        ({"object": "list"}, ""),
        (None, ""),
    ],
)
def test_the_sentence_of_a_server(body, said):
    assert sentence(body) == said


@pytest.mark.parametrize(("code", "kept"), [(429, 429), ("503", 503), (1, None), ("rate_limit", None), (None, None)])
def test_the_status_in_an_error_body(code, kept):
    with pytest.raises(Refused) as error:
        parse(json.dumps({"error": {"message": "m", "code": code}}), 1, None)
    assert error.value.code == kept


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["data", "index", "embedding"]), x), max_leaves=12)  # noqa: E501  # fmt: skip


@given(_JSON)
def test_any_json_is_an_answer_or_refused(value):
    try:
        assert parse(json.dumps(value), 1, None).shape[0] == 1
    except Refused:
        pass

"""What the service refuses, and how; and that it never fails, whatever is sent."""

import json

import http_service
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

http_service.required()

from llmesr_jax.serving.http import schema

JSON = {"content-type": "application/json"}
BAD = [
    (b"", "Input data was truncated"),
    (b"{", "Input data was truncated"),
    (b"[]", "Expected `object`, got `array`"),
    (b"\xff", "malformed"),
    (b'{"history": ["\\ud800"]}', "truncated"),
    (b'{"history": ["\\ud800\\u0041 "]}', "surrogate"),
    (b'{"history": ["sku-1"], "k": 0}', "Expected `int` >= 1 - at `$.k`"),
    (b'{"history": ["sku-1"], "k": 101}', "Expected `int` <= 100 - at `$.k`"),
    (b'{"history": ["sku-1"], "k": 1e400}', "out of range"),
    (b'{"history": ["sku-1"], "k": true}', "Expected `int`, got `bool`"),
    (b'{"history": "sku-1"}', "Expected `array`, got `str` - at `$.history`"),
    (b'{"history": [["sku-1"]]}', "got `array` - at `$.history[0]`"),
    (b'{"history": [], "size": 3}', "Object contains unknown field `size`"),
    (b'{"k": 3}', "Object missing required field `history`"),
    (b'{"history": [' + b'"a",' * 1000 + b'"a"]}', "Expected `array` of length <= 1000"),
    (b'{"history": ["' + b"a" * 257 + b'"]}', "Expected `str` of length <= 256"),
    (b'{"history": [], "diversity": 1.1}', "Expected `float` <= 1.0"),
    (b'{"history": [], "where": ["price"]}', "condition 'price' is not understood"),
    (b'{"history": [], "where": ["colour=red"]}', "the items have no such column"),
    (b'{"history": [], "allow": ["nope"]}', "allow: 1 id found, but none is in the catalogue"),
    (b"[" * 100_000, "Expected `object`"),
    (b'{"history": ' + b"[" * 100_000, "Expected"),
]


@pytest.mark.parametrize(("body", "said"), BAD, ids=range(len(BAD)))
def test_bodies_that_make_no_sense(ask, body, said):
    (answer,) = ask(("POST", "/recommend", {"content": body, "headers": JSON}))
    assert answer.status_code == 400 and said in answer.json()["error"], answer.text
    assert "\n" not in answer.json()["error"] and len(answer.json()["error"]) < 500


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (("GET", "/nothing", {}), 404, "/docs lists the endpoints"),
        (("GET", "/items/", {}), 404, "/docs lists the endpoints"),
        (("GET", "/recommend", {}), 405, "method is not allowed"),
        (("POST", "/recommend", {"content": b"{}"}), 415, "Content-Type: application/json"),
        (("POST", "/recommend", {"json": {"history": [], "bundle": "x"}}), 404, "expected one of: one, two"),
        (("POST", "/recommend", {"json": {"history": [], "bundle": "../one"}}), 404, "is not served"),
        (("POST", "/explain", {"json": {"history": ["sku-1"], "item": "nope"}}), 400, "is not in the catalogue"),
        (("POST", "/explain", {"json": {"history": [], "item": "sku-1"}}), 400, "no score to explain"),
        (("GET", "/similar", {}), 400, "missing required field `item`"),
        (("GET", "/similar?item=sku-1&view=x", {}), 400, "no such view; expected one of: id, semantic, both"),
        (("GET", "/similar?item=sku-1&k=x", {}), 400, "Expected `int`, got `str`"),
        (("GET", "/items?k=1&k=2", {}), 400, "appears twice"),
        (("GET", "/items?" + "&".join(f"a{n}" for n in range(99)), {}), 400, "not understood"),
        (("GET", "/static/..%2f..%2fapp.py", {}), 404, "no such page"),
        (("GET", "/static/__init__.py", {}), 404, "no such page"),
        (("GET", "/static/nothing.js", {}), 404, "no such page"),
    ],
    ids=str,
)
def test_requests_that_cannot_be_answered(ask, request_, status, said):
    (answer,) = ask(request_)
    assert answer.status_code == status and said in answer.json()["error"], answer.text


def test_bodies_that_are_too_long(ask):
    async def pieces(count=40):
        for _ in range(count):
            yield b" " * 40_000

    # With a length that is known before and without, and so long that nobody reads it to its end.
    for content in (b" " * (schema.MOST_BYTES + 1), pieces(), b" " * (16 * schema.MOST_BYTES + 1), pieces(600)):
        (answer,) = ask(("POST", "/recommend", {"content": content, "headers": JSON}))
        assert answer.status_code == 413 and "at most 1,048,576 bytes" in answer.json()["error"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["sku-1", "sku-2", "one"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
bodies = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(["history", "k", "item", "where", "deny", "allow", "bundle", "diversity", "extra"], values),
)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    st.sampled_from(["/recommend", "/explain"]),
    bodies | values,
    st.text(max_size=20),
    st.sampled_from(["/items", "/similar"]),
)
def test_it_never_fails(ask, path, body, text, got):
    content = json.dumps(body).encode()
    parameters = {"query" if got == "/items" else "item": text}
    for answer in ask(("POST", path, {"content": content, "headers": JSON}), ("GET", got, {"params": parameters})):
        assert answer.status_code in (200, 400, 404), (body, answer.text)
        assert answer.headers["content-type"] == "application/json" and answer.json()


def test_a_failure_is_one_line_and_no_answer(ask, service, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service.bundles.get("one")[1].titles.__class__, "find", broken)
    (answer,) = ask(("GET", "/items", {}))
    assert (answer.status_code, answer.json()) == (500, {"error": "the service failed; see its log for the reason"})


def test_the_token(ask, guarded):
    app = guarded(token="s3cret-ü")
    headers = lambda text: {"headers": {"authorization": text}}  # noqa: E731
    for wrong in ("", "Bearer", "Bearer s3cret", "s3cret-ü", "bearer s3cret-ü"):
        for path in ("/items", "/metrics", "/bundles"):
            (answer,) = ask(("GET", path, headers(wrong.encode())), to=app)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", (path, wrong)
    assert ask(("GET", "/items", headers("Bearer s3cret-ü".encode())), to=app)[0].status_code == 200
    open_ = ask(*(("GET", path, {}) for path in ("/", "/docs", "/health", "/openapi.json", "/static/page.js")), to=app)
    assert {answer.status_code for answer in open_} == {200}


def test_names_of_the_host(ask, guarded):
    app = guarded(hosts=frozenset({"localhost", "::1"}))
    for host, status in (("localhost", 200), ("LOCALHOST:99", 200), ("[::1]:80", 200), ("evil.test", 421), ("", 421)):
        (answer,) = ask(("GET", "/health", {"headers": {"host": host}}), to=app)
        assert answer.status_code == status, host


def test_the_rate_of_a_client(ask, guarded, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("llmesr_jax.serving.http.guard.time.monotonic", lambda: now[0])
    app = guarded(rate=2.0)
    answers = ask(*[("GET", "/items", {})] * 13, to=app)
    assert [answer.status_code for answer in answers].count(200) == 10  # what 5 seconds allow
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 429} == {"1"}
    assert ask(("GET", "/health", {}), to=app)[0].status_code == 200
    now[0] += 1.0
    assert [answer.status_code for answer in ask(*[("GET", "/items", {})] * 3, to=app)] == [200, 200, 429]


@pytest.mark.parametrize("log", ["errors", "requests", "histories"])
def test_what_is_logged(ask, guarded, capsys, log):
    (answer,) = ask(("POST", "/recommend?x=sku-9", {"json": {"history": ["sku-8"]}}), to=guarded(log=log))
    assert answer.status_code == 200
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == (log != "errors")
    for line in lines:
        assert (line["method"], line["path"], line["status"]) == ("POST", "/recommend", 200) and line["ms"] > 0
        assert ("sku-8" in str(line)) == ("sku-9" in str(line)) == (log == "histories")


def test_headers_of_every_answer(ask):
    for answer in ask(("GET", "/", {}), ("GET", "/items", {}), ("GET", "/nothing", {})):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ") and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert np.all([ask(("GET", "/items", {}))[0].headers["cache-control"] == "no-store"])

"""What a failure of a request means for the next one."""

import httpx
import openai
import pytest

from llmesr_jax.semantic.openai_api import failures
from llmesr_jax.semantic.openai_api.failures import Kind
from llmesr_jax.semantic.openai_api.responses import Refused

REQUEST = httpx.Request("POST", "http://server/v1/embeddings")


def of_status(status, body, headers=None):
    response = httpx.Response(status, request=REQUEST, headers=headers, json=body)
    inner = body.get("error", body) if isinstance(body, dict) else body
    return failures.of(openai.APIStatusError("m", response=response, body=inner), ("s3cret",))


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (400, "no such field", Kind.REFUSED),
        (401, "who are you", Kind.STOP),
        (402, "pay first", Kind.STOP),
        (403, "not for you", Kind.REFUSED),
        (404, "no such model", Kind.REFUSED),
        (408, "too slow", Kind.WAIT),
        (413, "too large", Kind.SIZE),
        (400, "batch size 40 > maximum allowed batch size 32", Kind.SIZE),
        (422, "`inputs` must have less than 512 tokens. Given: 1630", Kind.SIZE),
        (424, "the backend failed", Kind.BROKEN),
        (429, "slow down", Kind.WAIT),
        (500, "NaN", Kind.BROKEN),
        (501, "no embeddings here", Kind.REFUSED),
        (502, "bad gateway", Kind.BROKEN),
        (503, "loading the model", Kind.WAIT),
    ],
)
def test_statuses(status, said, kind):
    for body in ({"error": {"message": said}}, {"error": said}, {"message": said}, {"detail": said}):
        failure = of_status(status, body)
        assert failure.kind is kind and failure.said == said
        assert kind is Kind.STOP or failure.reason == f"status {status} ({said})"


def test_the_wait_that_a_server_asks_for_and_a_secret():
    failure = of_status(429, {"error": "s3cret is\ntoo fast"}, {"retry-after": "7"})
    assert (failure.wait, failure.reason) == (7.0, "status 429 ([key] is too fast)")


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (openai.APITimeoutError(REQUEST), Kind.BROKEN, "no answer in time"),
        (Refused("the answer is not JSON"), Kind.UNUSABLE, "the answer is not JSON"),
        (Refused("the answer is an error (slow down)", 429), Kind.WAIT, "the answer is an error (slow down)"),
        (Refused("the answer is an error (gone)", 404), Kind.UNUSABLE, "the answer is an error (gone)"),
    ],
)
def test_errors_without_a_status(error, kind, reason):
    failure = failures.of(error)
    assert (failure.kind, failure.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("cause", "kind"), [(httpx.ConnectError("no"), Kind.WAIT), (httpx.ReadError("no"), Kind.BROKEN)]
)
def test_connections(cause, kind):
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = cause
    assert failures.of(error).kind is kind


def test_what_is_a_bug_is_no_failure():
    assert failures.of(ZeroDivisionError()) is None

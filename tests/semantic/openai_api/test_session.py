import asyncio
import datetime
import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.openai_api import session as session_lib
from llmesr_jax.semantic.openai_api.failures import Failure, Kind, _retry_after
from llmesr_jax.semantic.openai_api.responses import Refused
from llmesr_jax.semantic.openai_api.session import Patience, Session


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers, wanted):
    assert _retry_after(headers) == wanted


def test_a_date_to_come_is_the_seconds_until_then():
    date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    for text in (email.utils.format_datetime(date, usegmt=True), date.strftime("%a, %d %b %Y %H:%M:%S -0000")):
        assert 80 < _retry_after({"retry-after": text}) <= 90


@pytest.fixture
def waits(monkeypatch):
    """Seconds slept, in order; nobody sleeps."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(session_lib.asyncio, "sleep", sleep)
    return slept


def _ask(session, results):
    results = iter(results)

    async def call(client):
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    return asyncio.run(session.ask(call))


def _session(attempts=9):
    return Session(None, Patience(attempts, 1.0, 20.0), "http://server/v1")


def test_waits_double_up_to_the_longest_less_some_by_chance(waits):
    session = _session(attempts=8)
    assert _ask(session, [Refused("3 embeddings for 4 texts")] * 7 + ["done"]) == "done"
    for wait, full in zip(waits, (1, 2, 4, 8, 16, 20, 20), strict=True):
        assert full / 2 <= wait <= full
    assert len(set(waits)) > 1 and session.retries == {"3 embeddings for 4 texts": 7}


def test_as_often_as_allowed_and_no_more(waits):
    with pytest.raises(InputError, match="^http://server/v1: no usable answer in 4 attempts; the last: not JSON$"):
        _ask(_session(4), [Refused("not JSON")] * 4 + ["done"])
    assert len(waits) == 3


@given(st.floats(0, 1e9))
def test_the_server_may_ask_for_time_but_not_for_ever(seconds):
    session = _session()
    slept = []

    async def sleep(wait):
        slept.append(wait)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(session_lib.asyncio, "sleep", sleep)
        asyncio.run(session.wait(Failure(Kind.WAIT, "status 429", wait=seconds), 1))
    (wait,) = slept
    assert min(seconds, 20) <= wait <= min(seconds, 20) + 0.1
    assert session._not_before <= time.monotonic() + 20.1  # for all requests


def test_other_errors_are_not_hidden(waits):
    with pytest.raises(ZeroDivisionError):
        _ask(_session(), [ZeroDivisionError("a bug")])
    assert not waits

"""Why a request failed, and what to do next.

A failure is of one of these kinds:

    WAIT     the server is busy or cannot be reached (429, 503, no connection): retry later, as often as allowed
    BROKEN   the request failed (500, 502, a timeout): retry once; then its texts may be the reason
    UNUSABLE the answer has status 200 and cannot be used: retry once; then its texts may be the reason
    REFUSED  the same request will be refused again (400, 404, 422): its texts may be the reason
    SIZE     the request is too large: send less
    STOP     the key is not valid, or there is no credit: no other request will be answered either
"""

from __future__ import annotations

import datetime
import email.utils
import enum
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llmesr_jax.semantic.openai_api import limits
from llmesr_jax.semantic.openai_api.responses import Refused, sentence

_BUSY = frozenset({408, 409, 425, 429, 503, 529})
_FIELD_WANTED = re.compile(r"required|missing|must be (provided|specified|set)", re.IGNORECASE)
_MOST_SHOWN = 300  # characters of a server's sentence


class Kind(enum.Enum):
    """The kind of a failure; the module's docstring describes them."""

    WAIT = enum.auto()
    BROKEN = enum.auto()
    UNUSABLE = enum.auto()
    REFUSED = enum.auto()
    SIZE = enum.auto()
    STOP = enum.auto()


class Failure(Exception):
    """A request that failed.

    Attributes:
      kind: of the failure.
      reason: what happened, with the server's own sentence; equal reasons are the same failure.
      said: the server's sentence alone.
      advice: what the user may do; "" if unknown.
      wait: seconds to wait, if the server asks for that; else None.
      timed_out: whether no answer came in time.
      rows: {row of a text: what is wrong with its vector}, if the answer shows that.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        said: str = "",
        advice: str = "",
        wait: float | None = None,
        timed_out: bool = False,
        rows: Mapping[int, str] = MappingProxyType({}),
    ):
        super().__init__(reason)
        self.kind, self.reason, self.said, self.advice = kind, reason, said, advice
        self.wait, self.timed_out, self.rows = wait, timed_out, rows

    @property
    def full(self) -> str:
        """Reason and advice."""
        return f"{self.reason}; {self.advice}" if self.advice else self.reason


def of(error: Exception, secrets: tuple[str, ...] = ()) -> Failure | None:
    """The failure for an exception of the client, or of reading its answer; None for any other error.

    Args:
      error: the exception.
      secrets: texts that must not be shown, such as the key.
    """
    import openai

    def shown(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "[key]")
        return " ".join(text.split())[:_MOST_SHOWN]

    if isinstance(error, Refused):
        reason = shown(str(error))
        if error.code is not None:
            known = _of_status(error.code, reason, reason, wait=None)
            return (
                known if known.kind in (Kind.WAIT, Kind.SIZE) else Failure(Kind.UNUSABLE, reason, reason, known.advice)
            )
        return Failure(Kind.UNUSABLE, reason, advice=_of_answer(reason))
    if isinstance(error, openai.APITimeoutError):
        return Failure(Kind.BROKEN, "no answer in time", advice="raise --timeout or lower --batch_size", timed_out=True)
    if isinstance(error, openai.APIStatusError):
        said = shown(sentence(_body(error)))
        if error.status_code == 429 and "insufficient_quota" in (error.code, error.type):
            return Failure(Kind.STOP, "the account has no credit left (insufficient_quota)", said, "add some")
        reason = f"status {error.status_code}" + (f" ({said})" if said else "")
        return _of_status(error.status_code, reason, said, _retry_after(error.response.headers))
    if isinstance(error, openai.APIConnectionError):
        name = type(error.__cause__).__name__
        never = name in ("ConnectError", "ConnectTimeout")  # else it was closed during the request, maybe because of it
        return Failure(Kind.WAIT if never else Kind.BROKEN, f"no connection ({name})")
    if isinstance(error, openai.APIResponseValidationError):
        return Failure(Kind.UNUSABLE, "the answer is not JSON")
    return None


def _of_status(status: int, reason: str, said: str, wait: float | None) -> Failure:
    if limits.is_too_much(status, said):
        return Failure(Kind.SIZE, reason, said)
    if status in _BUSY:
        return Failure(Kind.WAIT, reason, said, wait=wait)
    if status in (401, 402):
        words = "the key is refused" if status == 401 else "the account has no credit left"
        advice = "set OPENAI_API_KEY to a valid key of this server" if status == 401 else "add some"
        return Failure(Kind.STOP, f"status {status}, {words}", said, advice)
    if status == 424 or status >= 500 and status not in (501, 505):
        return Failure(Kind.BROKEN, reason, said, wait=wait)
    return Failure(Kind.REFUSED, reason, said, _advice(status, said))


def _advice(status: int, said: str) -> str:
    if status == 404:
        return "check --model and --base_url (which ends in /v1 for most servers)"
    if _FIELD_WANTED.search(said):
        return """add the missing field with --extra_body, such as --extra_body='{"input_type": "passage"}'"""
    if status in (400, 413, 422):
        return (
            "check --model and --dimensions; --extra_body adds fields, or removes a field that is null; if a text or a "
            "request is too long, lower --max_tokens, --batch_size or --request_tokens"
        )
    return ""


def _of_answer(reason: str) -> str:
    """What to do about an unusable answer."""
    if "of width" in reason:
        return "the server ignores --dimensions; remove --dimensions, or set it to that width"
    if "web page" in reason or "not JSON" in reason:
        return "check --base_url (which ends in /v1 for most servers)"
    if "zeros" in reason or "same vector" in reason:
        return "check the server's log and its model"
    return "check --model and --base_url"


def _body(error: Any) -> Any:
    """The answer's body: parsed by the client, or as text."""
    if error.body:
        return error.body
    try:
        return error.response.text
    except Exception:  # not read, or of no encoding
        return ""


def _retry_after(headers: Any) -> float | None:
    """Seconds: of `retry-after-ms`, or of `retry-after`, which is seconds or a date; None if there is neither."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())

"""The address of the server, and what the user adds to each request: `--base_url` and `--extra_...`."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import urllib.parse
from typing import Any, NamedTuple

from llmesr_jax.core.errors import InputError

OPENAI = "https://api.openai.com/v1"
_OWN = {"input": "the texts", "model": "--model"}


class Address(NamedTuple):
    """The address of a server, with what is added to each request.

    Attributes:
      url: without a query string.
      host: of the server.
      query: {name: value} of the query string of each request.
      headers: {name: value} of each request, beside the client's own; values may be secrets.
    """

    url: str
    host: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def local(self) -> bool:
        """Whether the server is on this machine or in a private network."""
        try:
            return ipaddress.ip_address(self.host).is_private
        except ValueError:
            return (
                self.host == "localhost"
                or "." not in self.host
                or self.host.endswith((".local", ".localhost", ".internal"))
            )

    @property
    def openai(self) -> bool:
        """Whether the server is OpenAI's own."""
        return self.host.endswith(".openai.com")


def read(base_url: str, extra_query: str, extra_header: str) -> Address:
    """The server of `--base_url`, else of the environment variable OPENAI_BASE_URL, else OpenAI.

    Args:
      base_url, extra_query, extra_header: the values of the flags; "" if they are not set.

    Raises:
      InputError: it is not an address, or a flag cannot be read.
    """
    given = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    parts = urllib.parse.urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--base_url={given}: is not an address; expected one such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.fragment:
        raise InputError("--base_url: has a password or a '#'; put the key into OPENAI_API_KEY")
    query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)) | _query(extra_query)
    url = urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    return Address(url.removesuffix("/embeddings"), parts.hostname, query, _headers(extra_header))


def extra_body(given: str) -> dict[str, Any]:
    """The fields of `--extra_body`.

    Raises:
      InputError: it is not a JSON object, or it sets a field of another flag.
    """
    if not given:
        return {}
    fields = _json(given)
    if fields is None:
        raise InputError(
            f'--extra_body={given[:80]}: is not a JSON object; expected one such as \'{{"input_type": "passage"}}\''
        )
    if own := [name for name in _OWN if name in fields]:
        raise InputError(f"--extra_body: sets {own[0]!r}, which is {_OWN[own[0]]}; remove it")
    return fields


def _query(given: str) -> dict[str, str]:
    """The fields of "name=value&name=value"."""
    fields = urllib.parse.parse_qsl(given.lstrip("?"), keep_blank_values=True)
    if given and not (fields and all("=" in part for part in given.split("&"))):
        raise InputError(f"--extra_query={given[:80]}: is not a query; expected one such as api-version=2024-10-21")
    return dict(fields)


def _headers(given: str) -> dict[str, str]:
    """The headers of "Name: value", or of a JSON object of several; `$NAME` in a value is an environment variable."""
    if not given:
        return {}
    name, colon, value = given.partition(":")
    found = _json(given) or {name.strip(): value.strip()}
    for name, value in found.items():
        # A value is not shown: it may be a key.
        if not re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", name) or not isinstance(value, str) or not (colon and value):
            raise InputError(
                "--extra_header: is not a header; expected 'Name: value', such as 'api-key: $AZURE_OPENAI_API_KEY' "
                '(a variable of the environment), or a JSON object of several, \'{"Name": "value"}\''
            )
        if missing := [v for v in re.findall(r"\$(\w+)", value) if v not in os.environ]:
            raise InputError(f"--extra_header: {missing[0]} is not set in the environment; export it")
    found = {
        name: re.sub(r"\$(\w+)", lambda match: os.environ[match[1]], value).strip() for name, value in found.items()
    }
    if not all(value.isprintable() and value.isascii() for value in found.values()):
        raise InputError(
            "--extra_header: a value has a character that is not allowed in a header, such as a line break; remove it"
        )
    return found


def _json(given: str) -> dict[str, Any] | None:
    """The JSON object in a text; None if the text is not one."""
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

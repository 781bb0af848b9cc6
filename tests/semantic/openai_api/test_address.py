"""Where requests go, and what is sent beside OpenAI's fields."""

import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.openai_api import address


@pytest.mark.parametrize(
    ("base_url", "query", "url", "fields", "local"),
    [
        ("http://localhost:8000/v1", "", "http://localhost:8000/v1", {}, True),
        ("http://tei:80/v1/", "", "http://tei:80/v1", {}, True),
        ("http://10.0.0.7/v1/embeddings", "", "http://10.0.0.7/v1", {}, True),
        ("https://a.openai.azure.com/openai/deployments/e?api-version=1", "", "https://a.openai.azure.com/openai/deployments/e", {"api-version": "1"}, False),
        ("https://a.example/v1?a=1&b=", "?a=2&c=x%20y", "https://a.example/v1", {"a": "2", "b": "", "c": "x y"}, False),
    ],
)  # fmt: skip
def test_addresses(base_url, query, url, fields, local):
    read = address.read(base_url, query, "")
    assert (read.url, read.query, read.headers, read.local) == (url, fields, {}, local)


def test_where_no_address_is_given(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert address.read("", "", "").openai
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert address.read("", "", "").url == "http://localhost:1/v1"


@pytest.mark.parametrize(
    ("given", "headers"),
    [
        ("api-key: abc", {"api-key": "abc"}),
        ("X-Title:a: b", {"X-Title": "a: b"}),
        ("Authorization: Bearer $TOKEN", {"Authorization": "Bearer t"}),
        ('{"A": "1", "B": "$TOKEN"}', {"A": "1", "B": "t"}),
    ],
)
def test_headers(monkeypatch, given, headers):
    monkeypatch.setenv("TOKEN", "t")
    assert address.read("http://a/v1", "", given).headers == headers


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("ftp://a/v1", "", ""), "--base_url=ftp://a/v1: is not an address"),
        (("http://me:pw@a/v1", "", ""), "^--base_url: has a password"),
        (("http://a/v1", "api-version", ""), "--extra_query=api-version: is not a query; expected one such as"),
        (("http://a/v1", "", "secret-key"), "^--extra_header: is not a header; expected 'Name: value'"),
        (("http://a/v1", "", "api-key: "), "^--extra_header: is not a header"),
        (("http://a/v1", "", '{"a": 1}'), "^--extra_header: is not a header"),
        (("http://a/v1", "", "a b: c"), "^--extra_header: is not a header"),
        (("http://a/v1", "", "api-key: $NOT_THERE_AT_ALL"), "NOT_THERE_AT_ALL is not set in the environment"),
        (("http://a/v1", "", "api-key: a\nb"), "a value has a character that is not allowed in a header,"),
    ],
)
def test_what_cannot_be_read_is_one_line(flags, message):
    with pytest.raises(InputError, match=message) as error:
        address.read(*flags)
    assert "secret-key" not in str(error.value) and "pw" not in str(error.value)


def test_fields_of_the_body():
    assert address.extra_body("") == {}
    assert address.extra_body('{"truncate": true, "a": null}') == {"truncate": True, "a": None}
    for given in ("truncate", "[1]", "{'a': 1}", '"a"'):
        with pytest.raises(InputError, match="not a JSON object; expected one such as"):
            address.extra_body(given)
    with pytest.raises(InputError, match="--extra_body: sets 'model', which is --model; remove it"):
        address.extra_body('{"model": "x"}')

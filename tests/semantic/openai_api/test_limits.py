"""Servers that take less than they are sent."""

import collections
import json

import embedding_server
import numpy as np
import pytest
from embedded import WIDTH, arrays, texts_of

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.encoders import Text
from llmesr_jax.semantic.openai_api.limits import (
    Room,
    TooMuch,
    counts,
    is_too_much,
    kept_share,
)

LIMIT = 64
CHINESE = "这是一件结实耐用的家居用品，适合日常使用。"


def said(kind, n, most):
    """Status and words."""
    status, body = embedding_server.refusal(kind, n, most)
    if isinstance(body, bytes):
        return status, body.decode()
    error = body.get("error", body)
    return status, error if isinstance(error, str) else error.get("message") or error.get("detail")


@pytest.mark.parametrize("server", embedding_server.TOO_LONG)
def test_refusals_of_long_texts(server):
    status, words = said(embedding_server.TOO_LONG[server], 1630, 512)
    assert is_too_much(status, words)
    named = "1630" in words or "1,630" in words
    assert kept_share(words, 8191, 4000) == (512 / 1630 if named else 0.5)
    assert kept_share(words, 256, 4000) == (256 / 1630 if named else 0.5)


@pytest.mark.parametrize("server", embedding_server.TOO_MANY)
def test_refusals_of_many_texts(server, tmp_path):
    status, words = said(embedding_server.TOO_MANY[server], 48, 10)
    assert is_too_much(status, words)
    request = [Text(bytes([n]), "text", 4) for n in range(48)]
    parts = Room(tmp_path, 512, 8191).less(request, TooMuch("", words))
    assert list(map(len, parts)) == ([24, 24] if server == "nginx" else [10, 10, 10, 10, 8])
    assert sum(parts, []) == request


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "dimensions 4096 exceeds the maximum 1024"),
        (400, "'input_type' parameter is required"),
        (400, "encoding_format: only 'float' is supported"),
        (429, "maximum context length is 512 tokens"),
        (401, "token is too long"),
        (500, "upstream deadline exceeded for this input"),
        (500, "CUDA out of memory, batch size too large"),
        (500, "failed to encode response: json: unsupported value: NaN"),
        (503, "input is too long"),
        (400, "You exceeded your current quota of tokens"),
    ],
)
def test_other_refusals_are_not_about_size(status, words):
    assert not is_too_much(status, words)


def test_counts_are_not_parts_of_names():
    words = "<400> text-embedding-3-small: input[17] (0 asides) of 8,192 tokens, bge-m3, v1.5, given 10000."
    assert counts(words) == [8192, 10000]


@pytest.mark.parametrize(
    ("words", "size", "share"),
    [
        ("input 1 is too long: 1000 tokens, limit 500 tokens", 4000, 0.5),
        ("at most 250 tokens, 1000 given", 4000, 0.25),
        ("at most 250 tokens, 1000 given", 10, 0.5),  # no text of 10 bytes has 1000 tokens
        ("must be at most 9000 characters, got 10000", 10000, 0.9),
        ("too long", 10, 0.5),
        ("limit 512 tokens", 4000, 0.5),
    ],
)
def test_the_share_that_is_kept(words, size, share):
    assert kept_share(words, 8191, size) == share


def test_a_text_is_shortened_so_often_and_no_more(tmp_path):
    room, text, lengths = Room(tmp_path, 512, 8191), Text(b"k", "x" * 5000, 5000), []
    with pytest.raises(
        InputError, match=r"^it: the server refuses even a text cut to 1 characters \('x'\); check --model"
    ):
        while True:
            [[text]] = room.less([text], TooMuch("it", "too long"))
            lengths.append(len(text.text))
    assert lengths == [5000 >> n for n in range(1, 13)]
    [[again]] = room.less([Text(b"k", "x" * 5000, 5000)], TooMuch("it", "too long"))  # whole, and from the beginning
    assert len(again.text) == 2500


def test_texts_as_long_as_one_that_was_refused_go_alone(tmp_path):
    room = Room(tmp_path, 3, 8191)
    texts = [Text(bytes([n]), "x" * size, size) for n, size in enumerate((5, 90, 6, 7, 120, 8))]
    assert room.split(texts) == [texts[:3], texts[3:]]
    room.less([Text(b"k", "x" * 100, 100)], TooMuch("", "too long"))
    a, b, c, d, e, f = texts
    assert room.split(texts) == [[a, b, c], [d, f], [e]]


@pytest.fixture
def long_folder(folder):
    """Items 3, 10 and 11 have descriptions of some hundred tokens."""
    path = folder / "items.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for item, description in ((3, CHINESE * 20), (10, "An oak mug. " * 60), (11, CHINESE * 8)):
        records[item - 1]["description"] = description
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def counted(folder):
    return json.loads((folder / "embeddings.json").read_text())["counts"]


def assert_shortened(server, folder, halved):
    """Texts that fit are sent whole; the others lost their ends, and no more of them than was to be."""
    told = sorted(set(texts_of(folder)) - {""})
    too_long = [text for text in told if embedding_server.tokens(text) > server.most_tokens]
    sent = {text: max((s for s in server.paid if text.startswith(s)), key=len) for text in told}
    for text in told:
        if text not in too_long:
            assert sent[text] == text
        else:
            share = embedding_server.tokens(sent[text]) / server.most_tokens
            assert (0.4 if halved else 0.7) <= share <= 1
    paid = {text: times for text, times in server.paid.items() if text != "text"}  # the word that shows that it works
    assert paid == collections.Counter(sent.values())
    rows = [embedding_server.vector(sent[text], WIDTH) if text else np.zeros(WIDTH) for text in texts_of(folder)]
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), np.array(rows, np.float32))
    assert counted(folder)["shortened"] == len(too_long)
    return len(too_long)


@pytest.mark.parametrize("width", [WIDTH, 0])
@pytest.mark.parametrize("too_long", embedding_server.TOO_LONG)
def test_what_is_too_long_for_the_server_is_shortened(embed, server, long_folder, capsys, too_long, width):
    server.most_tokens, server.too_long = LIMIT, too_long
    embed(batch_size=16, dimensions=width)
    halved = "{n" not in str(embedding_server.TOO_LONG[too_long])
    count = assert_shortened(server, long_folder, halved)
    assert count >= 3 and counted(long_folder)["cut"] == 0
    line = f"{long_folder}: {count} texts were too long for the server and were cut\n"
    assert capsys.readouterr().out.count(line) == 1


@pytest.mark.parametrize("too_many", embedding_server.TOO_MANY)
def test_smaller_requests_where_the_server_asks_for_them(embed, server, folder, too_many):
    server.most_texts, server.too_many = 5, too_many
    embed(batch_size=20, concurrency=1)
    assert set(server.paid.values()) == {1} and counted(folder)["shortened"] == 0
    refused = [request for request in server.requests if len(request) > 5]
    assert len(refused) == (1 if too_many != "nginx" else len(refused))


def test_both_limits_at_once_and_a_server_that_misbehaves(embed, server, long_folder):
    server.most_texts, server.most_tokens, server.too_many, server.too_long = 3, LIMIT, "tei-413", "tei"
    server.faults, server.slow = ("429-seconds", "500", "cut", "closed"), 0.0
    embed(batch_size=16, timeout=1.0)
    assert assert_shortened(server, long_folder, halved=False) >= 3


def test_shortened_texts_are_counted_over_an_interruption(embed, server, long_folder, monkeypatch):
    from llmesr_jax.semantic.store import Store

    server.most_tokens = LIMIT
    add, calls = Store.add, iter(range(100))

    def interrupted(*args):
        add(*args)
        if next(calls) == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "add", interrupted)
        embed(concurrency=1)
    before = sum(1 for text in server.paid if embedding_server.tokens(text) > 0.8 * LIMIT)
    assert before and set(server.paid.values()) == {1}
    embed()
    assert set(server.paid.values()) == {1}
    assert_shortened(server, long_folder, halved=False)


def test_fewer_tokens_than_the_server_takes(embed, server, long_folder):
    server.most_tokens = LIMIT
    embed(max_tokens=40)
    told = sorted(set(texts_of(long_folder)))
    too_long = [text for text in told if embedding_server.tokens(text[: 8 * 40]) > LIMIT]
    sent = [max((s for s in server.paid if text.startswith(s)), key=len) for text in too_long]
    assert len(sent) >= 3 and all(25 <= embedding_server.tokens(text) <= 40 for text in sent)


def test_a_server_that_refuses_any_text_is_told_in_one_line(embed, server, folder):
    server.most_tokens = 0
    with pytest.raises(InputError, match="maximum context length is 0 tokens") as error:
        embed()
    assert "the server refuses even a text cut to " in str(error.value) and "\n" not in str(error.value)
    assert len(server.requests) < 100 and not (folder / "item_emb.npy").exists()

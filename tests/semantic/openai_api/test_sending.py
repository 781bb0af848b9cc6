"""Servers that refuse, answer uselessly, or fail for single texts: how soon a run ends, what is kept, what is named."""

import json
import time

import embedding_server
import numpy as np
import pytest
from embedded import WIDTH, arrays, texts_of, wanted

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import filling
from llmesr_jax.semantic.embed import Options
from llmesr_jax.semantic.openai_api import sending

SKIP = Options(skip_failed=True)
LAMP = "thing 9."  # the end of one item's text, and in the middle of no user's


def always(status, said):
    return lambda texts: (status, said)


def answer(vectors):
    data = [{"object": "embedding", "index": i, "embedding": list(map(float, v))} for i, v in enumerate(vectors)]
    return 200, {"object": "list", "data": data}


def usual(texts):
    return [embedding_server.vector(text, WIDTH) for text in texts]


def manifest(folder):
    return json.loads((folder / "embeddings.json").read_text())


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        (always(200, {"error": {"message": "no provider has it", "code": 404}}), r"an error \(no provider has it\); check"),
        (always(200, b"<html><body>It works</body></html>"), r"web page, not JSON \(It works\); check --base_url"),
        (always(200, {"object": "list", "data": []}), "0 embeddings for 1 texts"),
        (always(200, {"object": "list"}), "the answer has no list of embeddings"),
        (lambda texts: answer(np.ones((len(texts), WIDTH + 1))), f"width {WIDTH + 1}, not {WIDTH}; .*ignores --dimensions; remove --dimensions,"),
        (lambda texts: answer(np.zeros((len(texts), WIDTH))), "a vector of zeros; check the server's log and its model"),
        (always(404, {"error": "model 'toy' not found"}), r"404 \(model 'toy' not found\); check --model and --base_url"),
        (always(400, {"error": "'task' is required"}), r"400 \('task' is required\); add the missing field .* --extra_body="),
        (always(422, {"detail": [{"msg": "extra fields"}]}), r"status 422 \(extra fields\); check --model"),
        (always(501, {"error": {"message": "no embeddings here"}}), r"status 501 \(no embeddings here\)"),
        (always(403, {"error": {"message": "not for you"}}), r"status 403 \(not for you\)"),
    ],
)  # fmt: skip
def test_what_cannot_change_is_tried_twice_at_most(embed, server, folder, failing, message):
    server.failing = failing
    started = time.monotonic()
    with pytest.raises(InputError, match=message) as error:
        embed()
    assert len(server.requests) <= 2 and time.monotonic() - started < 5
    assert "\n" not in str(error.value) and not (folder / "cache").exists()


def test_one_vector_for_all_texts_is_refused_soon(embed, server, folder):
    server.failing = lambda texts: answer(np.ones((len(texts), WIDTH)))
    with pytest.raises(InputError, match="the same vector for 4 different texts; check the server's log"):
        embed(concurrency=1)
    assert len(server.requests) <= 3 and not (folder / "item_emb.npy").exists()


def test_one_vector_for_all_texts_shows_where_each_goes_alone(embed, server, folder):
    server.failing = lambda texts: answer(np.ones((len(texts), WIDTH)))
    with pytest.raises(InputError, match='38 texts have|40 texts have no usable .* item 1 "thing 0": the same vector'):
        embed(batch_size=1)
    assert not (folder / "item_emb.npy").exists()
    server.failing = None
    server.paid.clear()
    embed()  # none of them was kept
    assert len(server.paid) == 40
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


def test_vectors_are_compared_even_if_a_run_is_killed_before_that(embed, server, folder, monkeypatch):
    server.failing = lambda texts: answer(np.ones((len(texts), WIDTH)))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(filling, "_EARLY", ())
        patched.setattr(filling.vector_checks, "sharing", lambda hashes: (_ for _ in ()).throw(KeyboardInterrupt))
        embed(batch_size=1)
    server.failing, count = None, len(server.requests)
    with pytest.raises(InputError, match="40 texts have no usable vector: .* the same vector for 40 different"):
        embed()
    assert len(server.requests) == count
    embed()
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


@pytest.mark.parametrize("dimensions", [WIDTH, 0])
@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        (lambda texts: (500, "unsupported value: NaN"), r"status 500 \(unsupported value: NaN\)"),
        (lambda texts: (400, "a text has no letters"), r"status 400 \(a text has no letters\)"),
        (lambda texts: answer([0 * v if LAMP in t else v for t, v in zip(texts, usual(texts))]), "a vector of zeros"),
        (
            lambda texts: answer([np.nan * v if LAMP in t else v for t, v in zip(texts, usual(texts))]),
            "with NaN or inf",
        ),
    ],
)
def test_a_text_that_fails_is_named_and_may_be_skipped(embed, server, folder, fails, reason, dimensions, capsys):
    (folder / "item_ids.txt").write_text("".join(f"B{n}\n" for n in range(30)))
    bad = lambda texts: any(LAMP in text for text in texts)  # noqa: E731
    server.failing = lambda texts: fails(texts) if bad(texts) else None
    run = {"dimensions": dimensions, "batch_size": 16}
    with pytest.raises(InputError, match=f'^1 text has no usable vector: item B9 "thing 9": .*{reason}') as error:
        embed(**run)
    assert "; 39 of 40 texts are done; use --skip_failed to write rows of zeros for them" in str(error.value)
    assert not (folder / "item_emb.npy").exists() and sum(bad([text]) for text in server.paid) == 0
    count = len(server.requests)
    with pytest.raises(InputError, match="39 of 40 texts are done"):
        embed(**run)  # only the one is sent, and the word that shows that the server works
    assert all(request == ["text"] or bad(request) for request in server.requests[count:])
    assert len([request for request in server.requests[count:] if bad(request)]) <= 3
    capsys.readouterr()
    assert embed(options=SKIP, **run)
    assert 'item B9 "thing 9"' in capsys.readouterr().out
    rows = wanted(folder)
    rows[9] = 0
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), rows)
    assert manifest(folder)["counts"]["skipped"] == 1 and manifest(folder)["skipped"][0]["row"] == 'item B9 "thing 9"'
    assert all(times == 1 for text, times in server.paid.items() if text != "text")
    count = len(server.requests)
    assert embed(options=SKIP, **run) and len(server.requests) == count  # what was skipped stays so
    server.failing = None
    server.paid.clear()
    embed(**run)  # but is not forgotten
    assert [text for text in server.paid if text != "text"] == [text for text in texts_of(folder)[:30] if bad([text])]
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))
    assert manifest(folder)["counts"]["skipped"] == 0


def test_many_texts_that_fail_end_a_run_unless_they_are_skipped(embed, server, folder, monkeypatch):
    monkeypatch.setattr(filling, "_MOST_FAILED", 2)
    server.failing = lambda texts: (500, "NaN") if any("thing 1" in text for text in texts) else None
    with pytest.raises(InputError, match="^3 texts have no usable vector: "):
        embed()
    assert embed(options=SKIP)
    rows = np.concatenate(arrays(folder))
    assert [not rows[n].any() for n in range(30)] == ["thing 1" in text or not text for text in texts_of(folder)[:30]]


def test_if_every_text_fails_nothing_is_written(embed, server, folder):
    server.failing = lambda texts: None if texts == ["text"] else (500, "NaN")
    with pytest.raises(InputError, match="40 texts have no usable vector: .*; check the server and its model"):
        embed(options=SKIP)
    assert not (folder / "item_emb.npy").exists()


def test_a_server_that_fails_for_a_while_is_waited_for(embed, server, folder):
    until = time.monotonic() + 0.6
    server.failing = lambda texts: (500, "out of memory") if time.monotonic() < until else None
    embed(first_wait=0.05, longest_wait=0.2)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))
    assert {text: times for text, times in server.paid.items() if text != "text"} == dict.fromkeys(
        set(texts_of(folder)) - {""}, 1
    )


def test_requests_that_take_too_long_are_halved(embed, server, folder):
    def slow(texts):
        time.sleep(0.6 if len(texts) > 4 else 0)

    server.failing = slow
    embed(batch_size=16, concurrency=3, timeout=0.3)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


@pytest.mark.parametrize(
    ("accepts", "said", "sent"),
    [
        (("float", None), {"error": {"message": "encoding_format: only 'float' is supported"}}, "float"),
        ((None,), {"detail": [{"loc": ["body", "encoding_format"], "msg": "encoding_format is not permitted"}]}, None),
    ],
)
def test_where_base64_fails_numbers_come_as_they_are_printed(embed, server, folder, accepts, said, sent):
    server.failing = lambda texts: None if server.bodies[-1].get("encoding_format") in accepts else (400, said)
    embed(concurrency=1)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))
    assert {body.get("encoding_format") for body in server.bodies[4:]} == {sent}


def test_base64_that_cannot_be_decoded_is_no_end(embed, server, folder):
    def numbers(texts):
        if server.bodies[-1].get("encoding_format") == "base64":
            return 200, {"data": [{"index": i, "embedding": "[0.1, 0.2]"} for i in range(len(texts))]}

    server.failing = numbers
    embed(concurrency=1)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


def test_texts_that_differ_in_case_alone_may_have_one_vector(embed, server, folder):
    path = folder / "items.jsonl"
    titles = ["Blue mug", "blue mug", "BLUE MUG", "Blue  Mug!"]
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record, title in zip(records, titles):
        record["title"] = title
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    server.failing = lambda texts: answer([embedding_server.vector(sending.plain(t), WIDTH) for t in texts])
    assert embed()
    items, _ = arrays(folder)
    assert (items[:4] == items[0]).all()
    records[5]["title"], records[6]["title"] = "red cup", "red cup x"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    confused = {"red cup": "blue mug", "red cup x": "blue mug"}

    def wrong(texts):
        told = [sending.plain(text) for text in texts]
        for word, other in sorted(confused.items(), reverse=True):
            told = [text.replace(f"name is {word}", f"name is {other}") for text in told]
        return answer([embedding_server.vector(text, WIDTH) for text in told])

    server.failing = wrong
    with pytest.raises(InputError, match='2 texts have no .* item 6 "red cup": the same vector for'):
        embed()


def test_fields_queries_and_headers_reach_the_server(embed, server, folder, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "s3cret-of-mine")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    settings = {
        "base_url": f"{server.base_url}/?api-version=1",
        "extra_body": '{"input_type": "passage", "options": {"num_ctx": 64}, "dimensions": null}',
        "extra_query": "deployment=a%20b&x=",
        "extra_header": "api-key: $SHOP_KEY",
    }
    embed(**settings)
    for body in server.bodies:
        assert body["input_type"] == "passage" and body["options"] == {"num_ctx": 64} and "dimensions" not in body
    assert set(server.queries) == {"api-version=1&deployment=a+b&x="}
    assert {headers.get("api-key") for headers in server.headers} == {"s3cret-of-mine"}
    assert server.keys == {None}  # no second key beside the user's own
    assert manifest(folder)["made_by"]["extra_body"] == (
        '{"dimensions": null, "input_type": "passage", "options": {"num_ctx": 64}}'
    )
    assert manifest(folder)["notes"]["extra_header"] == ["api-key"]
    assert all(b"s3cret" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    with pytest.raises(InputError, match="has embeddings made with other settings .extra_body .*--overwrite"):
        embed(**{**settings, "extra_body": '{"input_type": "query"}'})
    server.failing = always(400, "bad key s3cret-of-mine")
    with pytest.raises(InputError, match=r"status 400 \(bad key \[key\]\)"):
        embed(options=Options(overwrite=True), **{**settings, "extra_body": ""})

"""What stops a run of `embed`: refusals of the server, the question before spending, mistakes."""

import json

import numpy as np
import pytest
from embedded import arrays, listing, texts_of, wanted

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import reading
from llmesr_jax.semantic import embed as embed_lib
from llmesr_jax.semantic import manifest
from llmesr_jax.semantic.embed import Options
from llmesr_jax.semantic.encoders import openai
from llmesr_jax.semantic.shards import Shard
from llmesr_jax.semantic.texts import Wording


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "invalid_api_key", "status 401, the key is refused; set OPENAI_API_KEY"),
        (404, "model_not_found", r"status 404 \(.*the \[key\] words.*\); check --model and --base_url"),
        (400, None, r"status 400 \(.*\); check --model .* lower --max_tokens, --batch_size or --request_tokens"),
        (403, None, r"status 403 \("),
        (429, "insufficient_quota", "no credit left .insufficient_quota.; add some; then run the same command again"),
    ],
)
def test_a_refusal_for_good_stops_at_once_in_one_line(embed, server, folder, monkeypatch, status, code, message):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.status, server.code, server.message = status, code, "the sk-secret\nwords"
    with pytest.raises(InputError, match=message) as error:
        embed(concurrency=1)
    assert len(server.keys) == 1 and "sk-secret" not in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).endswith("; then run the same command again") == (status in (401, 429))
    assert "texts are done" not in str(error.value) and not (folder / "cache").exists()
    server.status = None
    embed()
    assert server.keys == {"Bearer sk-secret"}


def test_what_came_before_a_refusal_is_kept(embed, server, folder):
    later = "thing 9."
    server.failing = lambda texts: (503, "busy") if any(later in text for text in texts) else None
    with pytest.raises(InputError, match="no usable answer in 2 attempts; the last: status 503 .busy.") as error:
        embed(attempts=2, concurrency=3)
    assert str(error.value).endswith(
        f"; {len(server.paid)} of 40 texts are done; run the same command again to continue"
    )
    assert len(server.paid) >= 5
    server.failing = None
    embed()
    assert set(server.paid.values()) == {1}


def test_an_error_that_passes_shows_what_the_server_says(embed, server, folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.status, server.message = 500, "out of\nmemory, sk-secret"
    with pytest.raises(InputError, match=r"in 2 attempts; the last: status 500 \(out of memory, \[key\]\); then run"):
        embed(attempts=2)


def test_one_command_at_a_time_replaces_the_files(embed, server, folder, monkeypatch):
    real, told = manifest.write_array, []

    def slow(path, rows, blocks):
        (folder / "user_emb.npy.partial").write_bytes(b"of the first command")
        for options in (Options(), Options(overwrite=True)):
            with pytest.raises(InputError) as caught:
                embed(model="other", options=options)
            told.append(str(caught.value))
        embed(model="other", options=Options(dry_run=True))
        embed(model="other", options=Options(shard=Shard(0, 2)))
        assert (folder / "user_emb.npy.partial").exists()
        return real(path, rows, blocks)

    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write_array", slow)
        embed()
    taken = f"{folder / 'cache'}: another launch.embed is using this folder; wait until it ends, or stop it"
    assert told == [taken] * 4
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))
    assert "incomplete" not in json.loads((folder / "embeddings.json").read_text())


def test_a_shard_and_a_dry_run_delete_nothing_of_a_command_at_work(embed, folder):
    embed()
    (folder / "user_emb.npy.partial").write_bytes(b"of another command")
    assert embed(options=Options(shard=Shard(0, 2))) and embed(options=Options(dry_run=True))
    assert (folder / "user_emb.npy.partial").exists()


def test_files_that_vanish_while_they_are_written_are_an_error(embed, folder, monkeypatch):
    real = manifest.finish

    def finish(where):
        (where / "user_emb.npy.partial").unlink(missing_ok=True)
        real(where)

    with monkeypatch.context() as patched, pytest.raises(InputError, match="changed or removed by another process"):
        patched.setattr(manifest, "finish", finish)
        embed()
    embed()
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


def test_a_dry_run_beside_other_embeddings_shows_what_there_is_to_do(embed, server, folder, capsys):
    embed()
    before, count = listing(folder), len(server.requests)
    assert not embed(model="other", options=Options(dry_run=True))
    assert "40 to embed" in capsys.readouterr().out
    assert (listing(folder), len(server.requests)) == (before, count)


def test_a_server_that_is_not_there_is_told_soon(embed, folder):
    with pytest.raises(InputError, match="127.0.0.1:9/v1: no usable answer in 3 attempts; the last: no connection"):
        embed(base_url="http://127.0.0.1:9/v1", attempts=9)


def test_retry_after_holds_for_all_requests(embed, server, folder, monkeypatch):
    server.faults = ("429-seconds",)
    embed(longest_wait=0.05)
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


def test_a_dry_run_writes_and_sends_nothing(embed, server, folder, capsys):
    before = listing(folder)
    assert not embed(options=Options(dry_run=True))
    assert "40 to embed" in capsys.readouterr().out
    assert (listing(folder), server.requests) == (before, [])


def test_spending_is_announced_and_asked_about(folder, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    corpus = reading.load("toy", folder)
    before = listing(folder)

    def run(**settings):
        config = openai.Config(model="text-embedding-3-small", **settings)
        embed_lib.embed(corpus, "openai", config, Wording(), Options())

    with pytest.raises(
        InputError, match="this costs money, and there is no terminal to ask on; add --yes to continue, or --dry_run"
    ):
        run()
    count = sum(-(-len(text) // 4) for text in set(texts_of(folder)))
    assert f"about {count:,} tokens, less than a cent, at $0.02 per million" in capsys.readouterr().out
    with pytest.raises(InputError, match="no terminal to ask"):
        run(base_url="https://example.com/v1")
    assert "the price of text-embedding-3-small at example.com is not known" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(InputError, match="stopped at your request; nothing was sent"):
        run()
    assert listing(folder) == before and not (folder / "cache").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ""}, "--model is missing"),
        ({"base_url": ""}, "OPENAI_API_KEY is not set"),
        ({"base_url": "localhost:80"}, "--base_url=localhost:80: is not an address"),
        ({"base_url": "http://me:secret@localhost/v1"}, "^--base_url: has a password"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_sent(embed, folder, settings, message):
    before = listing(folder)
    with pytest.raises(InputError, match=message):
        embed(**settings)
    assert listing(folder) == before


def test_a_key_with_a_line_break_is_refused_unseen(embed, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one\nsk-two")
    with pytest.raises(InputError, match="^OPENAI_API_KEY: has a space or a character that no key has; set it again$"):
        embed()


@pytest.mark.parametrize(
    ("title", "brand", "template", "message"),
    [
        ("", "", "", "no item has a text; expected titles or other fields .*--title_column.*--item_template"),
        ("Fez", "", "{brand}", "^--item_template='{brand}': gives no text for any of the 30 items"),
        ("", "Ada", "", "no user has a text, because no item that they train on has a title; .*--title_column"),
    ],
)
def test_texts_that_are_all_empty_replace_nothing(embed, server, folder, title, brand, template, message):
    embed()
    path = folder / "items.jsonl"
    records = [json.loads(line) | {"title": title, "brand": brand} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    before, count = listing(folder), len(server.requests)
    with pytest.raises(InputError, match=message):
        embed(Wording(item_template=template), Options(overwrite=True))
    assert (listing(folder), len(server.requests)) == (before, count)


def test_no_texts_and_no_folder(embed, folder):
    (folder / "items.jsonl").unlink()
    with pytest.raises(InputError, match="has no items.jsonl, .*; prepare the data again with the items' file"):
        embed()
    with pytest.raises(InputError, match="demo: is made in memory and"):
        demo = reading.load("demo")
        embed_lib.embed(demo, "openai", openai.Config("m", "http://localhost/v1"), Wording(), Options())

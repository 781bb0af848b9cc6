"""Whole runs of `embed` against a server on loopback, in this process."""

import hashlib
import json

import embedding_server
import numpy as np
import pytest

from llmesr_jax.data import corpus as corpus_lib
from llmesr_jax.errors import InputError
from llmesr_jax.semantic import embed as embed_lib
from llmesr_jax.semantic import texts
from llmesr_jax.semantic.embed import Options
from llmesr_jax.semantic.encoders import openai
from llmesr_jax.semantic.texts import Wording

WIDTH = 8


def _arrays(folder):
    return [np.load(folder / name) for name in ("item_emb.npy", "user_emb.npy")]


def _bytes(folder):
    return [(folder / name).read_bytes() for name in ("item_emb.npy", "user_emb.npy")]


def _texts(folder, wording=Wording()):
    return list(texts.stream(corpus_lib.load("toy", folder), wording))


def _wanted(folder, wording=Wording()):
    rows = [embedding_server.vector(t, WIDTH) if t else np.zeros(WIDTH, np.float32) for t in _texts(folder, wording)]
    return np.stack(rows)


def _listing(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_row_is_the_vector_of_its_text_and_each_text_is_paid_once(embed, server, folder, capsys):
    assert embed()
    items, users = _arrays(folder)
    assert items.dtype == users.dtype == np.float32 and (items.shape, users.shape) == ((30, WIDTH), (12, WIDTH))
    np.testing.assert_array_equal(np.concatenate([items, users]), _wanted(folder))
    assert not items[29].any() and np.array_equal(items[0], items[28])
    assert server.paid == dict.fromkeys(set(_texts(folder)) - {""}, 1)
    assert max(map(len, server.requests)) == 4
    assert "30 items and 12 users; 40 different texts; 1 without any text" in capsys.readouterr().out
    keys = f"embed_texts-{json.loads((folder / 'embeddings.json').read_text())['texts'][:12]}.npy"
    assert sorted(path.name for path in folder.rglob("*")) == [
        "cache", keys, "embeddings.json", "inter.txt", "item_emb.npy", "items.jsonl", "user_emb.npy",
    ]  # fmt: skip


def test_the_manifest_says_what_the_files_are(embed, folder, server):
    embed(max_tokens=55)
    made = json.loads((folder / "embeddings.json").read_text())
    assert made["made_by"] == {
        "encoder": "openai", "model": "toy", "dimensions": WIDTH, "item_template": "", "crop": False,
        "user_template": "", "dtype": "float32",
    }  # fmt: skip
    for name, content in zip(("item_emb.npy", "user_emb.npy"), _bytes(folder)):
        assert made["arrays"][name]["sha256"] == hashlib.sha256(content).hexdigest()
    assert made["arrays"]["item_emb.npy"]["shape"] == [30, WIDTH]
    items = hashlib.sha256((folder / "items.jsonl").read_bytes()).hexdigest()
    assert made["inputs"] == {"interactions": corpus_lib.load("toy", folder).digest, "items.jsonl": items}
    cut = [text for text in _texts(folder) if len(text) > 55]
    assert made["counts"]["cut"] == len(cut) > 0 and made["counts"]["empty"] == 1
    assert made["counts"]["texts"] == 42 and max(map(len, server.paid)) == 55
    assert made["notes"] == {"source": server.base_url, "requests_asked_again": 0}
    assert made["libraries"]["numpy"] == np.__version__ and "created" in made


@pytest.mark.parametrize("fault", embedding_server.FAULTS)
def test_a_server_that_misbehaves_changes_no_bit(embed, server, folder, fault):
    server.faults, server.slow = (fault,), 0.6
    embed(timeout=0.3)
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder))
    asked_again = len(server.requests) > 10  # of 40 texts in fours
    assert asked_again == (fault != "shuffled")


def test_all_faults_together_and_both_ways_to_write_numbers(embed, server, folder):
    server.faults, server.slow = embedding_server.FAULTS, 0.6
    embed(timeout=0.3, batch_size=1, encoding="float")
    assert len(server.requests) > 2 * len(embedding_server.FAULTS)
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder))


def test_a_second_run_has_nothing_to_do(embed, server, folder, capsys):
    embed()
    before, count = _listing(folder), len(server.requests)
    capsys.readouterr()
    assert embed() and embed(batch_size=9)
    assert capsys.readouterr().out == 2 * f"{folder}: the embeddings are up to date; nothing to do\n"
    assert (_listing(folder), len(server.requests)) == (before, count)


def test_of_changed_texts_only_the_new_ones_are_paid(embed, server, folder):
    embed()
    path = folder / "items.jsonl"
    path.write_text(path.read_text().replace('"thing 1"', '"fez"').replace('"title": ""', '"title": "thing 2"'))
    before = set(_texts(folder)) & set(server.paid)
    server.paid.clear()
    embed()
    assert server.paid == dict.fromkeys(set(_texts(folder)) - before, 1)
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder))


def test_templates_decide_about_the_texts(embed, server, folder):
    wording = Wording(item_template="A {noun}: {title}", user_template="likes {titles}")
    embed(wording)
    assert "A item: thing 3" in server.paid and any(text.startswith("likes thing") for text in server.paid)
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder, wording))


def test_float16(embed, server, folder):
    embed(options=Options(float16=True))
    items, users = _arrays(folder)
    assert items.dtype == users.dtype == np.float16
    np.testing.assert_array_equal(np.concatenate([items, users]), _wanted(folder).astype(np.float16))


def test_numbers_too_large_for_float16_are_refused_and_kept_for_float32(embed, server, folder, monkeypatch):
    monkeypatch.setattr(embedding_server, "vector", lambda text, width: np.full(width, 1e5, np.float32))
    with pytest.raises(InputError, match="item_emb.npy.partial: holds numbers that are not finite; float16 holds"):
        embed(options=Options(float16=True))
    assert not [path for path in folder.iterdir() if "emb" in path.name]
    count = len(server.requests)
    embed()
    assert len(server.requests) == count and _arrays(folder)[0].max() == 1e5


def _grow(folder):
    """Three new items, one with a known text; two new users, and an old one goes on."""
    records = [(31, "fez"), (32, "thing 4"), (33, "comb")]
    with (folder / "items.jsonl").open("a") as file:
        file.writelines(json.dumps({"item_id": item, "title": title}) + "\n" for item, title in records)
    with (folder / "inter.txt").open("a") as file:
        file.write("13 31\n13 32\n13 33\n14 1\n14 2\n14 33\n14 31\n1 33\n1 32\n")


def test_append_pays_for_new_rows_only_and_keeps_the_old_bit_by_bit(embed, server, folder):
    embed()
    before = _arrays(folder)
    old_texts = set(server.paid)
    server.paid.clear()
    _grow(folder)
    embed(options=Options(append=True))
    items, users = _arrays(folder)
    assert (items.shape, users.shape) == ((33, WIDTH), (14, WIDTH))
    np.testing.assert_array_equal(items[:30], before[0])
    np.testing.assert_array_equal(users[:12], before[1])
    wanted = _wanted(folder)
    np.testing.assert_array_equal(items[30:], wanted[30:33])
    np.testing.assert_array_equal(users[12:], wanted[45:])
    told = _texts(folder)
    assert server.paid == dict.fromkeys({*told[30:33], *told[45:]} - old_texts, 1)
    count = len(server.requests)
    embed(options=Options(append=True))
    assert len(server.requests) == count
    server.paid.clear()
    with (folder / "inter.txt").open("a") as file:
        file.write("2 33\n2 32\n")  # now the old user's text is another one, too
    embed()
    told = _texts(folder)
    assert server.paid == dict.fromkeys({told[33], told[34]}, 1)  # user 1 was left as it was by --append
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "other"}, "model 'toy' there, 'other' wanted"),
        ({"dimensions": 4}, "dimensions 8 there, 4 wanted"),
        ({"wording": Wording(user_template="{titles}")}, "user_template '' there, '{titles}' wanted"),
        ({"options": Options(append=True, float16=True)}, "dtype 'float32' there, 'float16' wanted"),
    ],
)
def test_append_wants_what_made_the_old_rows(embed, folder, settings, message):
    embed()
    _grow(folder)
    before = _listing(folder)
    with pytest.raises(InputError, match=f"--append wants the settings of the rows that are there .{message}"):
        embed(**{"options": Options(append=True), **settings})
    assert _listing(folder) == before


def test_append_wants_whole_files_and_not_fewer_rows(embed, folder):
    with pytest.raises(InputError, match="--append adds to the files of launch.embed, and those are absent"):
        embed(options=Options(append=True))
    embed()
    lines = (folder / "items.jsonl").read_text().splitlines(True)
    (folder / "items.jsonl").write_text("".join(lines[:29]))
    (folder / "inter.txt").write_text("".join(f"1 {n}\n" for n in range(1, 30)))
    with pytest.raises(InputError, match="of 30 items and 12 users, and now there are 29 and 1; --append"):
        embed(options=Options(append=True))
    np.save(folder / "user_emb.npy", np.ones((12, WIDTH), np.float32))
    with pytest.raises(InputError, match="those are damaged, or replaced by others"):
        embed(options=Options(append=True))


def test_files_of_others_are_not_replaced_unasked(embed, server, folder):
    np.save(folder / "item_emb.npy", np.ones((30, 4), np.float32))
    with pytest.raises(InputError, match="item_emb.npy: was not written by launch.embed.*--overwrite"):
        embed()
    assert not server.requests
    embed(options=Options(overwrite=True))
    with pytest.raises(InputError, match="holds other embeddings .model 'toy' there, 'other' wanted.*--overwrite"):
        embed(model="other")
    embed(model="other", options=Options(overwrite=True))
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder))


@pytest.mark.parametrize("stop", range(1, 4))
def test_a_kill_between_the_files_is_told_and_costs_nothing(embed, server, folder, monkeypatch, stop):
    from pathlib import Path

    embed()
    path = folder / "items.jsonl"
    path.write_text(path.read_text().replace("thing 1", "fez 1"))
    calls, replace = iter(range(100)), Path.replace

    def killed(self, target):
        if Path(target).suffix == ".npy" and Path(target).parent == folder or Path(target).name == "embeddings.json":
            if next(calls) == stop:
                raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        embed()
    assert json.loads((folder / "embeddings.json").read_text())["incomplete"] is True
    count = len(server.requests)
    embed()
    assert len(server.requests) == count
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder))


def test_the_width_is_what_two_answers_agree_on(embed, server, folder):
    server.faults = ("width", *["shuffled"] * 30)  # the very first answer is wrong
    embed(dimensions=0)
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder))
    server.faults = ()
    server.paid.clear()
    embed(dimensions=0, model="other", options=Options(overwrite=True))
    assert sorted(server.paid.values())[-2:] == [1, 3]  # one text was also asked for its width, twice


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "invalid_api_key", "status 401, the key is refused; set OPENAI_API_KEY"),
        (404, "model_not_found", r"status 404 \(.*the \[key\] words.*\); see to --model and --base_url"),
        (400, None, r"status 400 \(.*\); see to --model .* lower --max_tokens, --batch_size or --request_tokens"),
        (403, None, r"status 403 \("),
        (429, "insufficient_quota", "no credit left .insufficient_quota.; add some, then the same command continues"),
    ],
)
def test_a_refusal_for_good_stops_at_once_in_one_line(embed, server, folder, monkeypatch, status, code, message):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.status, server.code, server.message = status, code, "the sk-secret\nwords"
    with pytest.raises(InputError, match=message) as error:
        embed(concurrency=1)
    assert len(server.keys) == 1 and "sk-secret" not in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).endswith("; 0 of 40 texts are done; the same command continues")
    server.status = None
    embed()
    assert server.keys == {"Bearer sk-secret"}


def test_what_came_before_a_refusal_is_kept(embed, server, folder):
    server.faults = ("500",)
    with pytest.raises(InputError, match="no usable answer in 1 attempts; the last: status 500") as error:
        embed(attempts=1, concurrency=3)
    assert f"; {len(server.paid)} of 40 texts are done" in str(error.value) and len(server.paid) >= 4
    server.faults = ()
    embed()
    assert set(server.paid.values()) == {1}


def test_a_server_that_is_not_there_is_told_soon(embed, folder):
    with pytest.raises(InputError, match="127.0.0.1:9/v1: no usable answer in 3 attempts; the last: no connection"):
        embed(base_url="http://127.0.0.1:9/v1", attempts=9)


def test_retry_after_holds_for_all_requests(embed, server, folder, monkeypatch):
    server.faults = ("429-seconds",)
    embed(longest_wait=0.05)
    np.testing.assert_array_equal(np.concatenate(_arrays(folder)), _wanted(folder))


def test_a_dry_run_writes_and_sends_nothing(embed, server, folder, capsys):
    before = _listing(folder)
    assert not embed(options=Options(dry_run=True))
    assert "40 to embed" in capsys.readouterr().out
    assert (_listing(folder), server.requests) == (before, [])


def test_spending_is_announced_and_asked_about(folder, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    corpus = corpus_lib.load("toy", folder)
    before = _listing(folder)

    def run(**settings):
        config = openai.Config(model="text-embedding-3-small", **settings)
        embed_lib.embed(corpus, "openai", config, Wording(), Options())

    with pytest.raises(InputError, match="nobody to ask whether to spend that; give --yes to go on, --dry_run"):
        run()
    size = sum(len(text) for text in set(_texts(folder)))
    assert f"about {size / 4:,.0f} tokens, $0.00 (at most $0.00), at $0.02 a million" in capsys.readouterr().out
    with pytest.raises(InputError, match="nobody to ask"):
        run(base_url="https://example.com/v1")
    assert "what text-embedding-3-small costs at example.com is not known here" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(InputError, match="stopped as you said; nothing was sent"):
        run()
    assert {path for path in _listing(folder) if "cache" not in path.parts} == set(before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ""}, "--model is missing"),
        ({"base_url": ""}, "OPENAI_API_KEY is not set"),
        ({"base_url": "localhost:80"}, "--base_url=localhost:80: not an address"),
        ({"base_url": "http://me:secret@localhost/v1"}, "^--base_url: holds more than an address"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_sent(embed, folder, settings, message):
    before = _listing(folder)
    with pytest.raises(InputError, match=message):
        embed(**settings)
    assert _listing(folder) == before


def test_a_key_with_a_line_break_is_refused_unseen(embed, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one\nsk-two")
    with pytest.raises(InputError, match="^OPENAI_API_KEY: holds a space or a sign that no key has; set it again$"):
        embed()


def test_texts_that_are_all_empty(embed, folder):
    path = folder / "items.jsonl"
    records = [json.loads(line) | {"title": ""} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(InputError, match="all texts are empty; wanted titles or attributes"):
        embed()


def test_no_texts_and_no_folder(embed, folder):
    (folder / "items.jsonl").unlink()
    with pytest.raises(InputError, match="nothing to make texts of the items from; wanted items.jsonl"):
        embed()
    with pytest.raises(InputError, match="demo: made in memory"):
        demo = corpus_lib.load("demo")
        embed_lib.embed(demo, "openai", openai.Config("m", "http://localhost/v1"), Wording(), Options())

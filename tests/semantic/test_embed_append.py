"""`embed --append`: rows of new items and users, beside old ones that stay as they are."""

import json

import numpy as np
import pytest
from embedded import WIDTH, arrays, listing, texts_of, wanted

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import embed_command
from llmesr_jax.semantic.embed import Options
from llmesr_jax.semantic.texts import Wording


def _grow(folder):
    """Three new items, one with a known text; two new users, and an old one goes on."""
    records = [(31, "fez"), (32, "thing 4"), (33, "comb")]
    with (folder / "items.jsonl").open("a") as file:
        file.writelines(json.dumps({"item_id": item, "title": title}) + "\n" for item, title in records)
    with (folder / "inter.txt").open("a") as file:
        file.write("13 31\n13 32\n13 33\n14 1\n14 2\n14 33\n14 31\n1 33\n1 32\n")


def test_append_pays_for_new_rows_only_and_keeps_the_old_bit_by_bit(embed, server, folder):
    embed()
    before = arrays(folder)
    old_texts = set(server.paid)
    server.paid.clear()
    _grow(folder)
    embed(options=Options(append=True))
    items, users = arrays(folder)
    assert (items.shape, users.shape) == ((33, WIDTH), (14, WIDTH))
    np.testing.assert_array_equal(items[:30], before[0])
    np.testing.assert_array_equal(users[:12], before[1])
    rows = wanted(folder)
    np.testing.assert_array_equal(items[30:], rows[30:33])
    np.testing.assert_array_equal(users[12:], rows[45:])
    told = texts_of(folder)
    assert server.paid == dict.fromkeys({*told[30:33], *told[45:]} - old_texts, 1)
    count = len(server.requests)
    embed(options=Options(append=True))
    assert len(server.requests) == count
    server.paid.clear()
    with (folder / "inter.txt").open("a") as file:
        file.write("2 33\n2 32\n")  # now the old user's text is another one, too
    embed()
    told = texts_of(folder)
    assert server.paid == dict.fromkeys({told[33], told[34]}, 1)  # user 1 was left as it was by --append
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "other"}, "model is 'toy', expected 'other'"),
        ({"dimensions": 4}, "dimensions is 8, expected 4"),
        ({"max_tokens": 10}, "max_tokens is '8191, counted by the server', expected '10, counted by the server'"),
        ({"wording": Wording(user_template="{titles}")}, "user_template is '', expected '{titles}'"),
        ({"options": Options(append=True, float16=True)}, "dtype is 'float32', expected 'float16'"),
    ],
)
def test_append_wants_what_made_the_old_rows(embed, folder, settings, message):
    embed()
    _grow(folder)
    before = listing(folder)
    with pytest.raises(InputError, match=f"--append needs the settings of the existing rows .{message}"):
        embed(**{"options": Options(append=True), **settings})
    assert listing(folder) == before


def test_the_command_after_growth_cuts_texts_as_before(embed, folder):
    embed()
    assert "--max_tokens" not in embed_command.after_growth("toy", folder)
    embed(max_tokens=10, options=Options(overwrite=True))
    assert "--max_tokens=10" in embed_command.after_growth("toy", folder).split()
    made = json.loads((folder / "embeddings.json").read_text())
    made["notes"]["tokenizer"] = "cl100k_base"
    (folder / "embeddings.json").write_text(json.dumps(made))
    assert "--tokenizer=cl100k_base" in embed_command.after_growth("toy", folder).split()
    _grow(folder)
    assert embed(max_tokens=10, options=Options(append=True))


def test_append_wants_whole_files_and_not_fewer_rows(embed, folder):
    with pytest.raises(
        InputError,
        match="--append extends the files of launch.embed, but these are absent, or not made by launch.embed; run without --append",
    ):
        embed(options=Options(append=True))
    embed()
    lines = (folder / "items.jsonl").read_text().splitlines(True)
    (folder / "items.jsonl").write_text("".join(lines[:29]))
    (folder / "inter.txt").write_text("".join(f"1 {n}\n" for n in range(1, 30)))
    with pytest.raises(InputError, match="of 30 items and 12 users, but the data have 29 and 1; expected"):
        embed(options=Options(append=True))
    np.save(folder / "user_emb.npy", np.ones((12, WIDTH), np.float32))
    with pytest.raises(InputError, match="but these are damaged, or replaced; run without --append"):
        embed(options=Options(append=True))


def test_the_plain_command_renews_what_append_left_as_it_was(embed, server, folder, capsys):
    embed()
    _grow(folder)
    embed(options=Options(append=True))
    appended = listing(folder)
    count = len(server.requests)
    embed(options=Options(append=True))
    assert listing(folder) == appended and len(server.requests) == count
    server.paid.clear()
    embed()  # the same data, but user 1 went on
    assert server.paid == {texts_of(folder)[33]: 1}
    np.testing.assert_array_equal(np.concatenate(arrays(folder)), wanted(folder))
    capsys.readouterr()
    embed()
    assert capsys.readouterr().out == f"{folder}: the embeddings are up to date; nothing to do\n"

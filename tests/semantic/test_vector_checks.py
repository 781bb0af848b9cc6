"""Vectors that say nothing: zeros for a text, one vector for many texts; in files, too."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import reading
from llmesr_jax.semantic import embed as embed_lib
from llmesr_jax.semantic import file_checks, sources, vector_checks
from llmesr_jax.semantic.embed import Options
from llmesr_jax.semantic.encoders import npy, tfidf
from llmesr_jax.semantic.texts import Wording


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Blue  mug!", "blue mug"),
        ("Crème Brûlée", "creme brulee"),
        ("!!!", "!!!"),
        ("ẞ", "ss"),
        ("蓝 杯", "蓝 杯"),
        ("A" * 600, "a" * 500),
    ],
)
def test_texts_as_models_without_case_and_accents_read_them(text, plain):
    assert vector_checks.plain(text) == plain


@given(st.lists(st.integers(0, 4), max_size=30))
def test_rows_that_share_a_vector(kinds):
    vectors = np.array([[kind, 1.5] for kind in kinds], np.float32).reshape(-1, 2)
    found = vector_checks.sharing(vector_checks.hashes([vectors[:7], vectors[7:]]))
    wanted = [[i for i, kind in enumerate(kinds) if kind == one] for one in range(5)]
    assert sorted(map(list, found)) == sorted(rows for rows in wanted if len(rows) > 2)


def test_rows_that_are_wrong():
    vectors = np.array([[1, 0], [0, 0], [1, 0], [0, 0], [1, 0], [2, 0], [2, 0], [3, 0], [3, 0], [3, 0]], np.float32)
    texts = [(True, "a"), (True, "b"), (True, "c"), (False, ""), (True, "d"), (True, "e"), (True, "f")]
    texts += [(True, "g"), (True, "g"), (True, "h")]  # three rows, but two texts
    shared = "the same vector as 2 others with other texts"
    assert vector_checks.wrong_rows(vectors, lambda: texts) == {0: shared, 1: "a row of zeros", 2: shared, 4: shared}
    assert vector_checks.wrong_rows(vectors[5:9], lambda: 1 / 0) == {}  # no text is looked at


@pytest.fixture
def given_files(folder):
    """save(items, users) into the folder's parent; -> Config of npy."""

    def save(items, users=None):
        np.save(folder.parent / "i.npy", items)
        if users is not None:
            np.save(folder.parent / "u.npy", users)
        return npy.Config(str(folder.parent / "i.npy"), str(folder.parent / "u.npy") if users is not None else "")

    return save


def embed(folder, config, encoder="npy", **options):
    embed_lib.embed(reading.load("toy", folder), encoder, config, Wording(), Options(**options))


def vectors(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)


def test_files_with_zeros_for_texts_are_refused_or_skipped(folder, given_files, capsys):
    items, users = vectors(30), vectors(12, 1)
    items[[4, 29]], users[3] = 0, 0  # item 30 has no text
    (folder / "item_ids.txt").write_text("".join(f"B{n}\n" for n in range(30)))
    config = given_files(items, users)
    with pytest.raises(
        InputError, match=r'--item_file: 1 of 30 items have no .* row 4 \(item B4 "thing 4"\): a row of'
    ):
        embed(folder, config)
    assert not (folder / "item_emb.npy").exists()
    embed(folder, config, skip_failed=True)
    assert 'item B4 "thing 4"' in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(folder / "item_emb.npy"), items)
    made = json.loads((folder / "embeddings.json").read_text())
    assert made["counts"]["skipped"] == 2
    assert made["skipped"][1] == {"row": "user 4", "reason": "a row of zeros"}
    with pytest.raises(InputError, match="1 of 30 items"):  # the plain command does not take that for done
        embed(folder, config)


def test_files_with_one_vector_for_many_items(folder, given_files):
    items = vectors(30)
    items[[0, 28]] = items[7]  # two titles, "thing 0" twice
    embed(folder, given_files(items))
    items[9] = items[7]
    config = given_files(items)
    with pytest.raises(InputError, match="4 of 30 items have no usable .* the same vector as 3 others with other"):
        embed(folder, config, overwrite=True)
    embed(folder, config, overwrite=True, skip_failed=True)
    assert np.flatnonzero(~np.load(folder / "item_emb.npy").any(axis=1)).tolist() == [0, 7, 9, 28]
    with pytest.raises(InputError, match="30 of 30 items have no usable vector: .*; embed them again$"):
        embed(folder, given_files(np.ones((30, 4))), overwrite=True, skip_failed=True)


def test_users_with_the_same_items_may_have_one_vector(folder, given_files):
    (folder / "inter.txt").write_text("".join(f"{u} {i}\n" for u in range(1, 7) for i in range(1, 31)))
    embed(folder, given_files(vectors(30), np.ones((6, 4))))
    np.testing.assert_array_equal(np.load(folder / "user_emb.npy"), np.ones((6, 4)))


def test_files_in_the_data_folder_are_checked_when_they_are_read(folder):
    items = vectors(30)
    items[4] = 0
    np.save(folder / "item_emb.npy", items)
    corpus = reading.load("toy", folder)
    with pytest.raises(
        InputError, match="item_emb.npy: 1 of 30 items have no .*--encoder=npy --item_file=FILE --skip_f"
    ):
        sources.semantics_of(corpus, sources.SemanticConfig())
    embed(folder, npy.Config(str(folder / "item_emb.npy")), overwrite=True, skip_failed=True)
    sources.semantics_of(corpus, sources.SemanticConfig())  # what was skipped on purpose is not asked about again


def test_where_no_texts_are_known_zeros_are_only_warned_of(folder, caplog):
    (folder / "items.jsonl").unlink()
    items = vectors(30)
    items[[4, 5]] = 0
    np.save(folder / "item_emb.npy", items)
    with caplog.at_level("WARNING"):
        sources.semantics_of(reading.load("toy", folder), sources.SemanticConfig())
    assert (
        "item_emb.npy: 2 rows are zeros; without items.jsonl it is not known whether these items or users have a text"
        in caplog.text
    )


def test_tfidf_counts_texts_without_known_words(folder, caplog):
    records = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    for record in records:
        record["title"] = f"kind{record['item_id'] % 5} mug" if record["item_id"] % 3 else "a !"
    (folder / "items.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    with caplog.at_level("WARNING"):
        embed(folder, tfidf.Config(width=4), "tfidf")
    assert "10 items have a text without a word that distinguishes items; their vectors are zeros" in caplog.text
    assert (~np.load(folder / "item_emb.npy").any(axis=1)).sum() == 10


def test_what_tells_rows_apart_where_the_template_is_not_known(folder):
    texts = list(file_checks._texts(reading.load("toy", folder), "items"))
    assert texts[0] == texts[28] == (True, "thing 0") and texts[29] == (False, "")

"""What is computed once is kept, and made again when anything that it follows from changes."""

import dataclasses

import numpy as np
import pytest
from toy_tables import (
    ALL,
    assert_same,
    prepared,
    save,
    without_builders,
)

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.reading import read_folder
from llmesr_jax.semantic.tables import digest


@pytest.mark.parametrize("source", ["files", "texts", "items-only", "demo"])
def test_a_second_run_computes_nothing(corpus, monkeypatch, source):
    if source == "demo":
        corpus = dataclasses.replace(corpus, name="demo", folder=None)
    elif source != "texts":
        save(corpus)
    if source == "items-only":
        (corpus.folder / "user_emb.npy").unlink()
    first = prepared(corpus)
    without_builders(monkeypatch)
    monkeypatch.setattr("hashlib.file_digest", None)  # nor are unchanged sources hashed
    assert_same(prepared(corpus), first)
    assert digest(prepared(corpus)) == digest(first)


def test_widths_are_kept_side_by_side(corpus, monkeypatch):
    save(corpus)
    first = {width: prepared(corpus, pca_width=width, num_similar=width) for width in (4, 8)}
    without_builders(monkeypatch)
    for width, wanted in first.items():
        assert_same(prepared(corpus, pca_width=width, num_similar=width), wanted)


@pytest.mark.parametrize("encoder", ["files", "tfidf"])
def test_changed_interactions_texts_or_files_are_made_again(corpus, encoder):
    item_llm, user_llm = save(corpus)
    before = prepared(corpus, encoder=encoder)
    if encoder == "files":
        save(corpus, item_llm[::-1], user_llm[::-1])
    else:
        numbered = enumerate(corpus.item_records)
        records = tuple({**record, "title": f"{record['title']} {n % 3}thing"} for n, record in numbered)
        corpus = dataclasses.replace(corpus, item_records=records)
    after = prepared(corpus, encoder=encoder)
    for name in ALL - {"item_popularity", "tail_item", "tail_user"}:
        assert not np.array_equal(before[name], after[name]), name
    fresh = prepared(corpus, encoder=encoder, cache_dir=str(corpus.folder / "another"))
    assert_same(after, fresh)


@pytest.mark.parametrize("user_file", [False, True])
def test_other_interactions_move_users_unless_their_embeddings_are_given(corpus, user_file):
    save(corpus)
    if not user_file:
        (corpus.folder / "user_emb.npy").unlink()
    before = prepared(corpus)
    lines = (corpus.folder / "inter.txt").read_text().splitlines()
    users, items = np.array([line.split() for line in lines], int).T
    np.savetxt(corpus.folder / "inter.txt", np.stack([users, items[::-1]], 1), fmt="%d")
    after = prepared(read_folder("toy", corpus.folder))
    assert np.array_equal(before["similar_users"], after["similar_users"]) is user_file
    np.testing.assert_array_equal(before["item_pca"], after["item_pca"])


def test_a_damaged_cache_is_mended(corpus):
    first = prepared(corpus)
    kept = sorted((corpus.folder / "cache").glob("*.npy"))
    assert [path.name for path in kept] == [
        "item_pca_4.npy", "similar_users_7.npy", "tfidf_item_128.npy", "tfidf_user_128.npy",
        "users_embedded.npy",
    ]  # fmt: skip
    for path in kept:
        path.write_bytes(path.read_bytes()[:-3])
    assert_same(prepared(corpus), first)


def test_cache_folder_is_a_setting_and_falls_back_to_the_users_own(corpus, tmp_path):
    prepared(corpus, cache_dir=str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "manifest.json").exists() and not (corpus.folder / "cache").exists()
    (corpus.folder / "cache").touch()  # a file in its place
    prepared(corpus)
    assert list((tmp_path / "xdg").glob("llmesr_jax/toy-*/manifest.json"))


@pytest.mark.parametrize("wrong", ["items", "users"])
def test_a_bad_file_stops_before_anything_is_written(corpus, wrong):
    item_llm, user_llm = save(corpus)
    array = {"items": item_llm, "users": user_llm}[wrong]
    array[3, 0] = np.nan
    save(corpus, item_llm, user_llm)
    with pytest.raises(InputError, match=rf"{wrong[:-1]}_emb.npy: row 3 \(id 4\) holds NaN"):
        prepared(corpus)
    assert not (corpus.folder / "cache").exists()


def test_a_file_accepted_once_is_refused_when_the_number_of_items_changes(corpus):
    save(corpus)
    prepared(corpus)
    with pytest.raises(InputError, match=f"item_emb.npy: has {corpus.num_items} rows; expected {corpus.num_items - 1}"):
        prepared(dataclasses.replace(corpus, num_items=corpus.num_items - 1))

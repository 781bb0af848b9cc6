"""Tables of embeddings and what is made of them, from files and from texts."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from threadpoolctl import threadpool_limits
from toy_tables import (
    assert_same,
    prepared,
    save,
    tables_of,
    without_builders,
)

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.reading import load
from llmesr_jax.semantic import pca, tables
from llmesr_jax.semantic.encoders import tfidf
from llmesr_jax.semantic.prompts import item_prompt
from llmesr_jax.semantic.similar_users import similar_users
from llmesr_jax.semantic.stand_ins import mean_of_items
from llmesr_jax.semantic.tables import SemanticConfig, digest


def test_files_give_the_tables(corpus):
    item_llm, user_llm = save(corpus)
    got = prepared(corpus)
    assert got["item_llm"].shape == (corpus.num_items + 2, 12) and got["item_llm"].dtype == np.float32
    np.testing.assert_array_equal(got["item_llm"][1:-1], item_llm)
    np.testing.assert_array_equal(got["item_pca"][1:-1], pca.pca_start(item_llm, 4, seed=42))
    assert not got["item_llm"][[0, -1]].any() and not got["item_pca"][[0, -1]].any()
    np.testing.assert_array_equal(got["similar_users"], similar_users(user_llm, 7), strict=True)


def test_only_what_is_needed_is_made(corpus, monkeypatch):
    save(corpus)
    assert prepared(corpus, needs=frozenset()) == {} and not (corpus.folder / "cache").exists()
    without_builders(monkeypatch)
    assert prepared(corpus, needs=frozenset({"item_llm"})).keys() == {"item_llm"}
    with pytest.raises(InputError, match="unknown tables.*item_lm"):
        prepared(corpus, needs=frozenset({"item_lm"}))


def test_texts_give_the_tables_where_no_file_does(corpus):
    item_llm, user_llm = tfidf.latent([item_prompt(record) for record in corpus.item_records], corpus, 16, seed=42)
    got = prepared(corpus, tfidf_width=16)
    np.testing.assert_array_equal(got["item_llm"][1:-1], item_llm)
    np.testing.assert_array_equal(got["similar_users"], similar_users(user_llm, 7))
    save(corpus)
    assert not np.array_equal(prepared(corpus, tfidf_width=16)["item_llm"], got["item_llm"])
    assert_same(prepared(corpus, tfidf_width=16, encoder="tfidf"), got)


def test_popularity_counts_training_interactions_and_is_never_0(corpus):
    table = prepared(corpus, needs=frozenset({"item_popularity"}))["item_popularity"]
    training = [corpus.items[a : a + n].tolist() for a, n in zip(corpus.offsets, corpus.train_lengths_U)]
    flat = [item for part in training for item in part]
    wanted = [max(flat.count(item), 1) for item in range(1, corpus.num_items + 1)]
    assert table.tolist() == [0, *wanted, 0] and table.dtype == np.int32


def test_users_without_a_file_are_the_mean_of_their_training_items(corpus):
    item_llm, _ = save(corpus)
    (corpus.folder / "user_emb.npy").unlink()
    np.testing.assert_array_equal(prepared(corpus)["similar_users"], similar_users(mean_of_items(item_llm, corpus), 7))


def test_users_and_items_of_other_widths(corpus):
    """Refused where one network maps both, and nowhere else."""
    users = np.random.default_rng(1).normal(size=(corpus.num_users, 9)).astype(np.float16)
    item_llm, _ = save(corpus, users=users)
    with pytest.raises(InputError, match=r"user_emb.npy: is 9 wide and item_emb.npy is 12; expected one width, "):
        prepared(corpus, needs=frozenset({"item_llm", "user_llm"}))
    got = prepared(corpus, needs=frozenset({"user_llm", "similar_users"}))
    np.testing.assert_array_equal(got["user_llm"], users.astype(np.float32))
    assert got["user_llm"].dtype == np.float32 and set(got) == {"user_llm", "similar_users"}
    np.testing.assert_array_equal(prepared(corpus, needs=frozenset({"item_llm"}))["item_llm"][1:-1], item_llm)


def test_users_with_a_file_and_items_without(corpus):
    """Two spaces, also where the widths agree; said, and refused where one network maps both."""
    save(corpus)
    (corpus.folder / "item_emb.npy").unlink()
    told = tables.describe(corpus, SemanticConfig())
    assert told == "item embeddings are TF-IDF of the item texts, user embeddings user_emb.npy"
    needs = frozenset({"item_llm", "user_llm"})
    with pytest.raises(
        InputError, match="user_emb.npy: has embeddings of users, but there are none of items beside it"
    ):
        prepared(corpus, needs=needs, tfidf_width=12)
    got = prepared(corpus, needs=needs, encoder="tfidf")
    assert got["user_llm"].shape[1] == got["item_llm"].shape[1]


def test_nothing_to_embed_says_what_to_bring(corpus):
    bare = dataclasses.replace(corpus, item_records=None)
    rows = rf"item_emb.npy \({corpus.num_items} rows; user_emb.npy, {corpus.num_users} rows, is optional\)"
    wanted = f"expected items.jsonl .* or {rows}"
    with pytest.raises(InputError, match=wanted):
        prepared(bare)
    with pytest.raises(InputError, match="no item_emb.npy, but .*`python -m launch.embed --dataset=toy`"):
        prepared(corpus, encoder="files")


def test_half_a_surrogate_pair_in_a_title_is_text_like_any_other(corpus):
    records = ({**corpus.item_records[0], "title": "half \ud83d emoji"}, *corpus.item_records[1:])
    got = prepared(dataclasses.replace(corpus, item_records=records), needs=frozenset({"item_llm"}))
    assert np.isfinite(got["item_llm"]).all()


def test_crop_is_another_text_and_refuses_given_embeddings(corpus):
    assert not np.array_equal(prepared(corpus)["item_llm"], prepared(corpus, crop=True)["item_llm"])
    save(corpus)
    with pytest.raises(InputError, match="item_emb.npy: existing embeddings cannot be cropped"):
        prepared(corpus, crop=True)


def test_embeddings_of_another_folder(corpus):
    """A second set beside the data's own; what is computed from either is its own."""
    own, _ = save(corpus)
    (corpus.folder / "crop").mkdir()
    cropped, users = own[::-1].copy(), np.random.default_rng(6).normal(size=(corpus.num_users, 12)).astype(np.float32)
    np.save(corpus.folder / "crop" / "item_emb.npy", cropped)
    np.save(corpus.folder / "crop" / "user_emb.npy", users)
    for folder in ("crop", str(corpus.folder / "crop")):
        got = prepared(corpus, folder=folder)
        np.testing.assert_array_equal(got["item_llm"][1:-1], cropped)
        np.testing.assert_array_equal(got["item_pca"][1:-1], pca.pca_start(cropped, 4, seed=42))
        np.testing.assert_array_equal(got["similar_users"], similar_users(users, 7))
    np.testing.assert_array_equal(prepared(corpus)["item_llm"][1:-1], own)
    assert "item_emb.npy (of crop)" in tables.describe(corpus, SemanticConfig(folder="crop"))
    with pytest.raises(InputError, match="semantic.folder=gone: .*toy/gone has no item_emb.npy; expected a folder of"):
        prepared(corpus, folder="gone")
    with pytest.raises(
        InputError, match="semantic.folder=crop: names embedding files, but semantic.encoder=tfidf reads"
    ):
        prepared(corpus, folder="crop", encoder="tfidf")


def test_a_template_of_the_users_own(corpus):
    template = "{title}[ by {brand}]"
    texts = [f"{r['title']} by {r['brand']}" if "brand" in r else r["title"] for r in corpus.item_records]
    got = prepared(corpus, item_template=template, tfidf_width=16)
    np.testing.assert_array_equal(got["item_llm"][1:-1], tfidf.latent(texts, corpus, 16, seed=42)[0])
    with pytest.raises(
        InputError, match="item_template: no item has a field 'brnd'; expected noun or some of: brand, "
    ):
        prepared(corpus, item_template="{title} {brnd}")
    save(corpus)
    with pytest.raises(InputError, match="item_emb.npy: existing embeddings were not made with semantic.item_template"):
        prepared(corpus, item_template=template)
    made = {"made_by": {"item_template": template}, "inputs": {}, "arrays": {}}
    (corpus.folder / "embeddings.json").write_text(json.dumps(made))
    assert prepared(corpus, item_template=template)["item_llm"].shape[1] == 12


def test_files_that_were_being_replaced_are_not_used(corpus):
    save(corpus)
    (corpus.folder / "embeddings.json").write_text('{"made_by": {}, "inputs": {}, "arrays": {}, "incomplete": true}')
    with pytest.raises(InputError, match="launch.embed was stopped while it wrote"):
        prepared(corpus)


def test_the_authors_folder(corpus, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {
        "itm_emb_np": rng.normal(size=(corpus.num_items, 12)),
        "usr_emb_np": rng.normal(size=(corpus.num_users, 12)),
        "pca64_itm_emb_np": rng.normal(size=(corpus.num_items, 4)),
        "sim_user_100": rng.integers(0, corpus.num_users, (corpus.num_users, 9)),
    }
    handled = corpus.folder / "handled"
    handled.mkdir()
    for name, array in arrays.items():
        (handled / f"{name}.pkl").write_bytes(pickle.dumps(array))
    (corpus.folder / "inter.txt").rename(handled / "inter.txt")
    corpus = load("toy", corpus.folder)
    with monkeypatch.context() as patched:
        without_builders(patched)
        got = prepared(corpus)
    np.testing.assert_array_equal(got["item_llm"][1:-1], arrays["itm_emb_np"].astype(np.float32))
    np.testing.assert_array_equal(got["item_pca"][1:-1], arrays["pca64_itm_emb_np"].astype(np.float32))
    np.testing.assert_array_equal(got["similar_users"], arrays["sim_user_100"][:, :7])
    other = prepared(corpus, pca_width=5, num_similar=10)  # not the authors' sizes: computed from their embeddings
    wanted = pca.pca_start(arrays["itm_emb_np"].astype(np.float32), 5, seed=42)
    np.testing.assert_array_equal(other["item_pca"][1:-1], wanted)
    np.testing.assert_array_equal(other["similar_users"], similar_users(arrays["usr_emb_np"], 10))


@pytest.mark.parametrize("source", ["files", "pickles", "items-only"])
def test_users_without_an_embedding_have_no_similar_users_and_are_nobodys(corpus, source):
    """Users 0 and 7 have vectors of zeros: they got users 0 to 6 as teachers. The authors' pickle is then not used."""
    records = [json.dumps({"item_id": item, "title": ""}) + "\n" for item in range(1, corpus.num_items + 1)]
    (corpus.folder / "items.jsonl").write_text("".join(records))  # with texts, zeros are refused
    corpus = load("toy", corpus.folder)
    item_llm, user_llm = save(corpus)
    if source == "items-only":  # a user is the mean of the items, here of items whose text was empty
        (corpus.folder / "user_emb.npy").unlink()
        of_7 = corpus.items[corpus.offsets[7] :][: corpus.train_lengths_U[7]]
        of_0 = corpus.items[corpus.offsets[0] :][: corpus.train_lengths_U[0]]
        item_llm[np.concatenate([of_0, of_7]) - 1] = 0
        np.save(corpus.folder / "item_emb.npy", item_llm)
        user_llm = mean_of_items(item_llm, corpus)
    before = tables_of(corpus, needs=frozenset({"similar_users"})).recipe
    user_llm[[0, 7]] = 0
    if source == "files":
        np.save(corpus.folder / "user_emb.npy", user_llm)
    if source == "pickles":
        (corpus.folder / "handled").mkdir()
        for name in ("user_emb.npy", "item_emb.npy"):
            (corpus.folder / name).unlink()
        arrays = {"itm_emb_np": item_llm, "usr_emb_np": user_llm}
        arrays["sim_user_100"] = np.tile(np.arange(9), (corpus.num_users, 1))
        for name, array in arrays.items():
            (corpus.folder / "handled" / f"{name}.pkl").write_bytes(pickle.dumps(array))
        (corpus.folder / "inter.txt").rename(corpus.folder / "handled" / "inter.txt")
        corpus = load("toy", corpus.folder)
    got = tables_of(corpus, needs=frozenset({"similar_users"}))
    similar = got.arrays["similar_users"]
    without = np.flatnonzero(~user_llm.any(axis=1))
    assert {0, 7} <= set(without) and len(without) < corpus.num_users / 2
    assert (similar[without] == -1).all()
    others = np.delete(similar, without, axis=0)
    assert (others >= 0).all() and not np.isin(others, without).any()
    assert (got.recipe == before) is (source == "items-only")  # what was made without knowing of zeros is not used


def test_the_authors_similar_users_alone_are_used_as_they_are(corpus):
    (corpus.folder / "handled").mkdir()
    given = np.tile(np.arange(9), (corpus.num_users, 1))
    (corpus.folder / "handled" / "sim_user_100.pkl").write_bytes(pickle.dumps(given))
    (corpus.folder / "inter.txt").rename(corpus.folder / "handled" / "inter.txt")
    corpus = load("toy", corpus.folder)
    np.testing.assert_array_equal(prepared(corpus, needs=frozenset({"similar_users"}))["similar_users"], given[:, :7])


def test_the_recipe_tells_files_texts_and_settings_and_nothing_else(corpus):
    def recipe(**settings):
        return tables_of(corpus, **settings).recipe

    texts = recipe()
    assert recipe(cache_dir=str(corpus.folder / "elsewhere")) == texts
    assert len({texts, recipe(seed=1), recipe(pca_width=5), recipe(num_similar=6), recipe(crop=True)}) == 5
    assert recipe(encoder="random") != recipe(encoder="random", seed=1) != texts
    item_llm, user_llm = save(corpus)
    files = recipe()
    assert files not in {texts, recipe(pca_width=5)} and recipe() == files
    save(corpus, item_llm + 1, user_llm)
    assert recipe() != files
    assert recipe(needs=frozenset({"similar_users"})) != recipe(needs=frozenset({"item_llm"}))
    assert recipe(needs=frozenset()) == ""


def test_tables_do_not_depend_on_the_number_of_threads(tmp_path):
    corpus = load("demo", None)
    made = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            made.append(prepared(corpus, pca_width=64, num_similar=10, cache_dir=str(tmp_path / str(threads))))
    assert_same(*made)


def test_digest_tells_name_type_shape_and_content():
    base = {"x": np.zeros((2, 3), np.float32), "y": np.ones(2, np.int32)}
    assert digest(base) == digest(dict(reversed(base.items())))
    changes = ({"x": np.zeros((3, 2), np.float32)}, {"y": np.ones(2, np.int64)}, {"y": np.array([1, 0], np.int32)})
    others = [digest({**base, **change}) for change in changes] + [digest({"x": base["x"], "z": base["y"]})]
    assert len({digest(base), *others}) == 5


def test_real_embeddings_load(shared, tmp_path):
    if not (shared / "data/beauty5").is_dir():
        pytest.skip(f"{shared}/data/beauty5 is absent")
    corpus = load("beauty5", shared / "data/beauty5")
    got = prepared(corpus, needs=frozenset({"item_llm", "item_pca"}), pca_width=64, cache_dir=str(tmp_path))
    assert got["item_llm"].shape == (12103, 384) and got["item_pca"].shape == (12103, 64)


def test_tables_on_the_device_are_constants():
    """A read-only table is not copied on a CPU; one that can be written to is, as writing must not reach the device."""
    made, own = tables.with_padding_and_mask(np.ones((40, 3), np.float16)), np.ones((64, 16), np.float32)
    found = tables.on_device({"made": made, "own": own})
    own[:] = 2
    assert np.asarray(found["own"]).max() == 1
    assert not made.flags.writeable and made.ctypes.data % 64 == 0
    assert found["made"].unsafe_buffer_pointer() == made.ctypes.data
    np.testing.assert_array_equal(found["made"], np.pad(np.ones((40, 3), np.float32), ((1, 1), (0, 0))), strict=True)

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from llmesr_jax.core.axes import TABLES
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import synthetic
from llmesr_jax.data.reading import load, read_folder
from llmesr_jax.semantic import pca, tables
from llmesr_jax.semantic.encoders import tfidf
from llmesr_jax.semantic.mapped import Access, MappedTable
from llmesr_jax.semantic.prompts import item_prompt
from llmesr_jax.semantic.similar_users import similar_users
from llmesr_jax.semantic.stand_ins import mean_of_items
from llmesr_jax.semantic.tables import SemanticConfig, digest, prepare

_ALL = frozenset(TABLES)
_BUILDERS = ("tables.pca_start", "tables.similar_users", "encoders.tfidf.latent")


@pytest.fixture(autouse=True)
def _user_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def corpus(tmp_path):
    """60 users with texts, in a folder, without embeddings."""
    synthetic.write(synthetic.demo(num_users=60, num_items=80), tmp_path / "toy")
    return read_folder("toy", tmp_path / "toy")


def _save(corpus, items=None, users=None):
    rng = np.random.default_rng(5)
    item_llm = rng.normal(size=(corpus.num_items, 12)).astype(np.float32) if items is None else items
    user_llm = rng.normal(size=(corpus.num_users, 12)).astype(np.float32) if users is None else users
    np.save(corpus.folder / "item_emb.npy", item_llm)
    np.save(corpus.folder / "user_emb.npy", user_llm)
    return item_llm, user_llm


def _tables(corpus, needs=_ALL, pca_width=4, access=Access(), **settings):
    config = SemanticConfig(**{"num_similar": 7, **settings})
    return prepare(corpus, config, needs=needs, pca_width=pca_width, access=access)


def _prepare(corpus, **settings):
    return _tables(corpus, **settings).arrays


def _without_builders(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("computed again")

    for name in _BUILDERS:
        monkeypatch.setattr(f"llmesr_jax.semantic.{name}", fail)


def _assert_same(got, wanted):
    assert got.keys() == wanted.keys()
    for name, table in wanted.items():
        np.testing.assert_array_equal(got[name], table, strict=True)


def test_files_give_the_tables(corpus):
    item_llm, user_llm = _save(corpus)
    got = _prepare(corpus)
    assert got["item_llm"].shape == (corpus.num_items + 2, 12) and got["item_llm"].dtype == np.float32
    np.testing.assert_array_equal(got["item_llm"][1:-1], item_llm)
    np.testing.assert_array_equal(got["item_pca"][1:-1], pca.pca_start(item_llm, 4, seed=42))
    assert not got["item_llm"][[0, -1]].any() and not got["item_pca"][[0, -1]].any()
    np.testing.assert_array_equal(got["similar_users"], similar_users(user_llm, 7), strict=True)


def test_only_what_is_needed_is_made(corpus, monkeypatch):
    _save(corpus)
    assert _prepare(corpus, needs=frozenset()) == {} and not (corpus.folder / "cache").exists()
    _without_builders(monkeypatch)
    assert _prepare(corpus, needs=frozenset({"item_llm"})).keys() == {"item_llm"}
    with pytest.raises(InputError, match="unknown tables.*item_lm"):
        _prepare(corpus, needs=frozenset({"item_lm"}))


def test_texts_give_the_tables_where_no_file_does(corpus):
    item_llm, user_llm = tfidf.latent([item_prompt(record) for record in corpus.item_records], corpus, 16, seed=42)
    got = _prepare(corpus, tfidf_width=16)
    np.testing.assert_array_equal(got["item_llm"][1:-1], item_llm)
    np.testing.assert_array_equal(got["similar_users"], similar_users(user_llm, 7))
    _save(corpus)
    assert not np.array_equal(_prepare(corpus, tfidf_width=16)["item_llm"], got["item_llm"])
    _assert_same(_prepare(corpus, tfidf_width=16, encoder="tfidf"), got)


def test_popularity_counts_training_interactions_and_is_never_0(corpus):
    table = _prepare(corpus, needs=frozenset({"item_popularity"}))["item_popularity"]
    training = [corpus.items[a : a + n].tolist() for a, n in zip(corpus.offsets, corpus.train_lengths_U)]
    flat = [item for part in training for item in part]
    wanted = [max(flat.count(item), 1) for item in range(1, corpus.num_items + 1)]
    assert table.tolist() == [0, *wanted, 0] and table.dtype == np.int32


def test_users_without_a_file_are_the_mean_of_their_training_items(corpus):
    item_llm, _ = _save(corpus)
    (corpus.folder / "user_emb.npy").unlink()
    np.testing.assert_array_equal(_prepare(corpus)["similar_users"], similar_users(mean_of_items(item_llm, corpus), 7))


@pytest.mark.parametrize("source", ["files", "texts", "items-only", "demo"])
def test_a_second_run_computes_nothing(corpus, monkeypatch, source):
    if source == "demo":
        corpus = dataclasses.replace(corpus, name="demo", folder=None)
    elif source != "texts":
        _save(corpus)
    if source == "items-only":
        (corpus.folder / "user_emb.npy").unlink()
    first = _prepare(corpus)
    _without_builders(monkeypatch)
    monkeypatch.setattr("hashlib.file_digest", None)  # nor are unchanged sources hashed
    _assert_same(_prepare(corpus), first)
    assert digest(_prepare(corpus)) == digest(first)


def test_users_and_items_of_other_widths(corpus):
    """Refused where one network maps both, and nowhere else."""
    users = np.random.default_rng(1).normal(size=(corpus.num_users, 9)).astype(np.float16)
    item_llm, _ = _save(corpus, users=users)
    with pytest.raises(InputError, match=r"user_emb.npy: is 9 wide and item_emb.npy is 12; expected one width, "):
        _prepare(corpus, needs=frozenset({"item_llm", "user_llm"}))
    got = _prepare(corpus, needs=frozenset({"user_llm", "similar_users"}))
    np.testing.assert_array_equal(got["user_llm"], users.astype(np.float32))
    assert got["user_llm"].dtype == np.float32 and set(got) == {"user_llm", "similar_users"}
    np.testing.assert_array_equal(_prepare(corpus, needs=frozenset({"item_llm"}))["item_llm"][1:-1], item_llm)


def test_users_with_a_file_and_items_without(corpus):
    """Two spaces, also where the widths agree; said, and refused where one network maps both."""
    _save(corpus)
    (corpus.folder / "item_emb.npy").unlink()
    told = tables.describe(corpus, SemanticConfig())
    assert told == "item embeddings are TF-IDF of the item texts, user embeddings user_emb.npy"
    needs = frozenset({"item_llm", "user_llm"})
    with pytest.raises(
        InputError, match="user_emb.npy: has embeddings of users, but there are none of items beside it"
    ):
        _prepare(corpus, needs=needs, tfidf_width=12)
    got = _prepare(corpus, needs=needs, encoder="tfidf")
    assert got["user_llm"].shape[1] == got["item_llm"].shape[1]


def test_widths_are_kept_side_by_side(corpus, monkeypatch):
    _save(corpus)
    first = {width: _prepare(corpus, pca_width=width, num_similar=width) for width in (4, 8)}
    _without_builders(monkeypatch)
    for width, wanted in first.items():
        _assert_same(_prepare(corpus, pca_width=width, num_similar=width), wanted)


@pytest.mark.parametrize("encoder", ["files", "tfidf"])
def test_changed_interactions_texts_or_files_are_made_again(corpus, encoder):
    item_llm, user_llm = _save(corpus)
    before = _prepare(corpus, encoder=encoder)
    if encoder == "files":
        _save(corpus, item_llm[::-1], user_llm[::-1])
    else:
        numbered = enumerate(corpus.item_records)
        records = tuple({**record, "title": f"{record['title']} {n % 3}thing"} for n, record in numbered)
        corpus = dataclasses.replace(corpus, item_records=records)
    after = _prepare(corpus, encoder=encoder)
    for name in _ALL - {"item_popularity", "tail_item", "tail_user"}:
        assert not np.array_equal(before[name], after[name]), name
    fresh = _prepare(corpus, encoder=encoder, cache_dir=str(corpus.folder / "another"))
    _assert_same(after, fresh)


@pytest.mark.parametrize("user_file", [False, True])
def test_other_interactions_move_users_unless_their_embeddings_are_given(corpus, user_file):
    _save(corpus)
    if not user_file:
        (corpus.folder / "user_emb.npy").unlink()
    before = _prepare(corpus)
    lines = (corpus.folder / "inter.txt").read_text().splitlines()
    users, items = np.array([line.split() for line in lines], int).T
    np.savetxt(corpus.folder / "inter.txt", np.stack([users, items[::-1]], 1), fmt="%d")
    after = _prepare(read_folder("toy", corpus.folder))
    assert np.array_equal(before["similar_users"], after["similar_users"]) is user_file
    np.testing.assert_array_equal(before["item_pca"], after["item_pca"])


def test_a_damaged_cache_is_mended(corpus):
    first = _prepare(corpus)
    kept = sorted((corpus.folder / "cache").glob("*.npy"))
    assert [path.name for path in kept] == [
        "item_pca_4.npy", "similar_users_7.npy", "tfidf_item_128.npy", "tfidf_user_128.npy",
        "users_embedded.npy",
    ]  # fmt: skip
    for path in kept:
        path.write_bytes(path.read_bytes()[:-3])
    _assert_same(_prepare(corpus), first)


def test_cache_folder_is_a_setting_and_falls_back_to_the_users_own(corpus, tmp_path):
    _prepare(corpus, cache_dir=str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "manifest.json").exists() and not (corpus.folder / "cache").exists()
    (corpus.folder / "cache").touch()  # a file in its place
    _prepare(corpus)
    assert list((tmp_path / "xdg").glob("llmesr_jax/toy-*/manifest.json"))


@pytest.mark.parametrize("wrong", ["items", "users"])
def test_a_bad_file_stops_before_anything_is_written(corpus, wrong):
    item_llm, user_llm = _save(corpus)
    array = {"items": item_llm, "users": user_llm}[wrong]
    array[3, 0] = np.nan
    _save(corpus, item_llm, user_llm)
    with pytest.raises(InputError, match=rf"{wrong[:-1]}_emb.npy: row 3 \(id 4\) holds NaN"):
        _prepare(corpus)
    assert not (corpus.folder / "cache").exists()


def test_a_file_accepted_once_is_refused_when_the_number_of_items_changes(corpus):
    _save(corpus)
    _prepare(corpus)
    with pytest.raises(InputError, match=f"item_emb.npy: has {corpus.num_items} rows; expected {corpus.num_items - 1}"):
        _prepare(dataclasses.replace(corpus, num_items=corpus.num_items - 1))


def test_nothing_to_embed_says_what_to_bring(corpus):
    bare = dataclasses.replace(corpus, item_records=None)
    rows = rf"item_emb.npy \({corpus.num_items} rows; user_emb.npy, {corpus.num_users} rows, is optional\)"
    wanted = f"expected items.jsonl .* or {rows}"
    with pytest.raises(InputError, match=wanted):
        _prepare(bare)
    with pytest.raises(InputError, match="no item_emb.npy, but .*`python -m launch.embed --dataset=toy`"):
        _prepare(corpus, encoder="files")


def test_half_a_surrogate_pair_in_a_title_is_text_like_any_other(corpus):
    records = ({**corpus.item_records[0], "title": "half \ud83d emoji"}, *corpus.item_records[1:])
    got = _prepare(dataclasses.replace(corpus, item_records=records), needs=frozenset({"item_llm"}))
    assert np.isfinite(got["item_llm"]).all()


def test_crop_is_another_text_and_refuses_given_embeddings(corpus):
    assert not np.array_equal(_prepare(corpus)["item_llm"], _prepare(corpus, crop=True)["item_llm"])
    _save(corpus)
    with pytest.raises(InputError, match="item_emb.npy: existing embeddings cannot be cropped"):
        _prepare(corpus, crop=True)


def test_embeddings_of_another_folder(corpus):
    """A second set beside the data's own; what is computed from either is its own."""
    own, _ = _save(corpus)
    (corpus.folder / "crop").mkdir()
    cropped, users = own[::-1].copy(), np.random.default_rng(6).normal(size=(corpus.num_users, 12)).astype(np.float32)
    np.save(corpus.folder / "crop" / "item_emb.npy", cropped)
    np.save(corpus.folder / "crop" / "user_emb.npy", users)
    for folder in ("crop", str(corpus.folder / "crop")):
        got = _prepare(corpus, folder=folder)
        np.testing.assert_array_equal(got["item_llm"][1:-1], cropped)
        np.testing.assert_array_equal(got["item_pca"][1:-1], pca.pca_start(cropped, 4, seed=42))
        np.testing.assert_array_equal(got["similar_users"], similar_users(users, 7))
    np.testing.assert_array_equal(_prepare(corpus)["item_llm"][1:-1], own)
    assert "item_emb.npy (of crop)" in tables.describe(corpus, SemanticConfig(folder="crop"))
    with pytest.raises(InputError, match="semantic.folder=gone: .*toy/gone has no item_emb.npy; expected a folder of"):
        _prepare(corpus, folder="gone")
    with pytest.raises(
        InputError, match="semantic.folder=crop: names embedding files, but semantic.encoder=tfidf reads"
    ):
        _prepare(corpus, folder="crop", encoder="tfidf")


def test_a_template_of_the_users_own(corpus):
    template = "{title}[ by {brand}]"
    texts = [f"{r['title']} by {r['brand']}" if "brand" in r else r["title"] for r in corpus.item_records]
    got = _prepare(corpus, item_template=template, tfidf_width=16)
    np.testing.assert_array_equal(got["item_llm"][1:-1], tfidf.latent(texts, corpus, 16, seed=42)[0])
    with pytest.raises(
        InputError, match="item_template: no item has a field 'brnd'; expected noun or some of: brand, "
    ):
        _prepare(corpus, item_template="{title} {brnd}")
    _save(corpus)
    with pytest.raises(InputError, match="item_emb.npy: existing embeddings were not made with semantic.item_template"):
        _prepare(corpus, item_template=template)
    made = {"made_by": {"item_template": template}, "inputs": {}, "arrays": {}}
    (corpus.folder / "embeddings.json").write_text(json.dumps(made))
    assert _prepare(corpus, item_template=template)["item_llm"].shape[1] == 12


def test_files_that_were_being_replaced_are_not_used(corpus):
    _save(corpus)
    (corpus.folder / "embeddings.json").write_text('{"made_by": {}, "inputs": {}, "arrays": {}, "incomplete": true}')
    with pytest.raises(InputError, match="launch.embed was stopped while it wrote"):
        _prepare(corpus)


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
        _without_builders(patched)
        got = _prepare(corpus)
    np.testing.assert_array_equal(got["item_llm"][1:-1], arrays["itm_emb_np"].astype(np.float32))
    np.testing.assert_array_equal(got["item_pca"][1:-1], arrays["pca64_itm_emb_np"].astype(np.float32))
    np.testing.assert_array_equal(got["similar_users"], arrays["sim_user_100"][:, :7])
    other = _prepare(corpus, pca_width=5, num_similar=10)  # not the authors' sizes: computed from their embeddings
    wanted = pca.pca_start(arrays["itm_emb_np"].astype(np.float32), 5, seed=42)
    np.testing.assert_array_equal(other["item_pca"][1:-1], wanted)
    np.testing.assert_array_equal(other["similar_users"], similar_users(arrays["usr_emb_np"], 10))


@pytest.mark.parametrize("source", ["files", "pickles", "items-only"])
def test_users_without_an_embedding_have_no_similar_users_and_are_nobodys(corpus, source):
    """Users 0 and 7 have vectors of zeros: they got users 0 to 6 as teachers. The authors' pickle is then not used."""
    records = [json.dumps({"item_id": item, "title": ""}) + "\n" for item in range(1, corpus.num_items + 1)]
    (corpus.folder / "items.jsonl").write_text("".join(records))  # with texts, zeros are refused
    corpus = load("toy", corpus.folder)
    item_llm, user_llm = _save(corpus)
    if source == "items-only":  # a user is the mean of the items, here of items whose text was empty
        (corpus.folder / "user_emb.npy").unlink()
        of_7 = corpus.items[corpus.offsets[7] :][: corpus.train_lengths_U[7]]
        of_0 = corpus.items[corpus.offsets[0] :][: corpus.train_lengths_U[0]]
        item_llm[np.concatenate([of_0, of_7]) - 1] = 0
        np.save(corpus.folder / "item_emb.npy", item_llm)
        user_llm = mean_of_items(item_llm, corpus)
    before = _tables(corpus, needs=frozenset({"similar_users"})).recipe
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
    got = _tables(corpus, needs=frozenset({"similar_users"}))
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
    np.testing.assert_array_equal(_prepare(corpus, needs=frozenset({"similar_users"}))["similar_users"], given[:, :7])


def test_the_recipe_tells_files_texts_and_settings_and_nothing_else(corpus):
    def recipe(**settings):
        return _tables(corpus, **settings).recipe

    texts = recipe()
    assert recipe(cache_dir=str(corpus.folder / "elsewhere")) == texts
    assert len({texts, recipe(seed=1), recipe(pca_width=5), recipe(num_similar=6), recipe(crop=True)}) == 5
    assert recipe(encoder="random") != recipe(encoder="random", seed=1) != texts
    item_llm, user_llm = _save(corpus)
    files = recipe()
    assert files not in {texts, recipe(pca_width=5)} and recipe() == files
    _save(corpus, item_llm + 1, user_llm)
    assert recipe() != files
    assert recipe(needs=frozenset({"similar_users"})) != recipe(needs=frozenset({"item_llm"}))
    assert recipe(needs=frozenset()) == ""


def test_tables_do_not_depend_on_the_number_of_threads(tmp_path):
    corpus = load("demo", None)
    made = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            made.append(_prepare(corpus, pca_width=64, num_similar=10, cache_dir=str(tmp_path / str(threads))))
    _assert_same(*made)


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
    got = _prepare(corpus, needs=frozenset({"item_llm", "item_pca"}), pca_width=64, cache_dir=str(tmp_path))
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


@pytest.mark.parametrize("source", ["files", "half", "items", "texts", "random"])
def test_mapped_tables_have_the_same_rows_and_digest(corpus, source):
    if source in ("files", "half", "items"):
        item_llm, user_llm = _save(corpus)
        if source == "half":  # is float32 where it is read
            _save(corpus, item_llm.astype(np.float16), user_llm.astype(np.float16))
        if source == "items":  # a user is the mean of the user's items
            (corpus.folder / "user_emb.npy").unlink()
    changes = {"encoder": "random", "random_width": 5} if source == "random" else {"tfidf_width": 8}
    wanted = _prepare(corpus, **changes)
    for access in (Access(mapped=True), Access(mapped=True, verified=True)):
        got = _prepare(corpus, access=access, **changes)
        mapped = {name for name, table in got.items() if isinstance(table, MappedTable)}
        assert mapped == {"item_llm", "item_pca", "user_llm"}
        assert all(isinstance(got[name]._rows, np.memmap) for name in mapped)
        _assert_same({name: np.asarray(table) for name, table in got.items()}, wanted)
        assert digest(got) == digest(wanted) and tables.sampled(got) != tables.sampled(
            wanted | {"item_llm": 0 * wanted["item_llm"]}
        )
        _assert_same({n: np.asarray(x) for n, x in tables.on_device(got).items()}, wanted)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_rows_of_a_mapped_table_are_those_of_the_array(data):
    rows, more = data.draw(st.integers(0, 6), "rows"), data.draw(st.integers(0, 2), "more")
    inner = np.arange(rows * 3, dtype=np.int32).reshape(rows, 3)
    whole, table = np.pad(inner, ((more, more), (0, 0))), MappedTable(inner, more)
    edge = st.none() | st.integers(-9, 9)
    at = slice(data.draw(edge, "start"), data.draw(edge, "stop"))
    np.testing.assert_array_equal(table[at], whole[at], strict=True)
    np.testing.assert_array_equal(table[at, 1:], whole[at, 1:], strict=True)
    assert table.shape == whole.shape and table.dtype == whole.dtype


def test_a_file_that_changes_while_it_is_read_is_an_error(corpus):
    _save(corpus)
    got = _prepare(corpus, needs=frozenset({"item_llm"}), access=Access(mapped=True))
    tables.brought(got, None)
    _save(corpus, items=np.zeros((corpus.num_items, 13), np.float32))
    with pytest.raises(InputError, match="item_emb.npy: was changed while it was read; run the same command again"):
        tables.brought(got, None)


def test_a_cached_table_that_was_changed_is_not_mapped(corpus):
    wanted = _prepare(corpus, tfidf_width=8)["item_llm"]
    path = corpus.folder / "cache" / "tfidf_item_8.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    got = _prepare(corpus, tfidf_width=8, access=Access(mapped=True))["item_llm"]
    np.testing.assert_array_equal(np.asarray(got), wanted)

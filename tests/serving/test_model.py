"""A served model equals the plain computation, for any history; what its answers hold and refuse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import served

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import new_items
from llmesr_jax.serving.options import Options

MODEL = {"method": "llmesr", "backbone": "gru4rec"}


@pytest.fixture(scope="module")
def model():
    return served.model(**MODEL)


@pytest.fixture(scope="module")
def catalogue(model):
    return model.catalogue


def raw(catalogue, ids):
    return [catalogue.ids[i - 1] for i in ids]


def strange(rng, catalogue):
    """A history as a careless caller gives it: long, empty, unknown, repeated, in any script, numbers, missing."""
    odd = ["nope", "", None, float("nan"), "🫖", "sku-٣", "\u202esku-1", " sku-1 ", 7, 7.5, "null", "商品" * 50]
    pool = [*catalogue.ids, *odd]
    length = rng.choice([0, 1, 2, 5, 17, 90], p=[0.1, 0.2, 0.2, 0.3, 0.15, 0.05])
    return [pool[n] for n in rng.integers(0, len(pool) if rng.random() < 0.7 else len(catalogue.ids), length)]


@pytest.mark.slow
def test_ten_thousand_strange_histories(model, catalogue):
    rng = np.random.default_rng(0)
    histories = [strange(rng, catalogue) for _ in range(10_000)]
    check(model, catalogue, histories)


def test_strange_histories(model, catalogue):
    rng = np.random.default_rng(1)
    check(model, catalogue, [strange(rng, catalogue) for _ in range(300)])


def check(model, catalogue, histories, k=5):
    """Answers hold the items of highest score that are not in the history, scored as evaluation scores them."""
    answers = model.recommend(histories, k)
    numbers = {raw_id: n for n, raw_id in enumerate(catalogue.ids, 1)}
    ids = [[numbers[str(i).strip()] for i in h if str(i).strip() in numbers] for h in histories]
    seen = [n for n, history in enumerate(ids) if history]
    users = served.plain_users(*served.trained(**MODEL), [ids[n] for n in seen])
    scores = users @ np.asarray(model.items_VxE).T
    popular = [catalogue.ids[row] for row in catalogue.by_popularity]
    for n, answer in enumerate(answers):
        assert (
            len({r.item for r in answer.recommendations})
            == len(answer.recommendations)
            == min(k, served.ITEMS - len(set(ids[n])))
        )
        missing = sum(i is None or i != i or i == "" for i in histories[n])
        assert answer.unknown == len(histories[n]) - len(ids[n]) - missing
        if not ids[n]:
            assert answer.source == "popular"
            assert [r.item for r in answer.recommendations] == popular[:k]
    for row, n in enumerate(seen):
        found = answers[n].recommendations
        places = [numbers[r.item] - 1 for r in found]
        np.testing.assert_allclose([r.score for r in found], scores[row, places], atol=1e-4)
        open_ = np.setdiff1d(np.arange(len(numbers)), np.array(ids[n]) - 1)
        assert not set(places) - set(open_.tolist())
        rest = np.setdiff1d(open_, places)
        assert not len(rest) or scores[row, rest].max() <= scores[row, places].min() + 1e-4


def test_devices_take_turns_with_batches_of_users(model):
    """One device in place of three: which batch goes where, and the order of the lists, not speed."""
    histories = [np.array(ids, np.int32) for ids in served.histories(2, 1100, longest=5)]
    shared = dataclasses.replace(model, devices=tuple(jax.devices()[:1]) * 3)
    for options in (Options(4), Options(4, tail_share=0.5, deny=["sku-1"])):
        one, three = (found.rank(histories, *found.check(options)) for found in (model, shared))
        assert all(np.array_equal(x, y) for x, y in zip(one, three, strict=True))
        assert 0 < one.popular_B.sum() < 1100 - 4 * 100


def test_what_options_allow(model, catalogue):
    history, every = raw(catalogue, [1, 2, 3]), list(catalogue.ids)
    items = lambda **options: [r.item for r in model.recommend([history], 4, **options)[0].recommendations]  # noqa: E731
    best = items()
    assert not set(best) & set(history)
    assert set(items(allow=best[1:3])) == set(best[1:3])
    assert best[0] not in items(deny=[best[0], "not there"]) and items(deny=[best[0]])[:3] == best[1:]
    assert set(items(allow=history, hide_seen=False)) == set(history) and items(allow=history) == []
    acme = {catalogue.ids[n] for n in range(len(every)) if (n + 1) % 2 == 0}
    assert set(items(where=["brand=Acme"])) <= acme and set(items(where="brand=Acme", allow=every)) <= acme
    tail = {catalogue.ids[row] for row in np.flatnonzero(catalogue.tail_V)}
    assert len(tail & set(items(tail_share=1.0))) == 4
    assert set(items(diversity=1e-9)) == set(best)
    empty = model.recommend([[]], 3, where=["brand=Acme"], tail_share=1.0)[0]
    assert {r.item for r in empty.recommendations} <= acme & tail and empty.source == "popular"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k=0: is not valid; expected a whole number from 1"),
        ({"tail_share": 1.5}, "tail_share=1.5: is not valid; expected a number from 0 to 1"),
        ({"allow": ["nope"]}, "allow: 1 id found, but none is in the catalogue"),
        ({"where": ["price>9000"]}, "leave no item to recommend"),
        ({"size": 3}, "size is not an option of recommend; expected some of: k, hide_seen"),
        ({"where": [5]}, "condition 5 is not understood; expected a column"),
        ({"allow": (x for x in ["nope"])}, "allow: 1 id found, but none is in the catalogue"),
    ],
)
def test_options_that_make_no_sense(model, options, said):
    with pytest.raises(InputError, match=said):
        model.recommend([["sku-1"]], **{"k": 3, **options})


def test_options_of_other_types(model):
    """None, generators and NumPy's numbers are as good as lists and Python's."""
    (plain,) = model.recommend([["sku-1"]], 5, deny=["sku-2"], tail_share=0.5)
    made = {"deny": (x for x in ["sku-2"]), "tail_share": np.float32(0.5), "where": None, "allow": None}
    assert model.recommend([["sku-1"]], np.int64(5), **made) == [plain]
    assert model.recommend([["sku-1"]], 5, deny=None) == model.recommend([["sku-1"]], 5)
    for k in ("3", 2.5, True):
        with pytest.raises(InputError, match=f"k={k!r}: is not valid; expected a whole number from 1"):
            model.similar_items("sku-1", k)
    for neighbours in (2.5, -1):
        with pytest.raises(InputError, match=f"neighbours={neighbours}: is not valid"):
            model.with_items(["new"], model.embeddings_VxF[:1], neighbours=neighbours)


@pytest.mark.slow
def test_one_view_of_several_parts_has_no_name():
    """AlphaFuse's only view has frozen and trained directions: neither part is a view, and a new item gets a mean row."""
    fused = served.model("alphafuse")
    assert fused.view_names == () and fused.programs.names == ("id", "semantic") and fused.programs.semantic is None
    with pytest.raises(InputError, match="view='id': this model has no such view; expected one of: both, embedding"):
        fused.similar_items("sku-1", view="id")
    more = fused.with_items(["new"], fused.embeddings_VxF[6:7], neighbours=1)
    np.testing.assert_allclose(np.asarray(more.views_WxVxD)[:, 31], np.asarray(fused.views_WxVxD)[:, 7], atol=1e-6)
    assert served.model("none").view_names == ("id",) and served.model().view_names == ("id", "semantic")


def test_new_embeddings_too_large_for_half_precision_stay_finite(model):
    half = dataclasses.replace(model, embeddings_VxF=model.embeddings_VxF.astype(np.float16))
    more = half.with_items(["new"], np.full((1, 6), 1e6, np.float32))
    assert np.isfinite(more.embeddings_VxF).all() and more.embeddings_VxF[-1, 0] == 1e6
    assert half.with_items(["new"], np.ones((1, 6), np.float32)).embeddings_VxF.dtype == np.float16


def test_histories_that_are_none(model):
    for wrong in ("sku-1", {"u": []}, 3):
        with pytest.raises(InputError, match="expected a list of lists of raw item ids"):
            model.recommend(wrong)
    with pytest.raises(InputError, match="history 1: 'sku-1' is not a list"):
        model.recommend([["sku-2"], "sku-1"])


def test_diversity_wants_embeddings(model):
    bare = dataclasses.replace(model, embeddings_VxF=None)
    with pytest.raises(InputError, match="diversity: compares items by their frozen embeddings"):
        bare.recommend([["sku-1"]], diversity=0.5)
    with pytest.raises(InputError, match="no frozen embeddings"):
        bare.with_items(["new"], np.ones((1, 6)))


def test_an_explanation_adds_up(model, catalogue):
    for ids in ([1], [3, 3, 9], list(range(1, 30))):
        history = [*raw(catalogue, ids), "nope"]
        (answer,) = model.recommend([history], 1)
        best = answer.recommendations[0]
        found = model.explain(history, best.item)
        assert found.score == pytest.approx(best.score, abs=1e-5) and found.unknown == 1
        assert sum(found.views.values()) == pytest.approx(found.score, abs=1e-5)
        assert sum(i.added for i in found.history) == pytest.approx(found.score, abs=1e-5)
        assert [i.item for i in found.history] == raw(catalogue, ids[-20:]) and found.cut == max(0, len(ids) - 20)
        assert model.scores(history, [best.item])[0] == pytest.approx(found.score, abs=1e-5)
        if 1 < len(ids) <= 20:
            without = model.scores(raw(catalogue, ids[1:]), [best.item])[0]
            assert found.history[0].left_out == pytest.approx(found.score - without, abs=1e-5)
        assert best.item not in str(found) and f"score {found.score:.4f}" in str(found)
    with pytest.raises(InputError, match="no score to explain"):
        model.explain(["nope"], "sku-1")
    with pytest.raises(InputError, match="item 'nope' is not in the catalogue of 30 items"):
        model.explain(["sku-1"], "nope")


def test_the_parts_of_llmesr_are_its_columns(model):
    parts = np.asarray(model.programs.parts(model.views_WxVxD[:, 1:-1]))
    assert model.programs.names == ("id", "semantic")
    assert not parts[0, :, 4:].any() and not parts[1, :, :4].any()
    np.testing.assert_allclose(parts.sum(axis=0), model.items_VxE, atol=1e-6)


def test_similar_items(model, catalogue):
    vectors = {"both": model.items_VxE, "embedding": model.embeddings_VxF}
    vectors |= {name: np.asarray(model.views_WxVxD[n])[1:-1] for n, name in enumerate(("id", "semantic"))}
    for view, x in vectors.items():
        found = model.similar_items(catalogue.ids[4], 3, view)
        cosine = x @ x[4] / np.linalg.norm(x, axis=1) / np.linalg.norm(x[4])
        wanted = [row for row in np.argsort(-cosine) if row != 4][:3]
        assert [r.item for r in found] == [catalogue.ids[row] for row in wanted]
        np.testing.assert_allclose([r.score for r in found], cosine[wanted], atol=1e-5)
    assert len(model.similar_items("sku-1", 99)) == served.ITEMS - 1
    with pytest.raises(
        InputError, match="view='colour': this model has no such view; expected one of: id, semantic, both"
    ):
        model.similar_items("sku-1", view="colour")


def test_a_new_item_with_a_known_text(model, catalogue):
    """Its semantic view is that of the known item; its ID view the mean of the nearest ones' rows, or zeros."""
    text = model.embeddings_VxF[6:7]
    for rows in ("neighbours", "zeros"):
        more = model.with_items(["new"], text, ["New お茶"], rows=rows, neighbours=1)
        views = np.asarray(more.views_WxVxD)
        np.testing.assert_allclose(views[1, 31], views[1, 7], atol=1e-6)
        np.testing.assert_allclose(views[0, 31], views[0, 7] if rows == "neighbours" else 0 * views[0, 7], atol=1e-6)
        np.testing.assert_array_equal(views[:, [0, 32]], np.asarray(model.views_WxVxD)[:, [0, 31]])
        np.testing.assert_allclose(more.items_VxE[30], views[:, 31].reshape(-1), atol=1e-6)
        (answer,) = more.recommend([["new", "sku-1"]], 30)
        assert answer.unknown == 0 and len(answer.recommendations) == 29
    more = model.with_items(["new"], text, neighbours=1)
    assert more.similar_items("new", 1)[0].item == catalogue.ids[6]
    assert len(model.catalogue) == 30  # the model itself is as it was


def test_the_mean_of_the_nearest_rows():
    """Of rows of lengths 3 and 4 at a right angle, the mean points to (.6, .8) and is brought to length 3.5."""
    own, rows = np.array([[1, 0], [3, 0.1], [0, 1], [0, 0]], np.float32), np.diag(np.array([3, 4, 5, 6], np.float32))
    found = new_items.nearest_mean(np.array([[2, 0], [0, 0]], np.float32), own, rows, 2)
    np.testing.assert_allclose(found, [[2.1, 2.8, 0, 0], [0, 0, 0, 0]], atol=1e-6)
    assert new_items.nearest_mean(np.ones((1, 2), np.float32), 0 * own, rows, 2).tolist() == [[0] * 4]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((["a"], np.ones((1, 5), np.float32)), r"embeddings of shape \(1, 5\); expected \(1, 6\)"),
        ((["a"], np.ones((1, 6), int)), r"embeddings are int64 of shape \(1, 6\); expected floats"),
        ((["a", "b"], np.ones((1, 6))), "2 ids and embeddings of shape"),
        ((["a"], np.full((1, 6), np.nan)), "holds NaN or infinity"),
        (([None], np.ones((1, 6))), "item 1 has no id"),
        ((["sku-1"], np.ones((1, 6))), "is already in the catalogue; remove"),
        ((["a"], np.ones((1, 6)), ["x", "y"]), "1 ids and 2 titles"),
    ],
)
def test_new_items_that_do_not_fit(model, given, said):
    with pytest.raises(InputError, match=said):
        model.with_items(*given)


def test_a_model_says_what_it_is_and_what_it_wants(model):
    assert repr(model) == "<served model: llmesr on gru4rec, tiny; 30 items>"
    with pytest.raises(InputError, match=r"a bundle has no users; .* as in model.recommend\(\[\['sku-1'\]\]\)"):
        model.history("17")
    model.warm(1)
    for wrong in (0, "64", (1, 0.5)):
        with pytest.raises(InputError, match=r"expected batch sizes from 1, as in warm\(64\) or warm\(\(1, 64\)\)"):
            model.warm(wrong)
    with pytest.raises(InputError, match="did you mean 'sku-1'"):
        model.similar_items("SKU_1")


def test_views_stay_on_the_device(model):
    assert isinstance(model.views_WxVxD, jnp.ndarray) and model.views_WxVxD.shape == (2, 32, 4)

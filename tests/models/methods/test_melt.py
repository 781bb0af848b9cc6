"""MELT: contexts, draws, both maps' losses, renewed rows and corrected users as loops; and when it is `none`."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.data import groups
from llmesr_jax.models import recommender
from llmesr_jax.models.methods import melt


def case(backbone="gru4rec", **changes):
    return tiny.case(backbone, "melt", **changes)


@functools.partial(jax.jit, static_argnames="model")
def values(model, params, tables, batch, epoch):
    return {name: term.value for name, term in model.terms(params, tables, batch, None, epoch).items()}


def contexts_by_loop(corpus):
    """{item: its contexts, oldest item first}."""
    found = {item: [] for item in range(1, corpus.num_items + 1)}
    for user in range(corpus.num_users):
        items = tiny.training(corpus, user)
        for place, item in enumerate(items):
            found[item].append(items[: place + 1])
            if len(items) > 1:
                found[item].append(items[place:][::-1])
    return found


def mapped(h, p):
    return h @ np.asarray(p["kernel"]) + np.asarray(p["bias"])


def encode(case, backbone, params, rows):
    """f of each list of items, by the plain model; 32 at once, so that one program does for all."""
    masked, most = backbone == "bert4rec", case.config.max_len
    token = [case.corpus.num_items + 1] if masked else []
    rows = [[*row[-(most - masked) :], *token] for row in rows]
    plain, alone = tiny.case(backbone, "none", blocks=1).model, {name: params[name] for name in ("backbone", "table")}
    found = []
    for start in range(0, len(rows), 32):
        block = rows[start : start + 32]
        laid = tiny.lay([*block, *[[1]] * (32 - len(block))], ((32, most),))
        found.append(np.asarray(tiny.user_vectors(plain, alone, {}, laid))[: len(block)])
    return np.concatenate(found)


def test_an_items_contexts_are_what_comes_before_it_and_what_comes_behind_it_reversed():
    corpus = tiny.ragged(5)
    tables = melt.tables(corpus, melt.Config())
    wanted = contexts_by_loop(corpus)
    for width in (3, 20):
        laid = np.asarray(melt.context_items(jnp.asarray(corpus.items), jnp.asarray(tables["contexts"]), width))
        for item, lists in wanted.items():
            found = laid[tables["context_start"][item] :][: tables["context_count"][item]]
            rows = [row[row > 0].tolist() for row in found]
            assert all(not row[len(kept) :].any() for row, kept in zip(found, rows))
            assert sorted(rows) == sorted(context[-width:] for context in lists)
    head = groups.head_items(corpus)
    of_tail = {int(item): 0 for item in np.flatnonzero(~head) + 1 if wanted[item]}
    for item, at in zip(tables["tail_context_items"], tables["tail_contexts"]):
        start = tables["context_start"][item]
        assert start <= at < start + tables["context_count"][item]
        of_tail[int(item)] += 1
    assert of_tail == {item: len(wanted[item]) for item in of_tail}
    assert (np.diff(tables["contexts"][tables["tail_contexts"], 2]) <= 0).all()


def test_thresholds_are_the_largest_of_the_tail():
    corpus = tiny.ragged(5)
    found = melt.tables(corpus, melt.Config())
    lengths = corpus.train_lengths_U[~groups.head_users(corpus)]
    counts = corpus.item_counts_V[~groups.head_items(corpus)]
    assert found["thresholds"].tolist() == [lengths.max(), counts.max()]
    assert found["fewer"].tolist() == list(range(1, counts.max() + 1))
    assert found["user_lengths"].tolist() == list(range(1, lengths.max()))


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 2**31))
def test_a_subset_has_different_numbers_below_the_count(size, more, seed):
    draws = np.random.default_rng(seed).random((7, 5)).astype(np.float32)
    count = size + more
    found = np.asarray(melt.subsets(jnp.asarray(draws), jnp.full(7, size), jnp.full(7, count)))[:, :size]
    assert (np.diff(found, axis=1) > 0).all() and found.min() >= 0 and found.max() < count


def test_every_subset_is_drawn_as_often():
    draws = np.random.default_rng(1).random((6000, 3)).astype(np.float32)
    found = np.asarray(melt.subsets(jnp.asarray(draws), jnp.full(6000, 2), jnp.full(6000, 4)))[:, :2]
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 6 and np.abs(counts - 1000).max() < 5 * math.sqrt(6000 * 5 / 36)


def test_the_weights_start_at_the_longest_and_move_to_the_threshold():
    """By the formula: at e = 0 nothing at the threshold and 1 for the longest; the other way round at e_max."""
    lengths = jnp.array([13, 31, 50, 90])  # T_U + 1, half way, L, beyond
    find = lambda e: np.asarray(melt.user_weights(jnp.float32(e), 100, lengths, 50, jnp.int32(12)))  # noqa: E731
    half = math.sin(math.pi / 2 * 18 / 37)
    np.testing.assert_allclose(find(0), [0, half, 1, 1], atol=1e-6)
    np.testing.assert_allclose(find(100), [1, abs(math.sin(math.pi / 2 * (1 + 18 / 37))), 0, 0], atol=1e-6)
    np.testing.assert_array_equal(melt.user_weights(jnp.float32(0), 100, lengths, 13, jnp.int32(12)), 1)
    counts = jnp.array([8, 20, 57, 400])
    found = melt.item_weights(jnp.float32(30), 90, counts, jnp.int32(7))
    wanted = [abs(math.sin(math.pi / 6 + math.pi / 100 * (min(c, 57) - 8))) for c in counts.tolist()]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone, changes",
    [("sasrec", {}), ("gru4rec", {"square_weights": True}), ("bert4rec", {}), ("gru4rec", {"layout": "padded"})],
)
@tiny.in_float64
def test_both_maps_losses_by_hand(backbone, changes):
    one = case(backbone, curriculum_epochs=9, **changes)
    corpus, epoch = one.corpus, 4.0
    params = one.drawn_params()
    all_contexts, counts = contexts_by_loop(corpus), np.pad(corpus.item_counts_V, 1)
    (longest_tail, most_count), head = one.tables["thresholds"].tolist(), groups.head_users(corpus)
    for seed in (1, 2):
        batch = one.batch(seed)
        found = values(one.model, params, one.tables, batch, epoch)
        extra = batch.extra
        items_of = lambda name: [  # noqa: E731
            [i for i in row if i <= corpus.num_items] for row in tiny.items_by_row(extra[name])
        ]
        losses = []
        for few, whole, length in zip(items_of("recent"), items_of("whole"), extra["lengths"].tolist()):
            users = [u for u in range(corpus.num_users) if head[u] and tiny.training(corpus, u)[-len(whole) :] == whole]
            assert users and len(tiny.training(corpus, users[0])) == length
            assert whole[-len(few) :] == few and 1 <= len(few) <= max(1, longest_tail - 1)
            r, p = encode(one, backbone, params, [few, whole])
            room = one.config.max_len - longest_tail - 1
            angle = math.pi / 2 * 3 / 9 + math.pi / 2 / max(room, 1) * (
                min(length, one.config.max_len) - longest_tail - 1
            )
            weight = abs(math.sin(angle)) if room > 0 else 1
            losses.append(weight * np.mean((mapped(r, params["user_map"]) - p) ** 2))
        assert float(found["users"]) == pytest.approx(np.mean(losses), rel=1e-7)

        rows, losses = items_of("contexts"), []
        asked = zip(
            extra["items"].ids.tolist(), extra["fewer"].astype(int).tolist(), extra["rows"].astype(int).tolist()
        )
        for item, k, at in asked:
            own = [rows[place] for place in at]
            assert all(own[:k]) and not any(own[k:]) and 1 <= k <= most_count and counts[item] >= 1
            room = one.config.max_len - (backbone == "bert4rec")
            there = sorted(context[-room:] for context in all_contexts[item])
            for context in own[:k]:
                there.remove(context)  # each once
            f = encode(one, backbone, params, own[:k])
            r = np.mean(f + mapped(f, params["user_map"]), axis=0)
            weight = abs(
                math.sin(math.pi / 2 * 3 / 9 + math.pi / 100 * (min(counts[item], most_count + 50) - most_count - 1))
            )
            off = mapped(r, params["item_map"]) - np.asarray(params["table"]["items"])[item]
            losses.append(weight ** (2 if changes.get("square_weights") else 1) * np.mean(off**2))
        assert float(found["items"]) == pytest.approx(np.mean(losses), rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone, changes",
    [("sasrec", {}), ("bert4rec", {"keep": 0.5}), ("gru4rec", {"renew_enhanced": True, "context_len": 3})],
)
@tiny.in_float64
def test_a_renewal_by_hand_changes_rows_of_tail_items_with_a_context_and_no_others(backbone, changes):
    one = case(backbone, **changes)
    params, corpus = one.drawn_params(), one.corpus
    before = np.asarray(params["table"]["items"])
    renew = jax.jit(one.model.before_epoch)
    tiny.assert_equal(renew(params, one.tables, one.data, 1.0), params)  # `renew_from` is 1: not before the first epoch
    after = renew(params, one.tables, one.data, 2.0)
    changed = {**params, "table": after["table"]}
    tiny.assert_equal(after, changed)
    head, contexts = groups.head_items(corpus), contexts_by_loop(corpus)
    for item in range(corpus.num_items + 2):
        found = np.asarray(after["table"]["items"])[item]
        if not 1 <= item <= corpus.num_items or head[item - 1] or not contexts[item]:
            np.testing.assert_array_equal(found, before[item])
            continue
        rows = [context[-changes.get("context_len", 99) :] for context in contexts[item]]
        f = encode(one, backbone, params, rows).mean(axis=0)
        f = f + mapped(f, params["user_map"]) if "renew_enhanced" in changes else f
        wanted = mapped(f, params["item_map"]) + changes.get("keep", 0) * before[item]
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_the_releases_renewal_comes_before_the_first_epoch_and_without_it_nothing_changes():
    one = case(renew_from=0)
    params = one.drawn_params()
    after = jax.jit(one.model.before_epoch)(params, one.tables, one.data, jnp.float32(1))
    assert np.abs(after["table"]["items"] - params["table"]["items"]).max() > 0.1
    off = case(renew=False)
    assert off.model.before_epoch(params, off.tables, off.data, jnp.float32(9)) is params


@pytest.mark.parametrize("correction", [1.0, 0.5])
def test_tail_users_are_served_with_a_correction(correction):
    one = case(correction=correction)
    params, corpus = one.drawn_params(), one.corpus
    rows = [tiny.training(corpus, u)[-9:] for u in range(6)]
    laid = tiny.lay(rows, ((6, 9),)).replace(user_R=jnp.array([0, 1, 2, 3, -1, -1], jnp.int32))
    found = np.asarray(tiny.user_vectors(one.model, params, one.tables, laid))
    h = encode(one, "gru4rec", params, rows)
    tail = np.append(~groups.head_users(corpus)[:4], [len(row) <= one.tables["thresholds"][0] for row in rows[4:]])
    assert tail.any() and not tail.all()
    wanted = h + tail[:, None] * correction * mapped(h, params["user_map"])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_gradients_reach_both_maps_the_encoder_and_the_rows_of_both_sides():
    one = case()
    params, batch = one.drawn_params(), one.batch(1)

    def gradient(name):
        return jax.jit(jax.grad(lambda p: one.model.terms(p, one.tables, batch, None, jnp.float32(3))[name].value))(
            params
        )

    by_users, by_items = gradient("users"), gradient("items")
    for found, parts in ((by_users, ("user_map", "backbone")), (by_items, ("user_map", "item_map", "backbone"))):
        assert all(np.abs(x).max() > 1e-7 for part in parts for x in jax.tree.leaves(found[part]))
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(by_users["item_map"]))
    moved = lambda found: set(np.flatnonzero(np.abs(found["table"]["items"]).sum(axis=1)).tolist())  # noqa: E731
    read = lambda name: set(np.asarray(batch.extra[name].items_T).tolist()) - {0}  # noqa: E731
    assert moved(by_users) - {0} == read("recent") | read("whole")
    assert moved(by_items) - {0} == read("contexts") | set(batch.extra["items"].ids.tolist())


@pytest.mark.slow
def test_without_maps_renewal_and_correction_it_is_none():
    one = case("sasrec", user_weight=0.0, item_weight=0.0, renew=False, correction=0.0)
    plain = tiny.case("sasrec", "none", blocks=1)
    params, batch = one.params(), plain.batch()
    alone = {name: params[name] for name in ("backbone", "table")}
    tiny.assert_equal(alone, plain.params())
    run = lambda model: jax.jit(  # noqa: E731
        jax.value_and_grad(lambda p: recommender.loss_fn(model, p, one.tables, batch, jax.random.key(1))[0])
    )
    (loss, gradient), wanted = run(one.model)(params), run(plain.model)(alone)
    tiny.assert_equal((loss, {name: gradient[name] for name in alone}), wanted)
    tiny.assert_equal(
        tiny.user_vectors(one.model, params, one.tables, batch.students),
        tiny.user_vectors(plain.model, alone, {}, batch.students),
    )

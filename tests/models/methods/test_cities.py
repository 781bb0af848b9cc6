"""CITIES: contexts, the network and its loss as loops; what is served; and that nothing else moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.data import groups
from llmesr_jax.models.layers import few_shot
from llmesr_jax.models.methods import cities
from llmesr_jax.training import optimizer

WINDOW, SHOTS = 3, 4
SMALL = {"window": WINDOW, "shots": SHOTS, "head_items": 16}


def case(backbone="gru4rec", **changes):
    return tiny.case(backbone, "cities", **{**SMALL, **changes})


@functools.partial(jax.jit, static_argnames="model")
def values(model, params, tables, batch):
    return {name: term.value for name, term in model.terms(params, tables, batch, None).items()}


def contexts_by_loop(corpus, window=WINDOW):
    """{item: its contexts, [(slot, item), ...]}, the place itself as item None."""
    found = {item: [] for item in range(1, corpus.num_items + 1)}
    for user in range(corpus.num_users):
        items = tiny.training(corpus, user)
        for place, item in enumerate(items):
            around = range(max(0, place - window), min(len(items), place + window + 1))
            if len(around) > 2:
                found[item].append([(at - place + window, None if at == place else items[at]) for at in around])
    return found


def norm(x, p):
    std = x.std(axis=-1, ddof=1, keepdims=True)
    return np.asarray(p["scale"]) * (x - x.mean(-1, keepdims=True)) / (std + 1e-6) + np.asarray(p["bias"])


def dense(x, p):
    return x @ np.asarray(p["kernel"]) + (np.asarray(p["bias"]) if "bias" in p else 0)


def layer(x, p):
    """(n, D), all of them real."""
    width = x.shape[1]
    query, key, value = (dense(x, p[name]) for name in ("query", "key", "value"))
    heads = []
    for part in np.split(np.arange(width), 4):
        scores = query[:, part] @ key[:, part].T / np.sqrt(width / 4)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        heads.append(weights / weights.sum(1, keepdims=True) @ value[:, part])
    x = norm(x + dense(np.concatenate(heads, axis=1), p["out"]), p["attention_norm"])
    return norm(x + dense(np.maximum(dense(x, p["inner"]), 0), p["outer"]), p["feedforward_norm"])


def inferred_by_loop(params, contexts, form="usual"):
    """F of some contexts."""
    p, table = params["inference"], np.asarray(params["table"]["items"])
    width, read = table.shape[1], []
    for context in contexts:
        rows = []
        for slot, item in context:
            shown = (np.asarray(p["target"]) if "target" in p else table[-1]) if item is None else table[item]
            sine = []
            for k in range(width // 2):
                rate = 10000 ** (-2 * k / width) if form == "usual" else width * 10000.0 ** (-2 * k)
                sine += [np.sin(slot * rate), np.cos(slot * rate)]
            rows.append(shown * float(p["slot_scale"][slot]) + np.array(sine) / np.sqrt(width))
        x = np.array(rows)
        for i in range(2):
            x = layer(x, p[f"readers_{i}"])
        read.append(x.mean(axis=0))
    x = np.array(read)
    for i in range(2):
        x = layer(x, p[f"aggregators_{i}"])
    return dense(x.mean(axis=0), p["out"])


def test_contexts_are_windows_of_training_parts_with_two_other_items():
    corpus = tiny.ragged(6)
    tables = cities.tables(corpus, cities.Config(**SMALL))
    items, slots = (
        np.asarray(x)
        for x in cities.context_of(jnp.asarray(corpus.items), jnp.asarray(tables["places"]), WINDOW, 2 * WINDOW + 1, 99)
    )
    for item, wanted in contexts_by_loop(corpus).items():
        own = slice(tables["place_start"][item], tables["place_start"][item] + tables["place_count"][item])
        found = []
        for row, slot in zip(items[own], slots[own]):
            real = slot >= 0
            assert not row[~real].any() and (np.diff(slot[real]) == 1).all()
            found.append([(int(s), None if s == WINDOW else int(i)) for i, s in zip(row[real], slot[real])])
            assert row[slot == WINDOW] == 99
        key = lambda context: [(s, i or 0) for s, i in context]  # noqa: E731
        assert sorted(map(key, found)) == sorted(map(key, wanted))


def test_learnt_items_are_of_the_head_and_served_ones_of_the_tail():
    corpus = tiny.ragged(6, users=80, items=120)
    tables = cities.tables(corpus, cities.Config(**SMALL, most_contexts=2))
    head, contexts = groups.head_items(corpus), contexts_by_loop(corpus)
    learnt = {int(i) + 1 for i in np.flatnonzero(head) if len(contexts[i + 1]) >= 2}
    held_out = set(tables["held_out_items"].tolist())
    assert len(held_out) == int(0.05 * len(learnt)) > 0
    assert set(tables["learnt_items"].tolist()) == learnt - held_out
    wanted = {item: min(2, len(found)) for item, found in contexts.items() if found and not head[item - 1]}
    assert dict(zip(tables["tail_items"].tolist(), tables["tail_counts"].tolist())) == wanted
    # `tail_rows` says where a context lies when they stand item after item.
    of_row = np.repeat(tables["tail_items"], tables["tail_counts"])[tables["tail_rows"]]
    places = tables["places"][tables["tail_places"]]
    assert corpus.items[places[:, 0]].tolist() == of_row.tolist()
    assert len(set(tables["tail_places"].tolist())) == len(of_row)


def test_a_context_that_does_not_fit_keeps_what_is_nearest_to_its_place():
    items = jnp.arange(100, 120)
    places = jnp.array([[5, 0, 20], [1, 0, 20], [18, 0, 20], [5, 4, 7], [0, 0, 0]])
    found, slots = cities.context_of(items, places, 4, 3, 7)
    assert found.tolist() == [[104, 7, 106], [100, 7, 102], [117, 7, 119], [104, 7, 106], [0, 0, 0]]
    assert slots.tolist() == [[3, 4, 5], [3, 4, 5], [3, 4, 5], [3, 4, 5], [-1, -1, -1]]
    assert cities.context_of(items, places[2:3], 4, 9, 7)[1].tolist() == [[0, 1, 2, 3, 4, 5, -1, -1, -1]]


@pytest.mark.parametrize("form", ["usual", "release"])
def test_the_sine(form):
    found = few_shot.sines(49, 128, form)
    for slot, k in ((0, 5), (7, 0), (48, 1), (30, 40)):
        rate = 10000 ** (-2 * k / 128) if form == "usual" else 128 * 10000.0 ** (-2 * k)
        np.testing.assert_allclose(
            found[slot, 2 * k : 2 * k + 2], [np.sin(slot * rate), np.cos(slot * rate)], atol=1e-5
        )
    moving = np.flatnonzero(found.std(axis=0) > 1e-3)
    assert len(moving) > 60 if form == "usual" else moving.tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("backbone, form", [("gru4rec", "usual"), ("bert4rec", "release")])
@tiny.in_float64
def test_the_loss_by_hand(backbone, form):
    one = case(backbone, positions=form)
    params, corpus = one.drawn_params(), one.corpus
    contexts, shots = contexts_by_loop(corpus), set()
    learnt = set(one.tables["learnt_items"].tolist())
    for seed in range(3):
        batch = one.batch(seed)
        asked = batch.extra["learnt"]
        losses, rows = [], []
        for items, slots in zip(asked["contexts"], asked["slots"]):
            rows += zip(items.ids.tolist(), slots.tolist())
        how_many = int(asked["shots"][0])
        assert set(asked["shots"].tolist()) == {how_many} and 1 <= how_many <= SHOTS
        for n, item in enumerate(asked["items"].ids.tolist()):
            assert item in learnt
            own = []
            for at in asked["rows"][n, :how_many].astype(int).tolist():
                row, slot = rows[at]
                pairs = [(int(s), None if s == WINDOW else int(i)) for i, s in zip(row, slot) if s >= 0]
                assert pairs in contexts[item]
                own.append(pairs)
            off = inferred_by_loop(params, own, form) - np.asarray(params["table"]["items"])[item]
            losses.append(np.mean(off**2))
        found = values(one.model, params, one.tables, batch)
        assert float(found["inference"]) == pytest.approx(np.mean(losses), rel=1e-6)
        shots.add(how_many)
    assert len(shots) > 1


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
@tiny.in_float64
def test_what_is_served_by_hand(backbone):
    """Rows of tail items with a context are inferred from all of them; no other number changes."""
    one = case(backbone)
    params, contexts, head = one.drawn_params(), contexts_by_loop(one.corpus), groups.head_items(one.corpus)
    served = jax.jit(one.model.for_serving)(params, one.tables, one.data)
    before, after = np.asarray(params["table"]["items"]), np.asarray(served["table"]["items"])
    changed = 0
    for item in range(len(before)):
        if not 1 <= item <= one.corpus.num_items or head[item - 1] or not contexts[item]:
            np.testing.assert_array_equal(after[item], before[item])
            continue
        np.testing.assert_allclose(after[item], inferred_by_loop(params, contexts[item]), rtol=1e-6, atol=1e-7)
        changed += 1
    assert changed > 5
    tiny.assert_equal({**served, "table": 0}, {**params, "table": 0})


@pytest.mark.slow
def test_with_the_hook_off_the_start_is_served():
    one, plain = case(serve=False), tiny.case("gru4rec", "none", blocks=1)
    params, batch = one.drawn_params(), plain.batch()
    assert one.model.for_serving(params, one.tables, one.data) is params
    alone = {name: params[name] for name in ("backbone", "table")}
    served = jax.jit(
        lambda model, *a: (model.user_vectors(*a, batch.students), model.item_vectors(*a)), static_argnums=0
    )
    tiny.assert_equal(served(one.model, params, one.tables), served(plain.model, alone, {}))


@pytest.mark.slow
def test_the_network_alone_trains():
    one = case()
    params, batch = one.drawn_params(), one.batch()
    gradient = jax.jit(
        jax.grad(lambda p: sum(t.weight * t.value for t in one.model.terms(p, one.tables, batch, None).values()))
    )(params)
    for name, part in gradient.items():
        assert one.model.trains(f"{name}/x") == (name == "inference")
        if name != "inference":
            assert not any(np.asarray(x).any() for x in jax.tree.leaves(part))


def test_the_step_size_grows_over_a_hundred_steps():
    made = optimizer.injected(functools.partial(cities.optimizer, cities.Config()))
    params = {"w": jnp.ones(2)}
    with jax.numpy_dtype_promotion("standard"):
        state, moved = made.init(params), []
        for _ in range(120):
            updates, state = made.update({"w": jnp.array([0.5, -2.0])}, state, params, learning_rate=1e-2)
            moved.append(float(-updates["w"][0]))
    np.testing.assert_allclose(moved[0], 1e-4, rtol=1e-3)
    np.testing.assert_allclose(moved[49], 5e-3, rtol=1e-3)
    np.testing.assert_allclose(moved[99:], 1e-2, rtol=1e-3)

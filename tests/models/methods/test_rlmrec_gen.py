"""RLMRec-Gen: which items are hidden, the reconstruction as a loop, what it moves, and when it is `none`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models import backbones, recommender
from llmesr_jax.models.methods import rlmrec_gen

SHARE = 0.3


def case(backbone="gru4rec", **changes):
    return tiny.case(backbone, "rlmrec_gen", **{"hidden_share": SHARE, **changes})


@functools.partial(jax.jit, static_argnames="model")
def values(model, params, tables, batch):
    return {name: term.value for name, term in model.terms(params, tables, batch, None).items()}


@functools.partial(jax.jit, static_argnames=("model", "name"))
def gradient(model, params, tables, batch, name):
    """Of one term alone, in parameters and tables."""
    return jax.grad(lambda trees: model.terms(*trees, batch, None)[name].value)((params, tables))


def hidden(case, batch):
    """bool (T,)."""
    items = np.asarray(batch.students.items_T)
    return np.isin(items, np.asarray(batch.extra["hidden"].ids)) & (items > 0)


def outputs_at_slots(case, backbone, params, batch):
    """The encoder's output at every slot, with the token where an item is hidden."""
    module = backbones.PLUGINS.load(backbone).Backbone(
        tiny.plugin_config("backbone", backbone, blocks=1), case.model.sizes
    )
    x_TxD = np.asarray(params["table"]["items"])[np.asarray(batch.students.items_T)]
    x_TxD[hidden(case, batch)] = params["token"]
    variables = {"params": params["backbone"]}
    x_TxD = module.apply(variables, jnp.asarray(x_TxD), batch.students, True, method="stem")
    return np.asarray(module.apply(variables, x_TxD, batch.students, True))


def by_hand(case, params, tables, batch, h_TxD, temperature, users=True):
    """Loop over rows: (made, own name, LLM embedding)."""
    p, tables = jax.tree.map(np.asarray, (params, tables))
    d = p["decoder"]
    items, is_hidden = np.asarray(batch.students.items_T), hidden(case, batch)

    def made(h):
        inner = h @ d["kernel_0"] + d["bias_0"]
        return np.where(inner > 0, inner, 0.01 * inner) @ d["kernel_1"] + d["bias_1"]

    rows = [(made(h_TxD[t]), f"item {items[t]}", tables["item_llm"][items[t]]) for t in np.flatnonzero(is_hidden)]
    for row, at in enumerate(tiny.slots(batch.students)):
        user = int(batch.users_B[row])
        if users and bool(batch.distils_B[row]) and is_hidden[at].any():
            rows.append((made(h_TxD[at[-1]]), f"user {user}", tables["user_llm"][user]))
    rows = [row for row in rows if row[2].any()]
    cosine = lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y)  # noqa: E731
    losses = []
    for i, (x, name, own) in enumerate(rows):
        others = sum(
            np.exp(cosine(x, y) / temperature) for j, (_, other, y) in enumerate(rows) if j == i or other != name
        )
        losses.append(-np.log(np.exp(cosine(x, own) / temperature) / others))
    return np.mean(losses), [name for _, name, _ in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone, changes",
    [
        ("sasrec", {}),
        ("gru4rec", {"temperature": 0.2}),
        ("lightsans", {"users": False}),
        ("bert4rec", {"batch_size": 24}),
        ("gru4rec", {"prefixes": True, "batch_size": 24}),
    ],
)
def test_the_reconstruction_by_hand(backbone, changes):
    one = case(backbone, **changes)
    with tiny.float64():
        params, tables = tiny.as_float64((one.drawn_params(), one.tables))
        tables["item_llm"] = tables["item_llm"].at[3].set(0)  # an item without a text
        met = []
        for step in range(2):
            batch = one.batch(step=step)
            found = float(values(one.model, params, tables, batch)["reconstruction"])
            h_TxD = outputs_at_slots(one, backbone, params, batch)
            temperature = changes.get("temperature", 0.5)
            wanted, rows = by_hand(one, params, tables, batch, h_TxD, temperature, changes.get("users", True))
            assert found == pytest.approx(wanted, rel=1e-9)
            met.append((wanted, rows))
    assert max(wanted for wanted, _ in met) > 0.1
    met = [name for _, rows in met for name in rows]
    assert len(set(met)) < len(met)  # an item or a user more than once
    assert any(name.startswith("user") for name in met) == changes.get("users", True)


def test_an_item_is_hidden_in_all_its_slots_or_none_and_as_often_as_the_share_says():
    one = case(batch_size=24)
    counts = []
    for seed in range(40):
        batch = one.batch(seed)
        items, is_hidden = np.asarray(batch.students.items_T), hidden(one, batch)
        assert not is_hidden[items == 0].any()
        hides = {int(i) for i in items[is_hidden]}
        assert hides and set(np.flatnonzero(np.isin(items, list(hides)))) == set(np.flatnonzero(is_hidden))
        counts.append((len(hides), len(set(items[items > 0].tolist()))))
    drawn, of = np.sum(counts, axis=0)
    assert abs(drawn / of - SHARE) < 4 * np.sqrt(SHARE * (1 - SHARE) / of)


def test_at_least_one_item_is_hidden_and_the_cloze_tasks_token_never():
    one = case("bert4rec")
    token = one.corpus.num_items + 1
    for seed in range(8):
        batch = one.batch(seed)
        items = np.asarray(batch.students.items_T)
        found = np.asarray(rlmrec_gen.hidden_slots(1e-9, one.corpus.num_items, items, jax.random.key(seed)))
        assert len(set(items[found].tolist())) == 1
        assert (items == token).any() and not found[items == token].any()


def test_another_layout_hides_the_same_items():
    found = []
    for layout in ("bucketed", "padded"):
        batch = case(layout=layout).batch(3)
        found.append(set(np.asarray(batch.students.items_T)[hidden(case(), batch)].tolist()))
    assert found[0] == found[1]


def test_it_moves_the_token_the_decoder_the_encoder_and_items_that_are_shown_alone():
    one = case()
    params, batch = one.drawn_params(), one.batch()
    by_params, by_tables = gradient(one.model, params, one.tables, batch, "reconstruction")
    for path, leaf in jax.tree_util.tree_leaves_with_path(by_params):
        assert np.abs(leaf).max() > 1e-6, jax.tree_util.keystr(path)
    items, is_hidden = np.asarray(batch.students.items_T), hidden(one, batch)
    moved = set(np.flatnonzero(np.abs(by_params["table"]["items"]).sum(axis=1)).tolist())
    hides = set(items[is_hidden].tolist())
    assert not moved & hides
    # A row's slots before its newest hidden one or, where the user is a row, all of it.
    shown = {int(items[t]) for at in tiny.slots(batch.students) if is_hidden[at].any() for t in at} - hides
    assert moved == shown
    hidden_users = [int(batch.users_B[r]) for r, at in enumerate(tiny.slots(batch.students)) if is_hidden[at].any()]
    assert set(np.flatnonzero(np.abs(by_tables["item_llm"]).sum(axis=1))) == hides
    assert set(np.flatnonzero(np.abs(by_tables["user_llm"]).sum(axis=1))) == set(hidden_users)


def test_the_ranking_loss_reads_the_token_and_no_table_of_the_llm():
    one = case()
    params, batch = one.drawn_params(), one.batch()
    by_params, by_tables = gradient(one.model, params, one.tables, batch, "ranking")
    assert np.abs(by_params["token"]).max() > 1e-6
    assert not any(np.asarray(x).any() for x in jax.tree.leaves((by_params["decoder"], by_tables)))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["sasrec", "narm"])
def test_without_hidden_items_and_weight_it_is_none(backbone):
    one, plain = case(backbone, hidden_share=0.0, weight=0.0), tiny.case(backbone, "none", blocks=1)
    assert not one.tables and not one.model.sizes.all_slots
    params, batch = plain.params(), plain.batch()
    tiny.assert_equal(one.params(), params)
    run = lambda model: jax.jit(
        jax.value_and_grad(lambda p: recommender.loss_fn(model, p, {}, batch, jax.random.key(1))[0])
    )  # noqa: E731
    tiny.assert_equal(run(one.model)(params), run(plain.model)(params))


def test_a_user_is_served_as_under_none():
    one, plain = case("sasrec"), tiny.case("sasrec", "none", blocks=1)
    params, batch = one.drawn_params(), plain.batch()
    alone = {name: params[name] for name in ("backbone", "table")}
    for name in ("user_vectors", "item_vectors"):
        more = (batch.students,) if name == "user_vectors" else ()
        tiny.assert_equal(
            getattr(one.model, name)(params, one.tables, *more), getattr(plain.model, name)(alone, {}, *more)
        )

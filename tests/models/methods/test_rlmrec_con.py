"""RLMRec-Con: what is aligned with what, by hand; that it is active; and that it changes nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.methods import rlmrec_con


@functools.partial(jax.jit, static_argnames="model")
def values(model, params, tables, batch):
    return {name: term.value for name, term in model.terms(params, tables, batch, None).items()}


@functools.partial(jax.jit, static_argnames="model")
def gradient(model, params, tables, batch):
    """Of the alignment alone, in parameters and tables."""
    of = lambda trees: model.terms(*trees, batch, None)["alignment"].value  # noqa: E731
    floats = {name: table for name, table in tables.items() if jnp.issubdtype(table.dtype, jnp.floating)}
    return jax.grad(of)((params, floats))


def info_nce(x_nxD, y_nxD, names_n, temperature):
    """Mean of -log softmax, row by row; a row of the same name is no negative."""
    unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)  # noqa: E731
    logits = unit(x_nxD) @ unit(y_nxD).T / temperature
    losses = []
    for i, name in enumerate(names_n):
        others = [logits[i, j] for j, other in enumerate(names_n) if other != name]
        losses.append(np.log(np.sum(np.exp([logits[i, i], *others]))) - logits[i, i])
    return np.mean(losses)


def by_hand(case, params, tables, batch, users_BxD, temperature=0.2):
    """The three parts, over occurrences."""
    p, tables = jax.tree.map(np.asarray, (params, tables))
    m, table = p["mapper"], p["table"]["items"]

    def mapped(rows):
        hidden = rows @ m["kernel_0"] + m["bias_0"]
        return np.where(hidden > 0, hidden, 0.01 * hidden) @ m["kernel_1"] + m["bias_1"]

    def part(vectors, llm, ids):
        kept = [i for i, name in enumerate(ids) if llm[name].any()]
        return info_nce(vectors[kept], mapped(llm[ids[kept]]), ids[kept], temperature)

    rows = [i for i, user in enumerate(batch.distils_B) if user and batch.students.valid_R[i]]
    rows = [i for n, i in enumerate(rows) if batch.users_B[i] not in np.asarray(batch.users_B)[rows[:n]]]
    parts = [part(np.asarray(users_BxD)[rows], tables["user_llm"], np.asarray(batch.users_B)[rows])]
    negatives = [batch.negatives_TxK.ravel(), *([] if batch.shared_K is None else [batch.shared_K])]
    for ids in (np.asarray(batch.targets_T), np.concatenate(negatives)):
        parts.append(part(table[ids[ids > 0]], tables["item_llm"], ids[ids > 0]))
    return parts


def both(case, batch, tables=None, temperature=0.2):
    """The term, and its parts by hand, in 64-bit."""
    with tiny.float64():
        params, tables = tiny.as_float64((case.drawn_params(), case.tables if tables is None else tables))
        # As the loss sees them: `user_vectors` are those of a served user, the same without dropout.
        users = case.model.user_vectors(params, tables, batch.students)
        found = values(case.model, params, tables, batch)["alignment"]
    return float(found), by_hand(case, params, tables, batch, users, temperature)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone, changes",
    [
        ("gru4rec", {}),
        ("gru4rec", {"temperature": 0.5}),
        ("gru4rec", {"ranking": "sampled_softmax", "negatives": "uniform", "num_negatives": 20}),
        ("gru4rec", {"ranking": "sampled_softmax", "negatives": "in_batch"}),
        ("gru4rec", {"ranking": "softmax"}),
        ("gru4rec", {"single_item_students": True}),
        ("bert4rec", {"batch_size": 24}),
    ],
)
def test_the_three_parts_by_hand(backbone, changes):
    case = tiny.case(backbone, "rlmrec_con", **changes)
    found, parts = both(case, case.batch(), temperature=changes.get("temperature", 0.2))
    assert min(parts) > 0.01
    np.testing.assert_allclose(found, sum(parts), rtol=1e-9)


@pytest.mark.slow
def test_the_view_that_a_report_shows_is_what_is_aligned():
    case = tiny.case("gru4rec", "rlmrec_con")
    params, ids = case.drawn_params(), jnp.asarray([3, 1, 7], jnp.int32)
    found = case.model.apply(params, case.tables, ids, method="llm_views")
    m = jax.tree.map(np.asarray, params["mapper"])
    hidden = np.asarray(case.tables["item_llm"])[np.asarray(ids)] @ m["kernel_0"] + m["bias_0"]
    wanted = np.where(hidden > 0, hidden, 0.01 * hidden) @ m["kernel_1"] + m["bias_1"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_cases_by_hand_have_what_they_are_there_for():
    """A user without input, and a user's two looks in one batch."""
    batch = tiny.case("gru4rec", "rlmrec_con", single_item_students=True).batch()
    assert (np.asarray(batch.distils_B) & ~np.asarray(batch.students.valid_R)).any()
    batch = tiny.case("bert4rec", "rlmrec_con", batch_size=24).batch()
    there = np.asarray(batch.users_B)[np.asarray(batch.distils_B)]
    assert len(set(there)) < len(there)


@pytest.mark.slow
def test_what_has_no_embedding_is_not_aligned():
    """A row of zeros, as of an empty text: neither pulled nor a negative. So it is with the mask token."""
    case = tiny.case("gru4rec", "rlmrec_con")
    batch = case.batch()
    target = int(max(batch.targets_T))
    user = int(batch.users_B[0])
    tables = dict(case.tables)
    tables["item_llm"] = tables["item_llm"].at[target].set(0)
    tables["user_llm"] = tables["user_llm"].at[user].set(0)
    found, parts = both(case, batch, tables)
    np.testing.assert_allclose(found, sum(parts), rtol=1e-9)
    assert found != pytest.approx(both(case, batch)[0], rel=1e-6)
    mask_token = case.corpus.num_items + 1
    drawn = batch.replace(negatives_TxK=jnp.where(batch.negatives_TxK > 0, mask_token, 0))
    by_params, _ = gradient(case.model, case.drawn_params(), case.tables, drawn)
    assert not np.asarray(by_params["table"]["items"][mask_token]).any()


def test_a_users_own_embedding_is_its_pair():
    """Rows of the batch are sorted by length; each is paired with the embedding of the user whose items it holds."""
    case = tiny.case("gru4rec", "rlmrec_con")
    batch = case.batch()
    rows = [row for row, user in zip(tiny.items_by_row(batch.students), np.asarray(batch.distils_B)) if user]
    users = np.asarray(batch.users_B)[np.asarray(batch.distils_B)]
    longest = case.config.max_len
    assert len(set(users)) == len(users) > 2
    assert rows == [tiny.training(case.corpus, user)[:-1][-longest:] for user in users]


def test_an_empty_place_of_the_batch_is_nobody():
    case = tiny.case("gru4rec", "rlmrec_con")
    epoch = case.epochs.order(0, 1)
    step = next(i for i in range(len(epoch)) if (epoch[i] < 0).any())
    batch = case.batch(step=step)
    params = case.drawn_params()
    others = batch.replace(
        users_B=jnp.where(batch.distils_B, batch.users_B, (batch.users_B + 5) % case.corpus.num_users)
    )
    assert not np.array_equal(others.users_B, batch.users_B)
    tiny.assert_equal(*(values(case.model, params, case.tables, b) for b in (batch, others)))


def test_it_moves_items_users_and_the_network_and_no_padding():
    case = tiny.case("gru4rec", "rlmrec_con")
    params, batch = case.drawn_params(), case.batch()
    by_params, by_tables = gradient(case.model, params, case.tables, batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(by_params):
        assert np.abs(leaf).max() > 1e-6, jax.tree_util.keystr(path)
    asked = {*np.asarray(batch.targets_T), *np.asarray(batch.negatives_TxK).ravel()} - {0}
    moved = set(np.flatnonzero(np.abs(by_params["table"]["items"]).sum(axis=1)))
    assert asked <= moved and 0 not in moved  # the inputs move, too: through the users
    assert set(np.flatnonzero(np.abs(by_tables["item_llm"]).sum(axis=1))) == asked
    students = set(np.asarray(batch.users_B)[np.asarray(batch.distils_B)])
    assert set(np.flatnonzero(np.abs(by_tables["user_llm"]).sum(axis=1))) == students


def test_without_weight_it_is_none():
    case, plain = tiny.case("sasrec", "rlmrec_con", weight=0), tiny.case("sasrec", "none", blocks=1)
    assert not case.tables and not rlmrec_con.needs(rlmrec_con.Config(weight=0.0)).tables
    params, batch = plain.params(), plain.batch()
    tiny.assert_equal(case.params(), params)
    tiny.assert_equal(values(case.model, params, {}, batch), values(plain.model, params, {}, batch))


def test_ranking_is_that_of_none_and_the_total_has_the_weight():
    case, plain = tiny.case("sasrec", "rlmrec_con", weight=0.25), tiny.case("sasrec", "none", blocks=1)
    params, batch = case.drawn_params(), case.batch()
    alone = {name: params[name] for name in ("backbone", "table")}
    found = tiny.outputs(case.model, params, case.tables, batch)
    wanted = tiny.outputs(plain.model, alone, {}, batch)
    np.testing.assert_allclose(found["values"]["ranking"], wanted["values"]["ranking"], rtol=1e-6)
    tiny.assert_equal((found["users"], found["items"]), (wanted["users"], wanted["items"]))
    total = found["values"]["ranking"] + 0.25 * found["values"]["alignment"]
    np.testing.assert_allclose(found["total"], total, rtol=1e-6)

"""FAERec: fusion, what is aligned and how often, the curriculum, and what each ablation changes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from alignment_loops import info_nce_by_loops, twins_by_loops

from llmesr_jax.models import recommender
from llmesr_jax.models.backbones import gru4rec
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.methods import faerec
from llmesr_jax.models.types import Batch, Sizes
from llmesr_jax.training import steps

SIZES = Sizes(num_items=8, max_len=5, llm_width=6)
KEY = jax.random.key(3)
ALL = {"ranking", "item_alignment", "feature_alignment"}


@functools.partial(jax.jit, static_argnames="model")
def terms(model, params, tables, batch, key=None, epoch=1.0):
    return {name: (t.value, t.weight) for name, t in model.terms(params, tables, batch, key, epoch).items()}


@functools.cache
def world():
    """A case, a batch, and parameters no entry of which is special."""
    case = tiny.case("gru4rec", "faerec")
    return case, case.batch(step=1), case.drawn_params()


def of(**changes):
    case, batch, params = world()
    model = tiny.case("gru4rec", "faerec", **changes).model
    return {name: float(value) for name, (value, _) in terms(model, params, case.tables, batch).items()}


def weights(epoch, **changes):
    case, batch, params = world()
    model = tiny.case("gru4rec", "faerec", **changes).model
    only = jax.jit(lambda p, t, b, c: {name: term.weight for name, term in model.terms(p, t, b, None, c).items()})
    return {name: float(weight) for name, weight in only(params, case.tables, batch, epoch).items()}


def test_the_curriculum_by_hand():
    """Period 20 from 1 to 0.6: 1 at the start, 0.8 after a quarter, 0.6 after a half, and round again."""
    config = faerec.Config(period=20.0, w_min=0.6)
    for epoch, item in (
        (0, 1.0),
        (5, 0.8),
        (10, 0.6),
        (15, 0.8),
        (20, 1.0),
        (2, 0.6 + 0.4 * (1 + math.cos(0.2 * math.pi)) / 2),
    ):
        found = faerec.alignment_weights(config, jnp.float32(epoch))
        assert [float(w) for w in found] == pytest.approx([item, 1 - item], abs=1e-6)


def test_the_first_epoch_is_the_curriculums_start():
    settings = {"period": 4.0, "w_min": 0.0, "beta": 0.5}
    assert weights(1.0, **settings) == pytest.approx({"ranking": 1, "item_alignment": 0.5, "feature_alignment": 0})
    assert weights(2.0, **settings) == pytest.approx({"ranking": 1, "item_alignment": 0.25, "feature_alignment": 0.25})
    assert weights(3.0, **settings) == pytest.approx(
        {"ranking": 1, "item_alignment": 0, "feature_alignment": 0.5}, abs=1e-7
    )


def test_without_the_curriculum_weights_are_fixed():
    fixed = {"curriculum": False, "fixed_item_weight": 0.5, "fixed_feature_weight": 0.25}
    for epoch in (1.0, 9.0):
        assert weights(epoch, **fixed) == pytest.approx(
            {"ranking": 1, "item_alignment": 0.1, "feature_alignment": 0.05}
        )


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def dense(x, p):
    return x @ np.asarray(p["kernel"]) + np.asarray(p["bias"])


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return scaled * np.asarray(p["scale"]) + np.asarray(p["bias"])


def views(params, tables, ids):
    by_llm = dense(
        gelu(dense(np.asarray(tables["item_llm"])[ids], params["mapper"]["inner"])), params["mapper"]["outer"]
    )
    return np.asarray(params["table"]["items"])[ids], by_llm


def test_items_and_the_encoders_input_by_hand():
    """LayerNorm(e_id + P(e_llm)), and LayerNorm of the gated mixture, in NumPy."""
    case, batch, params = world()
    ids = np.arange(1, case.corpus.num_items + 1)
    by_id, by_llm = views(params, case.tables, ids)
    items = case.model.item_vectors(params, case.tables)
    np.testing.assert_allclose(items, norm(by_id + by_llm, params["norm"]), atol=2e-5)

    by_id, by_llm = views(params, case.tables, np.asarray(batch.students.items_T))
    hidden = gelu(dense(np.concatenate([by_id, by_llm], axis=-1), params["gate"]["inner"]))
    gate = 1 / (1 + np.exp(-dense(hidden, params["gate"]["outer"])))
    fed = norm(gate * by_id + (1 - gate) * by_llm, params["norm"])

    class Echo(gru4rec.Backbone):
        """An encoder that returns what it is fed."""

        def __call__(self, x_TxD, sequences, deterministic, last_only=False):
            return x_TxD

    make = functools.partial(Echo, gru4rec.Config(), case.model.sizes)
    module = faerec.Method(tiny.plugin_config("method", "faerec"), LossConfig(), case.model.sizes, make)
    variables = {"params": params, "tables": case.tables}
    found = module.apply(variables, batch.students, True, method="users")
    np.testing.assert_allclose(found, fed, atol=2e-5)


@pytest.mark.parametrize("rows", ["occurrences", "once"])
def test_inputs_and_negatives_are_aligned_as_often_as_the_setting_says(rows):
    case, batch, params = world()
    real = np.asarray(batch.students.items_T), np.asarray(batch.negatives_TxK).ravel()
    ids = np.concatenate(real)
    ids = ids[ids > 0] if rows == "occurrences" else np.unique(ids[ids > 0])
    assert len(ids) > len(set(ids.tolist())) or rows == "once"
    by_id, by_llm = views(params, case.tables, np.arange(case.corpus.num_items + 2))
    found = of(alignment_rows=rows)
    assert found["item_alignment"] == pytest.approx(info_nce_by_loops(by_id, by_llm, ids, 0.05), rel=1e-4)
    popularity = np.asarray(case.tables["item_popularity"])[ids]
    high = popularity >= np.sort(popularity)[(len(ids) - 1) // 2]
    wanted = sum(twins_by_loops(by_id[part], by_llm[part], 0.005) for part in (ids[high], ids[~high]))
    assert found["feature_alignment"] == pytest.approx(wanted, rel=1e-4)
    together = twins_by_loops(by_id[ids], by_llm[ids], 0.005)
    assert of(alignment_rows=rows, popularity_groups=False)["feature_alignment"] == pytest.approx(together, rel=1e-4)


def test_the_mask_token_is_not_aligned():
    case = tiny.case("bert4rec", "faerec")
    params, batch = case.params(), case.batch()
    token = case.corpus.num_items + 1
    assert (np.asarray(batch.students.items_T) == token).any()
    moved = {**params, "table": {"items": params["table"]["items"].at[token].add(3.0)}}
    before, after = (terms(case.model, p, case.tables, batch) for p in (params, moved))
    for name in ("item_alignment", "feature_alignment"):
        assert float(before[name][0]) == float(after[name][0])
    assert float(before["ranking"][0]) != float(after["ranking"][0])


@functools.cache
def shapes(**changes):
    case = tiny.case("gru4rec", "faerec", **changes)
    batch = steps.example_batch(case.epochs.plan, case.data, case.tables)
    params = jax.eval_shape(case.model.init, KEY, case.tables, batch)
    found = jax.eval_shape(lambda p, b: recommender.loss_fn(case.model, p, case.tables, b, None)[1], params, batch)
    return set(params), set(found), set(case.tables)


def test_an_ablation_leaves_out_its_part_and_no_other():
    parts, tables = {"backbone", "gate", "mapper", "norm", "table"}, {"item_llm", "item_pca", "item_popularity"}
    assert shapes() == (parts, ALL, tables)
    assert shapes(gate=False) == (parts - {"gate"}, ALL, tables)
    assert shapes(item_alignment=False) == (parts, ALL - {"item_alignment"}, tables)
    assert shapes(feature_alignment=False) == (parts, ALL - {"feature_alignment"}, tables)
    neither = shapes(item_alignment=False, feature_alignment=False)
    assert neither == (parts, {"ranking"}, tables - {"item_popularity"})


def test_a_term_left_out_leaves_the_others_as_they_are():
    whole = of()
    for name in ("item_alignment", "feature_alignment"):
        assert of(**{name: False}) == pytest.approx({k: v for k, v in whole.items() if k != name}, rel=1e-6)
    without_gate = of(gate=False)
    assert {k: without_gate[k] for k in ALL - {"ranking"}} == pytest.approx({k: whole[k] for k in ALL - {"ranking"}})
    assert abs(without_gate["ranking"] - whole["ranking"]) > 1e-3


def test_without_the_gate_users_are_made_from_ids_alone():
    case, batch, params = world()
    other = {**case.tables, "item_llm": case.tables["item_llm"] * 2}
    for gate, same in ((True, False), (False, True)):
        model = tiny.case("gru4rec", "faerec", gate=gate).model
        users = [tiny.user_vectors(model, params, tables, batch.students) for tables in (case.tables, other)]
        assert bool((users[0] == users[1]).all()) == same


def test_without_the_gate_the_encoder_reads_the_mean_of_both_views_if_asked_to():
    """Where the gate gives both views the same weight, a half, it reads what the gate's output would be."""
    case, batch, params = world()
    gate = jax.tree.map(jnp.zeros_like, params["gate"])  # sigmoid(0) = 1/2
    users = tiny.user_vectors(case.model, {**params, "gate": gate}, case.tables, batch.students)
    model = tiny.case("gru4rec", "faerec", gate=False, without_gate="mean").model
    rest = {name: part for name, part in params.items() if name != "gate"}
    found = tiny.user_vectors(model, rest, case.tables, batch.students)
    np.testing.assert_allclose(found, users, atol=1e-6)


def apart():
    """Inputs 1..4, targets 5 and 6, negatives 7 and 8: nobody in two roles."""
    students = tiny.lay([[1, 2], [3, 4]], ((2, 3),))
    slots = lambda a, b: jnp.zeros(6, jnp.int32).at[jnp.array([1, 4])].set(jnp.array([a, b]))  # noqa: E731
    return Batch(students, slots(5, 6), slots(7, 8)[:, None], jnp.ones(2, bool))


@pytest.mark.parametrize("scores", ["fused", "id"])
def test_gradients_reach_what_they_should(scores):
    """By the part of an item that a term trains: its ID row, or the map of its LLM row (seen in that row)."""
    case = tiny.case("gru4rec", "faerec", training_scores=scores)
    params = world()[2]

    def value(trained, name):
        p = {**params, "table": {"items": trained["id"]}}
        return case.model.terms(p, {**case.tables, "item_llm": trained["llm"]}, apart(), None)[name].value

    trained = {"id": params["table"]["items"], "llm": case.tables["item_llm"]}
    run = jax.jit(jax.grad(value), static_argnames="name")
    reached = {
        name: {
            part: set(np.flatnonzero(np.abs(rows).max(axis=1) > 1e-9).tolist())
            for part, rows in run(trained, name=name).items()
        }
        for name in ALL
    }
    aligned = {1, 2, 3, 4, 7, 8}
    assert reached["item_alignment"] == reached["feature_alignment"] == {"id": aligned, "llm": aligned}
    through_the_map = {1, 2, 3, 4, 5, 6, 7, 8} if scores == "fused" else {1, 2, 3, 4}
    assert reached["ranking"]["llm"] == through_the_map
    assert reached["ranking"]["id"] - {0} == {1, 2, 3, 4, 5, 6, 7, 8}


def test_training_by_id_scores_with_id_rows():
    case, batch, params = world()
    model = tiny.case("gru4rec", "faerec", training_scores="id", ranking="bce").model
    batch = apart()
    users = np.asarray(tiny.user_vectors(model, params, case.tables, batch.students))
    rows = np.asarray(params["table"]["items"])
    positive, negative = (users * rows[[5, 6]]).sum(1), (users * rows[[7, 8]]).sum(1)
    wanted = np.logaddexp(0, -positive).mean() + np.logaddexp(0, negative).mean()
    assert float(terms(model, params, case.tables, batch)["ranking"][0]) == pytest.approx(wanted, rel=1e-5)


def test_occurrences_of_an_item_share_the_mappers_dropout():
    case = tiny.case("gru4rec", "faerec", mapper_dropout=0.5)
    make = functools.partial(gru4rec.Backbone, gru4rec.Config(), case.model.sizes)
    module = faerec.Method(
        tiny.plugin_config("method", "faerec", mapper_dropout=0.5), LossConfig(), case.model.sizes, make
    )
    variables = {"params": world()[2], "tables": case.tables}
    rows = tiny.lay([[1, 2, 1], [1, 3, 2]], ((2, 3),))
    still = module.apply(variables, rows, True, method="slot_views")
    moved = module.apply(variables, rows, False, method="slot_views", rngs={"dropout": KEY})
    by_llm = np.asarray(moved[1])
    for a, b in ((0, 2), (0, 3), (1, 5)):
        np.testing.assert_array_equal(by_llm[a], by_llm[b])
    assert np.abs(by_llm - np.asarray(still[1])).max() > 1e-3
    np.testing.assert_array_equal(moved[0], still[0])


@pytest.mark.slow
def test_seeds_together_learn_what_each_learns_alone():
    """Losses and gradients of two seeds under vmap, each with a batch of its own."""
    case, _, params = world()
    batches = [case.batch(seed, 1) for seed in (1, 2)]
    other = jax.tree.map(lambda x: 0.7 * x, params)

    def one(params, batch):
        return jax.value_and_grad(recommender.loss_fn, argnums=1, has_aux=True)(
            case.model, params, case.tables, batch, None, 5.0
        )

    stacked = [jax.tree.map(lambda *x: jnp.stack(x), *pair) for pair in ((params, other), batches)]
    together = jax.jit(jax.vmap(one))(*stacked)
    alone = jax.jit(one)
    for i, pair in enumerate(zip((params, other), batches)):
        tiny.assert_close(jax.tree.map(lambda x: x[i], together), alone(*pair), 1e-4)  # noqa: B023


def test_the_table_starts_at_the_pca_and_the_gate_at_its_middle():
    case = tiny.case("gru4rec", "faerec")
    params = case.params()
    np.testing.assert_array_equal(params["table"]["items"], case.tables["item_pca"])
    assert not np.asarray(params["gate"]["outer"]["bias"]).any()
    inner = np.asarray(params["mapper"]["inner"]["kernel"])
    assert np.abs(inner).max() <= 6**-0.5 and np.abs(inner).max() > 0.7 * 6**-0.5  # uniform, as PyTorch starts


def test_what_head_users_read_counts_in_the_alignment_as_much_as_their_weight_says():
    """By loops over occurrences: at 0 their inputs are not there, at 2 they are there twice; negatives always once."""
    case, batch, params = world()
    is_tail = np.arange(case.corpus.num_users) % 2 == 0
    row_T = batch.students.row_T
    head_T = ~is_tail[np.asarray(batch.students.users_R)][row_T] & np.asarray(batch.students.users_R >= 0)[row_T]
    items, negatives = np.asarray(batch.students.items_T), np.asarray(batch.negatives_TxK).ravel()
    by_id, by_llm = views(params, case.tables, np.arange(case.corpus.num_items + 2))
    assert head_T.any() and not head_T.all()
    for weight in (0, 2):
        ids = np.concatenate([items[~head_T], *[items[head_T]] * weight, negatives])
        model = tiny.case("gru4rec", "faerec", head_user_weight=float(weight)).model
        tables = {**case.tables, "tail_user": jnp.asarray(is_tail)}
        found = float(terms(model, params, tables, batch)["item_alignment"][0])
        assert found == pytest.approx(info_nce_by_loops(by_id, by_llm, ids[ids > 0], 0.05), rel=1e-4)
    assert "tail_user" in faerec.needs(faerec.Config(head_user_weight=0.5)).tables
    assert "tail_user" not in faerec.needs(faerec.Config()).tables

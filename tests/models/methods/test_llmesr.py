"""LLM-ESR: the adapter, the distillation's stopped teacher, and what each variant changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.data import groups
from llmesr_jax.models import losses, recommender
from llmesr_jax.models.backbones import gru4rec
from llmesr_jax.models.methods import llmesr
from llmesr_jax.models.types import Batch, Sizes
from llmesr_jax.training import steps

SIZES = Sizes(num_items=8, max_len=5, llm_width=6)
KEY = jax.random.key(3)


@functools.partial(jax.jit, static_argnames="model")
def values(model, params, tables, batch, key=None):
    return {name: term.value for name, term in model.terms(params, tables, batch, key).items()}


@functools.cache
def world():
    case = tiny.case("sasrec", "llmesr")
    return case, case.batch(), case.drawn_params()


def of(backbone="sasrec", **changes):
    """The values of a variant's terms with the standard model's parameters, tables and batch."""
    case, batch, params = world()
    return values(tiny.case(backbone, "llmesr", **changes).model, params, case.tables, batch)


@functools.cache
def parameters(**changes):
    """Shapes of a variant's parameters, by path."""
    case = tiny.case("sasrec", "llmesr", **changes)
    batch = steps.example_batch(case.epochs.plan, case.data, case.tables)
    shapes = jax.eval_shape(case.model.init, KEY, case.tables, batch)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.shape
        for path, x in jax.tree_util.tree_leaves_with_path(shapes)
    }


def parts(**changes):
    return {name.partition("/")[0] for name in parameters(**changes)}


STANDARD = {"adapter", "backbone", "cross_collaborative", "cross_semantic", "table"}


def test_the_standard_model_has_the_papers_parts():
    assert parts() == STANDARD
    shapes = parameters()
    assert {name: shape for name, shape in shapes.items() if name.startswith("adapter")} == {
        "adapter/kernel_0": (6, 3), "adapter/bias_0": (3,), "adapter/kernel_1": (3, 4), "adapter/bias_1": (4,)
    }  # fmt: skip
    assert {n for n in shapes if n.startswith("cross_semantic")} == {
        f"cross_semantic/{x}/kernel" for x in ("query", "key", "value")
    }
    assert shapes["table/items"] == (world()[0].corpus.num_items + 2, 4)


@pytest.mark.parametrize(
    "changes, wanted, tables, width",
    [
        ({"views": "collaborative"}, {"backbone", "table"}, {"item_pca", "similar_users"}, 4),
        ({"views": "semantic"}, {"adapter", "backbone"}, {"item_llm", "similar_users"}, 4),
        ({"share": False}, STANDARD | {"semantic_backbone"}, {"item_llm", "item_pca", "similar_users"}, 8),
        ({"cross_attention": False}, {"adapter", "backbone", "table"}, {"item_llm", "item_pca", "similar_users"}, 8),
        ({"freeze_semantic": False}, STANDARD | {"llm_table"}, {"item_llm", "item_pca", "similar_users"}, 8),
        ({"collaborative_start": "random"}, STANDARD, {"item_llm", "similar_users"}, 8),
        ({"alpha": 0.0}, STANDARD, {"item_llm", "item_pca"}, 8),
    ],
)
def test_a_variant_has_its_parts_needs_its_tables_and_scores_at_its_width(changes, wanted, tables, width):
    case = tiny.case("sasrec", "llmesr", **changes)
    assert parts(**changes) == wanted and set(case.tables) == tables
    batch = steps.example_batch(case.epochs.plan, case.data, case.tables)
    shapes = jax.eval_shape(case.model.init, KEY, case.tables, batch)
    assert jax.eval_shape(case.model.item_vectors, shapes, case.tables).shape == (case.corpus.num_items, width)
    assert jax.eval_shape(case.model.user_vectors, shapes, case.tables, batch.students).shape == (8, width)
    terms = jax.eval_shape(lambda p, b: recommender.loss_fn(case.model, p, case.tables, b, None)[1], shapes, batch)
    assert set(terms) == ({"ranking", "distillation"} if "similar_users" in tables else {"ranking"})


def test_variants_that_change_a_part():
    adapter = {name: shape for name, shape in parameters(adapter_layers=1).items() if name.startswith("adapter")}
    assert adapter == {"adapter/kernel_0": (6, 4), "adapter/bias_0": (4,)}
    more = set(parameters(cross_output=True)) - set(parameters())
    assert more == {f"cross_{view}/output/{x}" for view in ("collaborative", "semantic") for x in ("kernel", "bias")}
    encoders = parameters(share=False)
    assert {n.removeprefix("semantic_") for n in encoders if n.startswith("semantic_backbone")} == {
        n
        for n in encoders
        if n.startswith("backbone") and "positions" not in n  # one position table for both
    }


@pytest.mark.parametrize(
    "changes, term",
    [
        ({"cross_heads": 2}, "ranking"),
        ({"cross_causal": False}, "ranking"),
        ({"cross_attention": False}, "ranking"),
        ({"views": "semantic"}, "ranking"),
        ({"distillation": "contrastive"}, "distillation"),
    ],
)
def test_a_switch_changes_the_value_of_its_term(changes, term):
    case, batch, params = world()
    model = tiny.case("sasrec", "llmesr", **changes).model
    assert abs(float(values(model, params, case.tables, batch)[term] - of()[term])) > 1e-4


def test_the_sum_over_components_is_the_mean_times_the_width():
    assert float(of(distillation_reduction="sum")["distillation"]) == pytest.approx(
        8 * float(of()["distillation"]), rel=1e-5
    )


def test_alpha_weighs_the_distillation():
    case, batch, params = world()
    for alpha in (0.1, 0.5):
        model = tiny.case("sasrec", "llmesr", alpha=alpha).model
        total, found = jax.jit(lambda p, t, b: recommender.loss_fn(model, p, t, b, None))(params, case.tables, batch)  # noqa: B023
        assert float(total) == pytest.approx(float(found["ranking"]) + alpha * float(found["distillation"]), rel=1e-6)


@pytest.mark.parametrize("switch", ["second_pass", "teacher_dropout"])
def test_dropout_of_the_distillation_is_what_these_switches_change(switch):
    """Without dropout they change nothing; with it, the distillation and not the ranking."""
    case, batch, params = world()
    standard, other = case.model, tiny.case("sasrec", "llmesr", **{switch: True}).model
    still, moved = (values(m, params, case.tables, batch) for m in (standard, other))
    tiny.assert_close(still, moved, 1e-6)
    still, moved = (values(m, params, case.tables, batch, KEY) for m in (standard, other))
    assert float(still["ranking"]) == pytest.approx(float(moved["ranking"]), rel=1e-6)
    assert abs(float(still["distillation"] - moved["distillation"])) > 1e-4


def test_under_the_cloze_task_cross_attention_is_never_causal():
    case = tiny.case("bert4rec", "llmesr")
    params, batch = case.drawn_params(), case.batch()
    other = tiny.case("bert4rec", "llmesr", cross_causal=False).model
    tiny.assert_equal(*(values(m, params, case.tables, batch) for m in (case.model, other)))


def method(**changes):
    """The module itself, over GRU4Rec, with tables and parameters."""
    config = tiny.plugin_config("method", "llmesr", **changes)
    make_backbone = functools.partial(gru4rec.Backbone, gru4rec.Config(), SIZES)
    module = llmesr.Method(config, losses.LossConfig(), SIZES, make_backbone)
    rng = np.random.default_rng(0)
    tables = {"item_llm": rng.normal(size=(10, 6)), "item_pca": rng.normal(size=(10, 4))}
    tables = {name: jnp.asarray(table, jnp.float32) for name, table in tables.items()}
    ids = jnp.arange(10, dtype=jnp.int32)
    _, variables = module.apply({"tables": tables}, ids, method="items", mutable=["params"], rngs={"params": KEY})
    return module, variables["params"], tables


def test_items_are_the_two_views_side_by_side():
    """[e_co : e_se], e_co the table's row and e_se = W2 (W1 e + b1) + b2, row by row."""
    module, params, tables = method()
    ids = jnp.array([3, 9, 0, 3], jnp.int32)
    out = module.apply({"params": params, "tables": tables}, ids, method="items")
    a = params["adapter"]
    for row, item in zip(np.asarray(out), ids):
        semantic = (tables["item_llm"][item] @ a["kernel_0"] + a["bias_0"]) @ a["kernel_1"] + a["bias_1"]
        np.testing.assert_allclose(row, [*tables["item_pca"][item], *semantic], atol=1e-5)


@pytest.mark.parametrize("freeze", [True, False])
def test_items_asked_for_together_are_the_items_asked_for_apart(freeze):
    """An item that stands twice is mapped once: same vectors, and gradients add up."""
    ids = jnp.asarray(np.random.default_rng(1).integers(0, 10, 12), jnp.int32)
    module, params, tables = method(freeze_semantic=freeze)

    @functools.partial(jax.jit, static_argnames="pieces")
    def way(params, tables, read_out, pieces):
        def items(params):
            variables = {"params": params, "tables": tables}
            out = jnp.concatenate([module.apply(variables, part, method="items") for part in jnp.split(ids, pieces)])
            return jnp.sum(out * read_out), out

        return jax.grad(items, has_aux=True)(params)

    with tiny.float64():
        read_out = jax.random.normal(KEY, (12, 8))
        few, many = (way(*tiny.as_float64((params, tables)), read_out, pieces=pieces) for pieces in (2, 1))
        tiny.assert_close(few, many, 1e-12)


def test_tables_start_as_they_should():
    case = tiny.case("sasrec", "llmesr")
    np.testing.assert_array_equal(case.params()["table"]["items"], case.tables["item_pca"])
    trained = tiny.case("sasrec", "llmesr", freeze_semantic=False)
    np.testing.assert_array_equal(trained.params()["llm_table"]["items"], trained.tables["item_llm"])
    rows = np.asarray(tiny.case("sasrec", "llmesr", collaborative_start="random").params()["table"]["items"])
    assert rows.std() == pytest.approx((2 / (rows.shape[0] + rows.shape[1])) ** 0.5, rel=0.25)  # Xavier-normal


def distinct_batch(num_items):
    """Students and teachers who share no item: students 1..4, teachers the last three."""
    students = tiny.lay([[1, 2], [3, 4]], ((2, 3),))
    last = num_items
    teachers = tiny.lay([[last, last - 1], [last - 2], [last - 1], [last]], ((4, 2),))
    targets, negatives = jnp.zeros(6, jnp.int32).at[1].set(5), jnp.zeros((6, 1), jnp.int32).at[1].set(6)
    rows = jnp.array([[0, 1], [2, 3]], jnp.int32)
    return Batch(students, targets, negatives, jnp.ones(2, bool), teachers, rows)


@pytest.mark.parametrize("settings", [{}, {"distillation": "contrastive"}, {"freeze_semantic": False}])
def test_the_distillation_sends_no_gradient_into_the_teacher(settings):
    """Rows of items that only teachers met: the value depends on them, the gradient in them is exactly zero."""
    case = tiny.case("sasrec", "llmesr", **settings)
    params, batch = case.drawn_params(), distinct_batch(case.corpus.num_items)
    llm = {"item_llm": case.tables["item_llm"]}

    def distillation(params, llm, model=case.model, rest=case.tables):
        return model.terms(params, {**rest, **llm}, batch, None)["distillation"].value

    run = jax.jit(jax.value_and_grad(distillation, argnums=(0, 1)))
    value, (gradient, llm_gradient) = run(params, llm)
    learnt = {"table": gradient["table"]["items"], "item_llm": llm_gradient["item_llm"]}
    if "llm_table" in gradient:
        learnt["item_llm"] = gradient["llm_table"]["items"]
    for name, rows in learnt.items():
        assert not np.asarray(rows)[-4:-1].any() and (np.abs(np.asarray(rows))[1:5].max(axis=1) > 0).all(), name
    shifted = {**params, "table": {"items": params["table"]["items"].at[-2].add(1.0)}}
    assert abs(float(run(shifted, llm)[0] - value)) > 1e-5


def test_the_distillations_gradient_is_that_towards_a_constant():
    """The squared error to the teachers' mean, computed apart and held fixed, in every parameter."""
    case, _, params = world()
    with tiny.float64():
        params, tables = tiny.as_float64((params, case.tables))
        batch = distinct_batch(case.corpus.num_items)
        teachers = tiny.user_vectors(case.model, params, tables, batch.teachers)
        mean = teachers[batch.teacher_rows_BxN].mean(axis=1)

        def ours(params):
            return case.model.terms(params, tables, batch, None)["distillation"].value

        def wanted(params):
            students = case.model.user_vectors(params, tables, batch.students)
            return jnp.mean(jnp.square(students - mean))

        found = [jax.jit(jax.value_and_grad(f))(params) for f in (ours, wanted)]
        tiny.assert_close(*found, 1e-10)


def test_the_item_regularizer_aligns_the_two_views_of_the_inputs():
    case, batch, params = world()
    model = tiny.case("sasrec", "llmesr", item_regularizer=0.1).model
    terms = jax.jit(lambda p, t, b: model.terms(p, t, b, None))(params, case.tables, batch)
    real = np.asarray(batch.students.valid_T)
    items = np.asarray(case.model.item_vectors(params, case.tables))[np.asarray(batch.students.items_T)[real] - 1]
    views = jnp.asarray(items[:, 4:]), jnp.asarray(items[:, :4])  # the semantic view first
    wanted = losses.soft_contrastive(*views, where=jnp.ones(len(items), bool))
    assert float(terms["item_regularizer"].value) == pytest.approx(float(wanted), rel=1e-5)
    assert float(terms["item_regularizer"].weight) == pytest.approx(0.1)


def test_users_who_are_nobody_distil_nothing():
    case, batch, params = world()
    students = batch.students
    half = jnp.arange(8) < 4
    value = values(case.model, params, case.tables, batch.replace(distils_B=half))["distillation"]
    users = np.asarray(tiny.user_vectors(case.model, params, case.tables, students))
    teachers = np.asarray(tiny.user_vectors(case.model, params, case.tables, batch.teachers))
    error = (users - teachers[np.asarray(batch.teacher_rows_BxN)].mean(axis=1)) ** 2
    assert float(value) == pytest.approx(error[:4].mean(), rel=1e-4)


def test_a_batch_of_students_without_similar_users_has_no_distillation():
    """Its value and its gradient are 0 and finite, and the ranking is as ever."""
    case = tiny.case("sasrec", "llmesr")
    samples, key = case.epochs.order(0, 1)[0], jax.random.key(0)
    nobody = {**case.tables, "similar_users": jnp.full_like(case.tables["similar_users"], -1)}
    params = case.drawn_params()
    with_, without = (
        tiny.outputs(case.model, params, t, tiny.make_batch(case.epochs.plan, case.data, t, samples, key))
        for t in (case.tables, nobody)
    )
    assert with_["values"]["distillation"] > 0 and without["values"]["distillation"] == 0
    assert without["values"]["ranking"] == with_["values"]["ranking"]
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(without["gradients"]))


@pytest.mark.parametrize("distillation", ["mse", "contrastive"])
def test_head_users_distillation_counts_as_much_as_their_weight_says(distillation):
    """The loss is linear in the weight: at 1 it is the plain one, at 0 the part of tail users, still over all of them."""
    case, batch, params = world()
    at = [float(weighted(distillation, weight, batch, params)["distillation"]) for weight in (0.0, 0.25, 1.0)]
    assert at[2] == float(of(distillation=distillation)["distillation"])
    assert 0 < at[0] < at[2] and at[1] == pytest.approx(at[0] + 0.25 * (at[2] - at[0]), rel=1e-4)
    if distillation == "mse":
        is_tail = np.asarray(~groups.head_users(case.corpus))[np.asarray(batch.users_B)]
        tail = values(case.model, params, case.tables, batch.replace(distils_B=batch.distils_B & is_tail))
        share = (np.asarray(batch.distils_B) & is_tail).sum() / np.asarray(batch.distils_B).sum()
        assert at[0] == pytest.approx(float(tail["distillation"]) * share, rel=1e-5)


def weighted(distillation, weight, batch, params):
    case = tiny.case("sasrec", "llmesr", distillation=distillation, head_user_weight=weight)
    tables = {**world()[0].tables, "tail_user": jnp.asarray(~groups.head_users(case.corpus))}
    assert ("tail_user" in case.tables) == (weight != 1)
    return values(case.model, params, tables, batch)

"""User vectors for everybody against each user alone; a constant model against chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models import backbones, recommender
from llmesr_jax.ranking import engine, evaluate, inference
from llmesr_jax.ranking.metrics import from_ranks

MAX_LEN = 9


def everyone(case, split):
    """Rows of the evaluated users, and how many interactions are their input."""
    rows = evaluate.inputs(case.corpus, split, seen="shown").rows_E
    return rows, {"valid": case.corpus.train_lengths_U, "test": case.corpus.lengths_U - 1}[split][rows]


def vectors(case, params, split):
    rows, stops = everyone(case, split)
    histories = inference.histories(case.corpus, rows, stops, case.config, case.model.supervision)
    return np.asarray(inference.user_vectors(case.model, params, case.tables, histories))


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone, method, layout",
    [
        ("sasrec", "llmesr", "bucketed"),
        ("bert4rec", "none", "bucketed"),
        ("bert4rec", "none", "packed"),
        ("bert4rec", "none", "padded"),
        ("gru4rec", "none", "padded"),
    ],
)
@pytest.mark.parametrize("rows", [2048, 5])
def test_everybodys_vector_is_the_users_alone(backbone, method, layout, rows, monkeypatch):
    """The newest items that fit; a mask token behind them under the cloze task. `rows` a batch do not matter."""
    monkeypatch.setattr(inference, "_ROWS", rows)
    case = tiny.case(backbone, method, layout)
    params, split = case.drawn_params(), "test" if rows == 5 else "valid"
    ours = vectors(case, params, split)
    masked = case.model.supervision == "masked"
    token = [case.corpus.num_items + 1] if masked else []
    parts = [tiny.history(case.corpus, u)[:n][-(MAX_LEN - masked) :] + token for u, n in zip(*everyone(case, split))]
    assert max(map(len, parts)) == MAX_LEN and min(map(len, parts)) < 4
    for vector, part in zip(ours, parts, strict=True):
        alone = tiny.user_vectors(case.model, params, case.tables, tiny.lay([part], ((1, MAX_LEN),)))
        np.testing.assert_allclose(vector, alone[0], atol=1e-5)


def test_item_vectors_are_the_tables_rows():
    case = tiny.case("gru4rec", "none")
    params = case.drawn_params()
    items = inference.item_vectors(case.model, params, case.tables)
    np.testing.assert_array_equal(items, params["table"]["items"][1:-1])


@pytest.mark.parametrize("backbone, method", [("sasrec", "llmesr"), ("bert4rec", "none")])
def test_a_constant_model_gets_what_chance_gets(backbone, method):
    """All parameters 0: every score ties, so each user's metric is its mean over all orders of the candidates."""
    case = tiny.case(backbone, method)
    params = jax.tree.map(jnp.zeros_like, case.params())
    users, items = vectors(case, params, "test"), inference.item_vectors(case.model, params, case.tables)
    inputs = evaluate.inputs(case.corpus, "test", seen="shown")
    summary, ranks, _ = evaluate.evaluate(jnp.asarray(users), items, inputs, seed=1)
    for protocol, (higher, tied) in ranks.items():
        assert not higher.any()
        if protocol == "full":
            assert set(tied.tolist()) == {case.corpus.num_items - 1}
        chance = np.minimum(1, 10 / (tied + 1))
        assert summary[protocol]["overall"]["H@10"] == pytest.approx(chance.mean())
        mrr = np.mean([np.mean(1 / np.arange(1, n + 2)) for n in tied])
        assert summary[protocol]["overall"]["MRR"] == pytest.approx(mrr)
    assert from_ranks(np.zeros(1, int), np.array([100]))["H@10"] == pytest.approx(
        10 / 101
    )  # the protocol's 100 candidates


SYSTEMS = [*((name, "none") for name in backbones.PLUGINS.names()), ("sasrec", "llmesr"), ("sasrec", "faerec")]


def precisions(lowered):
    """The precision that each matrix product, or convolution, of a program asks for."""
    lines = [
        line for line in lowered.as_text().splitlines() if "dot_general" in line or "stablehlo.convolution" in line
    ]
    return ["HIGHEST" if line.count("HIGHEST") == 2 else "DEFAULT" for line in lines]


@pytest.mark.parametrize("backbone, method", SYSTEMS)
def test_vectors_to_rank_are_computed_in_full_float32(backbone, method):
    """As scores are: a GPU's default, TF32, keeps 10 bits of a factor, and which users tie or win would follow it."""
    case = tiny.case(backbone, method)
    params = jax.eval_shape(lambda: case.params())
    histories = inference.histories(case.corpus, *everyone(case, "valid"), case.config, case.model.supervision)
    users = precisions(inference._encode.lower(case.model, params, case.tables, *histories))
    assert users and set(users) == {"HIGHEST"}
    assert set(precisions(inference.item_vectors.lower(case.model, params, case.tables))) <= {"HIGHEST"}
    assert set(precisions(jax.jit(engine._scores).lower(jnp.ones((2, 4)), jnp.ones((3, 4))))) == {"HIGHEST"}


def test_a_training_step_runs_at_the_devices_default():
    case = tiny.case("sasrec", "llmesr")
    params, batch = jax.eval_shape(lambda: case.params()), jax.eval_shape(lambda: case.batch())
    gradient = jax.jit(jax.grad(lambda p, t, b: recommender.loss_fn(case.model, p, t, b, None)[0]))
    assert set(precisions(gradient.lower(params, case.tables, batch))) == {"DEFAULT"}

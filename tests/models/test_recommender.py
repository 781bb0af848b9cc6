"""Composing a model by name: its loss, its sizes, and what is refused."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.core.errors import InputError
from llmesr_jax.models import recommender
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.types import Needs, Sizes, Term

SIZES = Sizes(num_items=9, max_len=5)


def build(method="none", backbone="sasrec", ranking="bpr", sizes=SIZES, **changes):
    configs = tiny.plugin_config("method", method, **changes), tiny.plugin_config("backbone", backbone, **changes)
    return recommender.build(method, configs[0], backbone, configs[1], LossConfig(ranking), sizes)


def test_the_total_is_the_weighted_sum_of_the_named_terms():
    model = types.SimpleNamespace(
        terms=lambda params, tables, batch, key, epoch, numbers: {
            "a": Term(params * 3, 1.0),
            "b": Term(params**2, 0.5 * epoch),
        }
    )
    total, values = recommender.loss_fn(model, jnp.array(2.0), {}, None, None, epoch=3.0)
    assert float(total) == 6 + 1.5 * 4
    assert {name: float(v) for name, v in values.items()} == {"a": 6.0, "b": 4.0}
    assert (
        float(jax.grad(lambda p: recommender.loss_fn(model, p, {}, None, None, 3.0)[0])(jnp.array(2.0))) == 3 + 1.5 * 4
    )


def test_the_configured_ranking_loss_is_taken():
    bpr, bce = (tiny.case("gru4rec", "none", ranking=ranking) for ranking in ("bpr", "bce"))
    batch, params = bpr.batch(), jax.tree.map(jnp.zeros_like, bpr.params())
    found = [float(tiny.outputs(case.model, params, case.tables, batch)["total"]) for case in (bpr, bce)]
    assert found == pytest.approx([np.log(2), 2 * np.log(2)])  # all scores are 0


def test_dropout_is_off_without_a_key_and_follows_the_key():
    case = tiny.case("sasrec", "none")
    params, batch = case.params(), case.batch()
    total = lambda key: float(tiny.outputs(case.model, params, case.tables, batch, key)["total"])  # noqa: E731
    one, other = jax.random.key(1), jax.random.key(2)
    assert total(None) == total(None) and total(one) == total(one)
    assert len({total(None), total(one), total(other)}) == 3


def test_initial_parameters_follow_the_key_alone():
    case = tiny.case("gru4rec", "none")
    tiny.assert_equal(case.params(1), case.params(1))
    assert np.abs(np.asarray(case.params(1)["table"]["items"] - case.params(2)["table"]["items"])).max() > 0


def test_only_the_cloze_task_looks_both_ways():
    found = {name: build(backbone=name).sizes.bidirectional for name in ("sasrec", "gru4rec", "bert4rec")}
    assert found == {"sasrec": False, "gru4rec": False, "bert4rec": True}


def test_parameters_are_counted():
    """GRU4Rec over 30 items at width 4: a table of V + 2 rows, and two matrices (4, 12)."""
    case = tiny.case("gru4rec", "none")
    assert recommender.parameter_count(case.params()) == (case.corpus.num_items + 2) * 4 + 2 * 4 * 12


def test_what_methods_need():
    config = lambda method, **changes: tiny.plugin_config("method", method, **changes)  # noqa: E731
    assert recommender.needs("none", config("none")) == Needs()
    assert recommender.needs("llminit", config("llminit")) == Needs(frozenset({"item_pca"}), pca_width=4)
    everything = frozenset({"item_llm", "item_pca", "similar_users"})
    assert recommender.needs("llmesr", config("llmesr")) == Needs(everything, pca_width=4, similar=2)


def test_a_method_without_the_embeddings_it_needs_is_refused_in_one_line():
    with pytest.raises(InputError, match="'llmesr' needs LLM embeddings") as caught:
        build(method="llmesr")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind, method, backbone", [("method", "nothing", "sasrec"), ("backbone", "none", "layers")])
def test_an_unknown_plug_in_is_refused_with_the_known_ones(kind, method, backbone):
    with pytest.raises(
        InputError, match=f"{kind} .* is not known; expected one of: .*{'none' if kind == 'method' else 'sasrec'}"
    ):
        recommender.build(method, None, backbone, None, LossConfig(), SIZES)


@pytest.mark.parametrize("name", ["before_epoch", "for_serving"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: None, "returned b as nothing, expected float32\\[2\\]"),
        (lambda params: {"b": params["b"]}, "returned table/items as nothing, expected float32\\[9, 4\\]"),
        (
            lambda params: {**params, "b": params["b"][:1]},
            "returned b as float32\\[1\\], expected float32\\[2\\]",
        ),
    ],
)
def test_parameters_of_another_form_are_refused(name, change, message):
    plain = build()
    function = lambda config, apply, params, *more: change(params)  # noqa: E731
    model = dataclasses.replace(plain, plugin=types.SimpleNamespace(**{name: function}))
    params = {"table": {"items": jnp.zeros((9, 4))}, "b": jnp.zeros(2)}
    with pytest.raises(InputError, match=f"method 'none': {name} {message}; it must return all parameters that it got"):
        getattr(model, name)(params, {}, None)

"""`precision=bfloat16`: what is narrow, what stays wide, and how far the numbers move."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models import backbones, recommender
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.training import state, steps
from llmesr_jax.training.optimizer import adam

PAIRS = [("sasrec", "none"), ("sasrec", "llmesr"), ("gru4rec", "llmesr"), ("bert4rec", "llmesr"), ("lrurec", "none")]


def models(backbone, method):
    case = tiny.case(backbone, method, blocks=1)
    configs = tiny.plugin_config("method", method), tiny.plugin_config("backbone", backbone, blocks=1)
    build = lambda precision: recommender.build(  # noqa: E731
        method, configs[0], backbone, configs[1], LossConfig(), case.model.sizes, precision
    )
    return case, build("float32"), build("bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("backbone, method", PAIRS)
def test_the_narrow_model_is_the_wide_one_but_for_rounding(backbone, method):
    case, wide, narrow = models(backbone, method)
    batch, params = case.batch(), case.params()
    ours, wanted = (tiny.outputs(model, params, case.tables, batch) for model in (narrow, wide))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(ours))
    tiny.assert_close(ours["values"], wanted["values"], 0.02)
    tiny.assert_close({k: ours[k] for k in ("users", "items")}, {k: wanted[k] for k in ("users", "items")}, 0.05)
    flat = lambda out: np.concatenate([np.ravel(x) for x in jax.tree.leaves(out["gradients"])])  # noqa: E731
    a, b = flat(ours), flat(wanted)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99
    assert np.abs(a - b).max() > 0  # it is another computation


@pytest.mark.parametrize(
    "backbone, method",
    [
        pytest.param(*pair, marks=() if pair in PAIRS[:2] else pytest.mark.slow)
        for pair in sorted({*PAIRS, *((backbone, "none") for backbone in backbones.PLUGINS.names())})
    ],
)
def test_matrix_products_are_narrow_and_softmax_and_losses_wide(backbone, method):
    case, _, narrow = models(backbone, method)
    arguments = (jax.eval_shape(case.params), case.tables, jax.eval_shape(case.batch))
    loss = lambda p, t, b: recommender.loss_fn(narrow, p, t, b, None)[0]  # noqa: E731
    products, exponentials = set(), set()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                products.add(equation.invars[0].aval.dtype.name)
            if equation.primitive.name in ("exp", "log", "log1p", "rsqrt"):
                exponentials.add(equation.invars[0].aval.dtype.name)
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                if hasattr(inner, "eqns"):
                    walk(getattr(inner, "jaxpr", inner))

    walk(jax.make_jaxpr(loss)(*arguments).jaxpr)
    assert products == {"bfloat16"} and exponentials == {"float32"}


@pytest.mark.slow
def test_masters_and_moments_stay_float32():
    case, _, narrow = models("sasrec", "llmesr")
    optimizer = adam(1e-3)
    example = steps.example_batch(case.epochs.plan, case.data, case.tables)
    begin = jax.eval_shape(lambda: state.take(state.create(narrow, optimizer, case.tables, example, (1,)), 0))
    step = functools.partial(steps.train_step, narrow, optimizer)
    with jax.numpy_dtype_promotion("standard"):
        after, _ = jax.eval_shape(step, begin, case.tables, case.batch(), jax.random.key(0), jnp.float32(1))
    floats = [x for x in jax.tree.leaves(after) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert floats and all(x.dtype == jnp.float32 for x in floats)

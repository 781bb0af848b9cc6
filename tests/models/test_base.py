"""FAERec's "Base": SASRec of its form under `none`, against the same written down plainly, sequence by sequence.

One training step: the loss, every gradient, and the parameters after Adam.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models import recommender
from llmesr_jax.models.backbones import sasrec
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.methods import none
from llmesr_jax.models.types import Batch, Sizes
from llmesr_jax.training import optimizer

ITEMS, LENGTH, WIDTH, HEADS = 12, 6, 4, 2
ROWS, TARGETS, NEGATIVES = [[1, 2, 3, 4], [5, 1], [7]], [[2, 3, 4, 6], [1, 9], [2]], [[8, 9, 10, 11], [3, 3], [1]]
RATE = 1e-3


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def encode(params, row):
    """User vectors after each item of one sequence: (n, D)."""
    p, n = params["backbone"], len(row)
    # The newest item has the last position: the release pads on the left.
    x = norm(params["table"]["items"][np.array(row)] + p["positions"]["table"][-n:], p["positions"]["norm"])
    for i in range(2):
        q = p["transformer"]
        a, f = q[f"attention_{i}"], q[f"feedforward_{i}"]
        query, key, value = jnp.split(x @ a["in_kernel"] + a["in_bias"], 3, axis=1)
        mixed = []
        for part in np.split(np.arange(WIDTH), HEADS):
            weights = jnp.exp(query[:, part] @ key[:, part].T / np.sqrt(WIDTH // HEADS)) * np.tri(n)
            mixed.append(weights / weights.sum(1, keepdims=True) @ value[:, part])
        x = norm(x + dense(jnp.concatenate(mixed, axis=1), a["out"]), q[f"attention_residual_{i}"]["norm"])
        inner = dense(x, f["in"])
        inner = inner * (1 + jax.scipy.special.erf(inner / np.sqrt(2))) / 2
        x = norm(x + dense(inner, f["out"]), f["out_residual"]["norm"])
    return x


def plain_loss(params):
    """Binary cross-entropy, the positives' mean and the negatives'."""
    table, losses = params["table"]["items"], [[], []]
    for row, *asked in zip(ROWS, TARGETS, NEGATIVES):
        h = encode(params, row)
        for found, items, sign in zip(losses, asked, (-1, 1)):
            found.append(jnp.log1p(jnp.exp(sign * (h * table[np.array(items)]).sum(1))))
    return sum(jnp.concatenate(found).mean() for found in losses)


def base():
    settings = sasrec.Config(form="faerec", heads=HEADS, dropout=0.5)
    config = none.Config(width=WIDTH, table_start="normal")
    return recommender.build("none", config, "sasrec", settings, LossConfig("bce"), Sizes(ITEMS, LENGTH))


def batch_of_rows():
    laid = tiny.lay(ROWS, ((1, 5), (2, 3)))
    at = np.concatenate(tiny.slots(laid))
    slots = lambda rows: jnp.zeros(len(laid.items_T), jnp.int32).at[at].set(np.concatenate(rows).astype(np.int32))  # noqa: E731
    return Batch(laid, slots(TARGETS), slots(NEGATIVES)[:, None], jnp.ones(3, bool))


@pytest.mark.slow
def test_a_step_by_hand():
    with tiny.float64(), jax.numpy_rank_promotion("allow"):
        model, batch = base(), batch_of_rows()
        params = tiny.as_float64(tiny.init(model, jax.random.key(0), {}, batch))
        params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params)
        run = jax.jit(jax.value_and_grad(lambda p: recommender.loss_fn(model, p, {}, batch, None)[0]))
        loss, gradient = run(params)
        wanted = jax.jit(jax.value_and_grad(plain_loss))(params)
        tiny.assert_close((loss, gradient), wanted, 1e-10)

        adam = optimizer.adam(RATE)
        updates, _ = adam.update(gradient, adam.init(params), params)
        # Adam's first step: both moments' corrections cancel their shares.
        first = jax.tree.map(lambda g: -RATE * np.asarray(g) / (np.abs(np.asarray(g)) + 1e-8), wanted[1])
        tiny.assert_close(updates, first, 1e-9)


@pytest.mark.parametrize("start, deviation", [("normal", 0.02), ("xavier", np.sqrt(2 / (4000 + 2 + 64)))])
def test_the_tables_start_has_the_deviation_that_the_setting_names(start, deviation):
    sizes = Sizes(4000, LENGTH)
    config = none.Config(width=64, table_start=start)
    model = recommender.build("none", config, "sasrec", sasrec.Config(), LossConfig(), sizes)
    params = jax.jit(model.init)(jax.random.key(1), {}, batch_of_rows())
    assert float(params["table"]["items"].std()) == pytest.approx(deviation, rel=0.01)


def test_under_faerec_the_norm_behind_its_gate_is_the_only_one_before_the_encoder():
    params = {name: tiny.case("sasrec", name, form="faerec", heads=2).params() for name in ("none", "faerec")}
    assert set(params["none"]["backbone"]["positions"]) == {"table", "norm"}
    assert set(params["faerec"]["backbone"]["positions"]) == {"table"}

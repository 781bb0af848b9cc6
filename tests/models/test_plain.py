"""The fast path against LLM-ESR written down plainly: padded, item by item, one matrix after the other.

SASRec, preset `paper`, over random ragged batches: the total, both terms and every gradient.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models import recommender, types
from llmesr_jax.models.backbones import sasrec
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.methods import llmesr
from llmesr_jax.models.types import Batch, Sizes
from llmesr_jax.ranking import layout

pytestmark = pytest.mark.slow

ITEMS, LENGTH, USERS, SIMILAR, LLM, WIDTH = 40, 9, 6, 3, 7, 4


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-8) * p["scale"] + p["bias"]


def attention(q, k, v, real):
    """(B, L, D): causal softmax attention over the real keys."""
    scores = jnp.einsum("bqd,bkd->bqk", q, k) / np.sqrt(q.shape[-1])
    seen = np.tril(np.ones((LENGTH, LENGTH), bool))[None] & real[:, None, :]
    return jax.nn.softmax(jnp.where(seen, scores, -1e9), axis=-1) @ v


def block(x, p, real):
    query, a = norm(x, p["attention_norm"]), p["attention"]
    w, b = jnp.split(a["in_kernel"], 3, axis=1), jnp.split(a["in_bias"], 3)
    mixed = attention(query @ w[0] + b[0], x @ w[1] + b[1], x @ w[2] + b[2], real)
    x = norm(query + mixed @ a["out"]["kernel"] + a["out"]["bias"], p["feedforward_norm"])
    f = p["feedforward"]
    return x + jax.nn.relu(x @ f["in"]["kernel"] + f["in"]["bias"]) @ f["out"]["kernel"] + f["out"]["bias"]


def items(params, tables, ids):
    a = params["adapter"]
    semantic = tables["item_llm"][ids] @ a["kernel_0"] + a["bias_0"]
    return params["table"]["items"][ids], semantic @ a["kernel_1"] + a["bias_1"]


def encode(params, tables, ids):
    """(B, L) -> (B, L, 2 D): padding on the right."""
    real, backbone = ids > 0, params["backbone"]
    positions = backbone["positions"]["table"][jnp.where(real, jnp.arange(1, LENGTH + 1), 0)]
    co, se = (x * np.sqrt(WIDTH) + positions for x in items(params, tables, ids))
    kernel = lambda view, name: params[f"cross_{view}"][name]["kernel"]  # noqa: E731
    crossed = [
        attention(other @ kernel(view, "query"), own @ kernel(view, "key"), own @ kernel(view, "value"), real)
        for view, own, other in (("collaborative", co, se), ("semantic", se, co))
    ]
    out = []
    for x in crossed:
        for i in range(2):
            x = block(x, backbone["transformer"][f"block_{i}"], real)
        out.append(norm(x, backbone["transformer"]["last_norm"]))
    return jnp.concatenate(out, axis=-1)


def plain_loss(params, tables, ids, targets, negatives, teachers):
    """Losses of (B, L) students with (B, N, L) teachers."""
    h = encode(params, tables, ids)
    score = lambda other: jnp.sum(h * jnp.concatenate(items(params, tables, other), axis=-1), axis=-1)  # noqa: E731
    margin = score(targets) - score(negatives)
    ranking = -jnp.sum(jnp.where(targets > 0, jax.nn.log_sigmoid(margin), 0)) / jnp.sum(targets > 0)
    newest = jnp.maximum((ids > 0).sum(1) - 1, 0)
    student = jnp.take_along_axis(h, newest[:, None, None], axis=1)[:, 0]
    flat = teachers.reshape(-1, LENGTH)
    last = (flat > 0).sum(1) - 1
    taught = jnp.take_along_axis(encode(params, tables, flat), last[:, None, None], axis=1)[:, 0]
    teacher = jax.lax.stop_gradient(taught.reshape(len(ids), SIMILAR, -1).mean(1))
    distillation = jnp.mean((student - teacher) ** 2)
    return ranking + 0.1 * distillation, {"ranking": ranking, "distillation": distillation}


@functools.cache
def model():
    sizes = Sizes(ITEMS, LENGTH, LLM)
    settings = llmesr.Config(width=WIDTH, similar=SIMILAR)
    return recommender.build("llmesr", settings, "sasrec", sasrec.Config(), LossConfig("bpr"), sizes)


def ragged(rng, rows):
    return [rng.integers(1, ITEMS + 1, n).tolist() for n in sorted(rng.integers(1, LENGTH + 1, rows))[::-1]]


def square(rows):
    return jnp.asarray([row + [0] * (LENGTH - len(row)) for row in rows], jnp.int32)


def groups(rows, buckets):
    """Rows, longest first, in as many lengths as `buckets` allows."""
    lengths = layout.best_lengths(np.array([len(row) for row in rows]), buckets)
    counts = [sum(low < len(row) <= high for row in rows) for low, high in zip((0, *lengths), lengths)]
    return tuple((n, length) for n, length in reversed(list(zip(counts, lengths))) if n)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.float64, 1e-11)])
def test_the_fast_path_is_the_plain_computation(seed, dtype, tolerance):
    with tiny.float64(), jax.numpy_rank_promotion("allow"):
        rng = np.random.default_rng(seed)
        students, teachers = ragged(rng, USERS), ragged(rng, USERS * SIMILAR)
        targets = [row[1:] + [int(rng.integers(1, ITEMS + 1))] for row in students]
        negatives = [rng.integers(1, ITEMS + 1, len(row)).tolist() for row in students]
        of = rng.permutation(USERS * SIMILAR).reshape(USERS, SIMILAR).astype(np.int32)
        laid = tiny.lay(students, groups(students, 3))
        at = np.concatenate(tiny.slots(laid))
        slots = lambda rows: jnp.zeros(len(laid.items_T), jnp.int32).at[at].set(np.concatenate(rows).astype(np.int32))  # noqa: E731
        batch = Batch(
            laid,
            slots(targets),
            slots(negatives)[:, None],
            jnp.ones(USERS, bool),
            tiny.lay(teachers, groups(teachers, 2)),
            jnp.asarray(of),
        )
        cast = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)  # noqa: E731
        needs = types.Needs(frozenset({"item_llm", "item_pca"}), WIDTH)
        tables = cast(
            {
                "item_llm": rng.normal(size=(ITEMS + 2, LLM)),
                "item_pca": rng.normal(size=(ITEMS + 2, needs.pca_width)),
            }
        )
        params = cast(tiny.init(model(), jax.random.key(seed), tables, batch))
        params = jax.tree.map(lambda x: x + jnp.asarray(0.1 * rng.normal(size=x.shape), dtype), params)
        fast = jax.jit(jax.value_and_grad(lambda p: recommender.loss_fn(model(), p, tables, batch, None), has_aux=True))
        arrays = (square(students), square(targets), square(negatives), square(teachers)[of])
        slow = jax.jit(jax.value_and_grad(lambda p: plain_loss(p, tables, *arrays), has_aux=True))
        found, wanted = fast(params), slow(params)
        assert all(x.dtype == dtype for x in jax.tree.leaves(found))
        tiny.assert_close(found, wanted, tolerance)

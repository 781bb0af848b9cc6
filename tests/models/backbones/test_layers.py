"""Attention against explicit loops; padding in closed form; stems and norms by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.kernels import attention
from llmesr_jax.models.layers import dense as layers
from llmesr_jax.models.layers import transformer

ROWS = [[3, 1, 2, 5], [4, 4, 1], [2, 6], [7]]
WIDTH = 4
attend = jax.jit(attention.attend, static_argnames=("heads", "causal", "mask_padding"))


def arrays(slots, count=3):
    return jax.random.normal(jax.random.key(1), (count, slots, WIDTH))


def by_loops(q, k, v, sequences, heads, causal, mask_padding):
    """The attention of every slot, one head, one pair of slots at a time."""
    out, start, half = np.zeros_like(q), 0, WIDTH // heads
    real = np.asarray(sequences.valid_T)
    for rows, length in sequences.buckets:
        for _ in range(rows):
            for i in range(start, start + length):
                keys = [
                    j for j in range(start, start + length) if (real[j] or not mask_padding) and (j <= i or not causal)
                ]
                for h in range(heads):
                    part = slice(h * half, (h + 1) * half)
                    weights = [math.exp(q[i, part] @ k[j, part] / math.sqrt(half)) for j in keys]
                    for weight, j in zip(weights, keys):
                        out[i, part] += weight / sum(weights) * v[j, part]
            start += length
    return out


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("causal, mask_padding", [(True, True), (False, True), (False, False)])
def test_attention_is_the_explicit_loop(heads, causal, mask_padding):
    sequences = tiny.lay(ROWS, ((2, 5), (2, 2)))
    q, k, v = arrays(14)
    ours, _ = attend(q, k, v, sequences, heads=heads, causal=causal, mask_padding=mask_padding)
    wanted = by_loops(*map(np.asarray, (q, k, v)), sequences, heads, causal, mask_padding)
    real = np.asarray(sequences.valid_T)
    np.testing.assert_allclose(ours[real], wanted[real], atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_one_query_a_row_gives_what_the_newest_of_all_gives(causal):
    sequences = tiny.lay(ROWS, ((2, 5), (2, 2)))
    q, k, v = arrays(14)
    options = {"heads": 2, "causal": causal, "mask_padding": True}
    every, _ = attend(q, k, v, sequences, **options)
    newest, _ = attend(layers.newest(q, sequences), k, v, sequences, **options)
    np.testing.assert_allclose(newest, layers.newest(every, sequences), atol=1e-6)


def test_views_on_a_leading_axis_do_not_mix():
    sequences = tiny.lay(ROWS, ((2, 5), (2, 2)))
    q, k, v = arrays(14, 6).reshape(3, 2, 14, WIDTH)
    options = {"heads": 1, "causal": True, "mask_padding": True}
    both, _ = attend(q, k, v, sequences, **options)
    for view in range(2):
        alone, _ = attend(q[view], k[view], v[view], sequences, **options)
        np.testing.assert_allclose(both[view], alone, atol=1e-6)


@pytest.mark.parametrize("heads", [1, 2])
def test_padding_that_a_row_leaves_out_is_counted_in_closed_form(heads):
    """Unmasked padding has one key and value: rows of 8 slots agree with short rows that know how many they lack."""
    max_len, key, value = 8, jnp.array([0.3, -1.0, 0.5, 0.2]), jnp.array([1.0, 2.0, -1.0, 0.0])
    short, full = tiny.lay(ROWS, ((2, 5), (2, 2))), tiny.lay(ROWS, ((4, max_len),), left=True)
    left_out = jnp.array([max_len - len(row) for row in ROWS], jnp.int32)
    rng, outputs = np.random.default_rng(0), []
    vectors = {(row, i): rng.normal(size=(3, WIDTH)) for row in range(4) for i in range(5)}
    for sequences in (short.replace(left_out_R=left_out), full):
        q, k, v = np.zeros((3, len(sequences.items_T), WIDTH), np.float32)
        k[:], v[:] = key, value
        at = tiny.slots(sequences)
        for row, slots in enumerate(at):
            for i, slot in enumerate(slots):
                q[slot], k[slot], v[slot] = vectors[row, i]
        out, _ = attend(
            *map(jnp.asarray, (q, k, v)), sequences, heads=heads, causal=False, mask_padding=False, padding=(key, value)
        )
        outputs.append(np.concatenate([out[slots] for slots in at]))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)


def separate(params, x, query, sequences, heads, causal):
    """Self-attention with its four matrices, and their biases, applied one by one."""
    parts = zip(jnp.split(params["in_kernel"], 3, axis=1), jnp.split(params["in_bias"], 3), (query, x, x))
    q, k, v = (y @ w + b[None] for w, b, y in parts)
    mixed, _ = attend(q, k, v, sequences, heads=heads, causal=causal, mask_padding=True)
    return mixed @ params["out"]["kernel"] + params["out"]["bias"][None]


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("last_only", [False, True])
def test_folding_keys_and_values_changes_nothing(heads, last_only):
    """Values and gradients of self-attention, every bias non-zero, against the matrices one by one."""
    sequences = tiny.lay(ROWS, ((2, 5), (2, 2)))
    x, query, weights = arrays(14)
    if last_only:
        query, weights = layers.newest(query, sequences), layers.newest(weights, sequences)
    module = attention.SelfAttention(heads, True, True, dropout=0.5)
    params = module.init(jax.random.key(0), query, x, sequences, True)["params"]
    keys = iter(jax.random.split(jax.random.key(1), 4))
    params = jax.tree.map(lambda w: w + jax.random.normal(next(keys), w.shape), params)
    real = (sequences.valid_R if last_only else sequences.valid_T)[:, None].astype(x.dtype)

    def ours(params, x):
        out = module.apply({"params": params}, query, x, sequences, True)
        return jnp.sum(out * weights * real), out * real

    def plain(params, x):
        out = separate(params, x, query, sequences, heads, causal=True)
        return jnp.sum(out * weights * real), out * real

    found, wanted = (jax.grad(f, argnums=(0, 1), has_aux=True)(params, x) for f in (ours, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, wanted)


def test_folding_under_dropout_keeps_every_values_bias():
    """All values are 1 through their bias alone, so the output is the sum of the kept weights: 0 to 1 / (1 - rate)."""
    sequences = tiny.lay([[1, 2, 3]], ((1, 3),))
    module = attention.SelfAttention(1, False, True, dropout=0.5)
    params = {
        "in_kernel": jnp.zeros((2, 6)),
        "in_bias": jnp.array([0.0, 0, 0, 0, 1, 1]),
        "out": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
    }
    x = jnp.ones((3, 2))
    out = module.apply({"params": params}, x, x, sequences, False, rngs={"dropout": jax.random.key(1)})
    kept = np.asarray(out[:, 0]) * 3 / 2  # how many of three weights of 1/3, doubled, stay
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-5)
    assert kept.min() >= 0 and kept.max() <= 3 and len(set(kept.round())) > 1


def test_dropout_of_left_out_padding_keeps_its_expectation():
    """With zero weights the output is the padding's value times its share, on average over dropout, for each count."""
    counts = np.array([1, 2, 5], np.int32)
    sequences = tiny.lay([[1]] * 3, ((3, 1),)).replace(left_out_R=jnp.asarray(counts))
    module = attention.SelfAttention(1, False, False, dropout=0.6)
    x = jnp.zeros((3, 2))
    params = {
        "in_kernel": jnp.zeros((2, 6)),
        "in_bias": jnp.array([0.0, 0, 0, 0, 1, 1]),  # every value is 1, so the output is the sum of the weights
        "out": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
    }

    def run(key, params):
        return module.apply({"params": params}, x, x, sequences, False, rngs={"dropout": key})[:, 0]

    kept = jax.jit(jax.vmap(run, in_axes=(0, None)))(jax.random.split(jax.random.key(0), 4000), params)
    np.testing.assert_allclose(np.mean(kept, axis=0), 1.0, atol=0.1)


def test_the_stem_scales_and_adds_positions_of_the_row():
    sequences = tiny.lay([[5, 6], [7]], ((2, 3),), left=True)
    x = jnp.ones((6, WIDTH))
    stem = transformer.Positions(max_len=3, dropout=0.5)
    table = jnp.arange(5.0)[:, None] * jnp.ones((1, WIDTH))
    out = stem.apply({"params": {"table": table}}, x, sequences, True)
    np.testing.assert_allclose(out[:, 0], [2 + 0, 2 + 1, 2 + 2, 2 + 0, 2 + 0, 2 + 1])  # sqrt(4) x + position
    assert stem.init(jax.random.key(0), x, sequences, True)["params"]["table"].shape == (3 + 2, WIDTH)


def test_feed_forward_and_norm_by_hand():
    params = {
        "in": {"kernel": jnp.array([[1.0, -1], [0, 1]]), "bias": jnp.array([0.0, 1])},
        "out": {"kernel": 2 * jnp.eye(2), "bias": jnp.array([0.0, 3])},
    }
    out = transformer.FeedForward(0.5).apply(
        {"params": params}, jnp.array([[-1.0, 2.0]]), tiny.lay([[1]], ((1, 1),)), True
    )
    np.testing.assert_allclose(out, [[-1 + 0, 2 + 2 * 4 + 3]])  # relu(-1, 1 + 2 + 1) = (0, 4)
    norm = layers.LayerNorm().apply({"params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}}, jnp.array([[1.0, 3.0]]))
    np.testing.assert_allclose(norm, [[-1.0, 1.0]], rtol=1e-6)


def test_padding_leaves_a_block_as_zero():
    sequences = tiny.lay([[5, 6], []], ((2, 3),))
    block = transformer.Block(1, False, False, 0.0)
    x = jax.random.normal(jax.random.key(0), (6, WIDTH))
    out = block.apply(block.init(jax.random.key(1), x, sequences, True, False), x, sequences, True, False)
    assert not np.asarray(out)[~np.asarray(sequences.valid_T)].any()
    assert np.isfinite(out).all() and np.asarray(out)[:2].all()

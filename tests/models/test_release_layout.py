"""The preset `release` attends to padding; leaving the padding out and counting it gives the same numbers."""

import golden_release
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import FILES, assert_met

from llmesr_jax.models.recommender import loss_fn
from llmesr_jax.models.types import Sequences


def bucketed(sequences: Sequences):
    """Left-padded rows of one length as left-aligned rows of two lengths, longest first.

    Returns: the sequences; the old row of each new one; the old slot of each new slot (-1: empty).
    """
    rows, length = sequences.buckets[0]
    items, positions = (np.asarray(x).reshape(rows, length) for x in (sequences.items_T, sequences.positions_T))
    lengths = (items > 0).sum(axis=1)
    order = np.argsort(-lengths, kind="stable")
    half = int(np.quantile(lengths, 0.5)) + 1
    long = int((lengths > half).sum())
    groups = tuple((n, width) for n, width in ((long, length), (rows - long, half)) if n)
    widths = np.repeat([width for _, width in groups], [n for n, _ in groups])
    slot = np.full(widths.sum(), -1)
    first = np.cumsum(widths) - widths
    for r, start in zip(order, first):
        slot[start : start + lengths[r]] = np.arange((r + 1) * length - lengths[r], (r + 1) * length)
    new = lambda x: jnp.asarray(np.where(slot >= 0, x.reshape(-1)[slot], 0), jnp.int32)  # noqa: E731
    last = jnp.asarray(first + np.maximum(lengths[order] - 1, 0), jnp.int32)
    left_out = jnp.asarray(length - lengths[order], jnp.int32)
    return Sequences(new(items), new(positions), last, groups, left_out), order, slot


@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason="no golden files; set LLMESR_GOLDEN to their folder")
@pytest.mark.parametrize("path", [p for p in FILES if "gru4rec" not in p.stem], ids=lambda p: p.stem)
def test_counted_padding_meets_the_padded_computation(path):
    meta, arrays = golden_release.read(path)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        model = golden_release.build(meta)
        params = jax.tree.map(jnp.asarray, golden_release.params(meta, arrays)[0])
        tables = {"item_llm": jnp.asarray(arrays["param/llm_item_emb.weight"], jnp.float64)}
        tables["item_pca"] = params["table"]["items"]
        padded = golden_release.batch(meta, arrays)
        students, order, slot = bucketed(padded.students)
        teachers, teacher_order, _ = bucketed(padded.teachers)
        at = lambda x: jnp.where(jnp.asarray(slot >= 0).reshape(-1, *[1] * (x.ndim - 1)), x[slot], 0)  # noqa: E731
        batch = padded.replace(
            students=students,
            targets_T=at(padded.targets_T),
            negatives_TxK=at(padded.negatives_TxK),
            teachers=teachers,
            teacher_rows_BxN=jnp.asarray(np.argsort(teacher_order))[padded.teacher_rows_BxN[order]],
        )
        run = jax.jit(jax.value_and_grad(lambda p, b: loss_fn(model, p, tables, b, None), has_aux=True))
        (total, values), gradients = run(params, batch)
        assert_met(values["distillation"], arrays["out/distillation_loss"], "distillation")
        assert_met(total, arrays["out/total_loss"], "total")
        golden = golden_release.params(meta, arrays, "grad/")[0]
        for (name, ours), theirs in zip(
            jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(golden), strict=True
        ):
            if name[0].key != "table":  # its padding row: the padded computation spreads its gradient over positions
                assert_met(ours, theirs, jax.tree_util.keystr(name))


def test_dropout_of_counted_padding_has_the_right_mean_and_spread():
    """The total weight of n dropped-out padded keys: mean w, variance w^2 (1 - keep) / (keep n)."""
    from llmesr_jax.models.kernels.attention import SelfAttention

    rows, length, max_len = 2000, 1, 11
    sequences = Sequences(
        jnp.ones(rows, jnp.int32), jnp.ones(rows, jnp.int32), jnp.arange(rows), ((rows, length),),
        jnp.full(rows, max_len - length),
    )  # fmt: skip
    layer = SelfAttention(heads=1, causal=False, mask_padding=False, dropout=0.5)
    # Keys score 0 everywhere, so each of the 11 weighs 1/11; only padding has a value (the bias), of 1.
    params = {
        "in_kernel": jnp.zeros((1, 3)), "in_bias": jnp.array([0.0, 0.0, 1.0]),
        "out": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
    }  # fmt: skip
    x = jnp.zeros((rows, 1))

    def run(deterministic):
        rngs = {"dropout": jax.random.key(0)}
        return np.asarray(layer.apply({"params": params}, x, x, sequences, deterministic, rngs=rngs))[:, 0]

    assert np.allclose(run(True), 1.0)
    # All 11 keys have value 1 here, each kept with 1/2: mean 1, variance 11 * (1/11)^2 = 1/11.
    dropped = run(False)
    assert abs(dropped.mean() - 1) < 0.03
    assert abs(dropped.var() - 1 / 11) < 0.01

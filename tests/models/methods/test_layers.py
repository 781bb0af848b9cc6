"""What methods share: the adapter formed as one matrix, applied to each different item once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.models import losses
from llmesr_jax.models.layers import tables as layers

ROOM = 12  # ids that the property below is given at most; padded to it, so that one compile serves


def test_the_formed_adapter_is_its_layers_one_after_the_other():
    """Values, and gradients in all four arrays."""
    module = layers.Adapter(6, 4)
    with tiny.float64():
        params = tiny.as_float64(module.init(jax.random.key(0))["params"])
        rows, weights = (jax.random.normal(jax.random.key(i), (7, n)) for i, n in ((1, 6), (2, 4)))

        def formed(p):
            kernel, bias = module.apply({"params": p})
            return rows @ kernel + bias[None]

        def chained(p):
            return (rows @ p["kernel_0"] + p["bias_0"][None]) @ p["kernel_1"] + p["bias_1"][None]

        run = lambda f: jax.jit(lambda p: (f(p), jax.grad(lambda p: (f(p) * weights).sum())(p)))(params)  # noqa: E731
        found = [run(f) for f in (formed, chained)]
    tiny.assert_close(*found, 1e-12)


ids = st.lists(st.integers(0, 8), min_size=1, max_size=ROOM)


@given(ids, ids)
def test_distinct_finds_each_id_once_and_the_trained_first(trained, other):
    """Lists are filled up by repeating an id, which changes no set."""
    filled = [jnp.asarray((part + [part[0]] * ROOM)[:ROOM], jnp.int32) for part in (trained, other)]
    found = _distinct(*filled)
    count, first = int(found.count), int(found.trained)
    ids_n = np.asarray(found.ids_n)
    assert ids_n[:first].tolist() == sorted(set(trained))
    assert ids_n[first:count].tolist() == sorted(set(other) - set(trained))
    assert not ids_n[count:].any() and len(ids_n) == min(9, 2 * ROOM)
    for part, place in zip(filled, found.places):
        np.testing.assert_array_equal(ids_n[np.asarray(place)], part)


@jax.jit
def _distinct(trained, other):
    return layers.distinct(9, trained, other)


def mapped(table, kernel, found, read_out):
    """A number that depends on the trained rows, and the rows."""
    rows = layers.map_rows(table, kernel, found.ids_n, found.count, found.trained)
    trained = jnp.take(rows, found.places[0], axis=0)
    return jnp.sum(jnp.sin(trained) * read_out), jnp.take(jax.lax.stop_gradient(rows), found.places[1], axis=0)


def plain(table, kernel, trained, other, read_out):
    rows = jnp.take(table, trained, axis=0) @ kernel
    return jnp.sum(jnp.sin(rows) * read_out), jnp.take(table, other, axis=0) @ kernel


def arrays(seed=0, items=60, trained=17, other=23):
    rng = np.random.default_rng(seed)
    table, kernel, read_out = (jnp.asarray(rng.normal(size=s)) for s in ((items, 6), (6, 4), (trained, 4)))
    wanted = [jnp.asarray(rng.integers(0, items, n), jnp.int32) for n in (trained, other)]
    return table, kernel, read_out, *wanted


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_mapping_different_rows_in_blocks_is_mapping_every_row(block, monkeypatch):
    """Values, gradients in table and kernel, and the gradient's derivative along a direction."""
    monkeypatch.setattr(layers, "BLOCK", block)
    with tiny.float64():
        table, kernel, read_out, trained, other = arrays()

        def ours(table, kernel):
            return mapped(table, kernel, layers.distinct(len(table), trained, other), read_out)

        def theirs(table, kernel):
            return plain(table, kernel, trained, other, read_out)

        def curvature(f):
            gradient = lambda kernel: jax.grad(lambda k: f(table, k)[0])(kernel)  # noqa: E731
            return jax.jvp(gradient, (kernel,), (jnp.cos(kernel),))

        found = [jax.grad(f, argnums=(0, 1), has_aux=True)(table, kernel) for f in (ours, theirs)]
        tiny.assert_close(*found, 1e-12)
        tiny.assert_close(curvature(ours), curvature(theirs), 1e-12)


def test_seeds_together_map_what_each_maps_alone(monkeypatch):
    """Under vmap every seed has ids, and a count, of its own."""
    monkeypatch.setattr(layers, "BLOCK", 4)
    table, kernel, *_ = arrays()
    _, _, read_out_S, trained_S, other_S = (jnp.stack(x) for x in zip(*(arrays(seed) for seed in range(3))))
    trained_S = trained_S.at[0].set(7)  # far fewer different ids than the others have

    def one(kernel, read_out, trained, other):
        return mapped(table, kernel, layers.distinct(len(table), trained, other), read_out)

    gradient = jax.grad(one, has_aux=True)
    kernels = jnp.stack([kernel, 2 * kernel, -kernel])
    together = jax.jit(jax.vmap(gradient))(kernels, read_out_S, trained_S, other_S)
    for i in range(3):
        alone = gradient(kernels[i], read_out_S[i], trained_S[i], other_S[i])
        tiny.assert_close(jax.tree.map(lambda x: x[i], together), alone, 1e-6)  # noqa: B023


def test_a_frozen_table_gets_no_gradient_computed():
    """The compiled gradient in the kernel holds no array as large as the table but the table itself."""
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((5003, 6), (6, 4), (17, 4))]
    _, _, _, trained, other = arrays()

    @functools.partial(jax.jit)
    def gradient(table, kernel, read_out):
        found = layers.distinct(len(table), trained, other)
        return jax.grad(lambda k: mapped(table, k, found, read_out)[0])(kernel)

    text = gradient.lower(*shapes).compile().as_text()
    assert "f32[5003,6]" in text
    made = [line for line in text.splitlines() if "= f32[5003,6]" in line and "parameter(" not in line]
    assert not [line for line in made if "get-tuple-element" not in line and "copy" not in line]


DRAWN = {
    "own": {"negatives": "own", "num_negatives": 3},
    "shared": {"negatives": "popularity", "num_negatives": 6},
    "in_batch": {"negatives": "in_batch"},
}


def _by_loops(loss, scores_TxV, batch, num_items):
    """The ranking loss with its definition written out, one slot at a time."""
    per_slot, own = [], np.asarray(batch.negatives_TxK)
    shared = None if batch.shared_K is None else [i for i in np.asarray(batch.shared_K) if i > 0]
    for t, target in enumerate(np.asarray(batch.targets_T)):
        if not target:
            continue
        at = (
            list(range(len(own[t])))
            if shared is None
            else [k for k, i in enumerate(np.asarray(batch.shared_K)) if i > 0]
        )
        ids = own[t] if shared is None else np.asarray(shared)
        log_q = np.broadcast_to(np.asarray(batch.log_q), (len(own), max(len(own[t]), np.size(batch.log_q))))[t]
        keep = [n for n, i in enumerate(ids) if shared is None or i != target]
        positive, negative = scores_TxV[t, target - 1], scores_TxV[t, ids[keep] - 1]
        if loss.ranking == "softmax":
            per_slot.append(np.logaddexp.reduce(scores_TxV[t]) - positive)
        elif loss.ranking == "sampled_softmax":
            correction = np.array([log_q[at[n]] + np.log(len(ids)) for n in keep]) if loss.settings.log_q else 0
            per_slot.append(np.logaddexp.reduce([positive, *(negative - correction)]) - positive)
        elif loss.ranking == "bpr":
            per_slot.append(np.logaddexp(0, negative - positive).mean())
        elif loss.ranking == "bce":
            per_slot.append(np.logaddexp(0, -positive) + np.logaddexp(0, negative).mean())
        else:
            count = own.shape[1] if shared is None else len(shared)
            share = min(count / (num_items - 1), 1.0)
            beta = share * (loss.settings.calibration * (1 - 1 / share) + 1 / share)
            per_slot.append(
                (beta * np.logaddexp(0, -positive) + count * np.logaddexp(0, negative).mean()) / (count + 1)
            )
    return np.mean(per_slot)


@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("score", ["dot", "cosine"])
@pytest.mark.parametrize("ranking", ["bpr", "bce", "gbce", "sampled_softmax", "sampled_softmax log_q", "softmax"])
def test_the_ranking_loss_is_its_definition_slot_by_slot(ranking, score, drawn):
    name, *log_q = ranking.split()
    own = losses.PLUGINS.load(name).Config(*(True for _ in log_q))
    loss = losses.LossConfig(name, score, 0.3, own)
    case = tiny.case("gru4rec", "none", **DRAWN[drawn])
    batch, num_items = case.batch(), case.corpus.num_items
    sizes = case.model.sizes
    with tiny.float64():
        h = jax.random.normal(jax.random.key(3), (len(batch.targets_T), 5))
        table = jax.random.normal(jax.random.key(4), (num_items, 5))
        rows = jnp.maximum(layers.candidates(loss, sizes, batch) - 1, 0)
        found = float(layers.ranking_term(loss, sizes, h, batch, table[rows]).value)
        everywhere = layers.ranking_term(loss, sizes, h, batch.replace(newest_only=False), table[rows])
        if score == "cosine":
            h, table = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (h, table))
        wanted = _by_loops(loss, np.asarray(h @ table.T) / 0.3, batch, num_items)
    assert batch.newest_only and found == pytest.approx(wanted, rel=1e-6)  # log q comes in float32
    assert float(everywhere.value) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("method", ["none", "llmesr"])
def test_cosine_vectors_have_length_1_and_their_product_is_the_trained_score(method):
    case = tiny.case("gru4rec", method, score="cosine")
    said = tiny.outputs(case.model, case.params(), case.tables, case.batch())
    real = np.asarray(case.batch().students.valid_R)
    for x in (said["users"][real], said["items"]):
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5)

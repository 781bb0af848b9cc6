"""Each user's part of a batch's gradient: what it is, and that the parts are the whole."""

import functools

import jax
import jax.numpy as jnp
import loss_parts
import numpy as np
import pytest
import tiny

from llmesr_jax.experiments.gradients import terms, users

SYSTEMS = {
    "llmesr": (("sasrec", "llmesr"), {}, {"ranking": "positions", "distillation": "users"}),
    "faerec": (
        ("gru4rec", "faerec"),
        {},
        {"ranking": "positions", "item_alignment": None, "feature_alignment": None},
    ),
    "shared negatives, cloze": (("bert4rec", "none"), {"negatives": "in_batch"}, {"ranking": "positions"}),
    "item regularizer": (
        ("gru4rec", "llmesr"),
        {"item_regularizer": 0.5, "layout": "padded", "alpha": 0.0},
        {"ranking": "positions", "item_regularizer": None},
    ),
}


@functools.cache
def system(name):
    (backbone, method), changes, means = SYSTEMS[name]
    return *loss_parts.started(backbone, method, **changes), means


def same(gradients):
    return gradients


whole = jax.jit(terms.gradients, static_argnums=0)


@functools.cache
def found(name):
    """(each user's parts, the batch's gradients by term)."""
    case, params, tables, batch, means = system(name)
    compute = jax.jit(
        lambda p, t, b: (
            users.map_gradients(case.model, p, t, b, same, means, epoch=2.0, block=3),
            terms.gradients(case.model, p, t, b, None, 2.0),
        )
    )
    return compute(params, tables, batch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llmesr", "faerec", "item regularizer"])
def test_what_adds_up_is_found_from_the_values(name):
    (backbone, method), changes, means = SYSTEMS[name]
    case = tiny.case(backbone, method, blocks=1, **changes)
    assert users.splits(case.model, case.drawn_params(), case.tables, case.batch(step=1), 2.0) == means


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llmesr", "faerec", "shared negatives, cloze"])
def test_users_sum_to_the_batchs_gradient(name):
    with tiny.float64():
        parts, by_term = found(name)
        means = SYSTEMS[name][2]
        assert set(parts) == {term for term, mean in means.items() if mean}
        for term, parts_B in parts.items():
            tiny.assert_close(jax.tree.map(lambda x: x.sum(axis=0), parts_B), by_term[term], 1e-12)
            norms_B = np.sqrt(sum(np.square(x).sum(axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(parts_B)))
            assert (norms_B > 1e-6).sum() >= 3  # several users have one, and it is not one user's alone


@pytest.mark.slow
def test_a_users_part_is_the_gradient_of_the_batch_with_the_others_targets_hidden():
    with tiny.float64():
        case, params, tables, batch, _ = system("llmesr")
        place = 2
        row_T = batch.students.row_T
        alone = batch.replace(
            targets_T=jnp.where(row_T == place, batch.targets_T, 0),
            distils_B=batch.distils_B & (np.arange(len(batch.distils_B)) == place),
        )
        gradients = whole(case.model, params, tables, alone, None)
        shares = users.shares(batch)
        for term, mean in (("ranking", "positions"), ("distillation", "users")):
            wanted = jax.tree.map(lambda x, mean=mean: x * shares[mean][place], gradients[term])
            tiny.assert_close(jax.tree.map(lambda x: x[place], found("llmesr")[0][term]), wanted, 1e-12)


def test_shares_by_hand():
    batch = tiny.case("gru4rec", "none").batch()
    targets = np.zeros_like(batch.targets_T)
    row_T = batch.students.row_T
    for row, count in ((0, 3), (1, 1)):
        targets[np.flatnonzero(row_T == row)[:count]] = 1
    distils = jnp.arange(len(batch.distils_B)) < 4
    shares = users.shares(batch.replace(targets_T=jnp.asarray(targets), distils_B=distils))
    np.testing.assert_array_equal(shares["positions"][:3], [0.75, 0.25, 0])
    np.testing.assert_array_equal(shares["users"][:5], [0.25, 0.25, 0.25, 0.25, 0])


def test_alignment_leaves_the_user_out():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(6, 4)) + 0.5
    mean = gradients.mean(axis=0)
    ours = users.alignment((gradients**2).sum(axis=1), gradients @ mean, mean @ mean)
    for i, g in enumerate(gradients):
        others = np.delete(gradients, i, axis=0).mean(axis=0)
        assert ours[i] == pytest.approx(g @ others / np.linalg.norm(g) / np.linalg.norm(others), rel=1e-9)


def test_the_noise_scale_by_hand():
    """Gradients 1 and 3: variance 2, mean 2, so |G|^2 = 4 - 2 / 2."""
    scale = users.noise_scale(np.array([1.0, 9.0]), 4.0)
    assert scale == {"trace": 2.0, "signal": 3.0, "scale": pytest.approx(2 / 3)}
    assert users.noise_scale(np.array([1.0, 1.0]), 0.0)["scale"] is None


def test_the_noise_scale_of_known_noise():
    """200 gradients with mean (3, 0, ..., 0) and unit variance in 20 dimensions: tr = 20, |G|^2 = 9, without bias."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(50):
        gradients = rng.normal(size=(200, 20))
        gradients[:, 0] += 3
        mean = gradients.mean(axis=0)
        found.append(users.noise_scale((gradients**2).sum(axis=1), mean @ mean))
    assert np.mean([f["trace"] for f in found]) == pytest.approx(20, rel=0.02)
    assert np.mean([f["signal"] for f in found]) == pytest.approx(9, rel=0.02)


def test_a_block_holds_what_fits():
    params = {"x": np.zeros((1024, 256), np.float32)}  # 1 MiB
    assert users.block_size(params, 2, 13 * 2**20) == 4
    assert users.block_size(params, 2, 1) == 1
    assert users.block_size(params, 1, 2**40) == 64

"""Under dropout, a training step's numbers depend neither on the layout nor on who else is in the batch."""

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models import backbones
from llmesr_jax.models.recommender import loss_fn

pytestmark = pytest.mark.slow

METHODS = ("none", "llmesr", "faerec")
# GRU4Rec has no dropout of its own, so only FAERec gives it some. LLMESR_ALL_PAIRS=1 computes all pairs.
SYSTEMS = [(name, "faerec" if name == "gru4rec" else "none") for name in backbones.PLUGINS.names()]
SYSTEMS += [("sasrec", "llmesr"), ("bert4rec", "faerec")]
if os.environ.get("LLMESR_ALL_PAIRS"):
    SYSTEMS = [(name, method) for name in backbones.PLUGINS.names() for method in METHODS]
FAEREC = {"form": "faerec", "heads": 2, "dropout": 0.4}
RELEASE = {"mask_padding": False, "heads": 2}
VARIANTS = [
    *((*pair, {}) for pair in SYSTEMS),
    ("sasrec", "faerec", FAEREC),
    ("sasrec", "none", {"causal": False, **RELEASE}),
    ("bert4rec", "llmesr", {"second_pass": True, "teacher_dropout": True, **RELEASE}),
]
PACKED = [
    ("sasrec", "llmesr", {"similar": 3}),
    ("sasrec", "faerec", FAEREC),
    ("sasrec", "rlmrec_con", {"causal": False, **RELEASE}),
    ("bert4rec", "rlmrec_gen", {}),
    VARIANTS[-1],
]


def name(variant):
    return "-".join([*variant[:2], *map(str, variant[2].values())])


def case(backbone, method, changes, layout="bucketed"):
    return tiny.case(backbone, method, layout=layout, **{"blocks": 1, **changes})


@functools.partial(jax.jit, static_argnames="model")
def training(model, params, tables, batch, key):
    """Total loss and its terms, and the gradient."""
    return jax.value_and_grad(loss_fn, argnums=1, has_aux=True)(model, params, tables, batch, key, 1.0)


@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_padded_rows_give_the_same_step(variant):
    """Loss, terms and every gradient, in float64."""
    short, full = (case(*variant, layout) for layout in ("bucketed", "padded"))
    params, samples = short.drawn_params(), short.epochs.order(1, 1)[1]
    said = []
    for system in (short, full):
        batch = tiny.make_batch(system.epochs.plan, system.data, system.tables, samples, jax.random.key(3))
        with tiny.float64():
            given = tiny.as_float64((params, system.tables))
            said.append(training(short.model, *given, batch, jax.random.key(5)))
            other = training(short.model, *given, batch, jax.random.key(6))
    assert len(short.epochs.plan.students.buckets) > 1 == len(full.epochs.plan.students.buckets)
    if variant[:2] not in (("gru4rec", "none"), ("gru4rec", "llmesr")):  # they have no dropout
        assert abs(float(other[0][0] - said[0][0][0])) > 1e-6
    tiny.assert_close(said[1], said[0], 1e-10)


@pytest.mark.parametrize("variant", PACKED, ids=name)
def test_an_accelerators_step_is_the_same(variant):
    """Rows packed into bins, and the step's different items at once: loss, terms and every gradient, in float64."""
    said = []
    for layout, whole in (("bucketed", False), ("packed", True)):
        system = case(*variant, layout)
        params, samples = system.drawn_params(), system.epochs.order(1, 1)[1]
        model = dataclasses.replace(system.model, sizes=dataclasses.replace(system.model.sizes, whole=whole))
        batch = tiny.make_batch(system.epochs.plan, system.data, system.tables, samples, jax.random.key(3))
        assert batch.students.places.packed == whole
        with tiny.float64():
            said.append(training(model, *tiny.as_float64((params, system.tables)), batch, jax.random.key(5)))
    tiny.assert_close(said[1], said[0], 1e-10)


def test_padded_rows_give_the_same_step_in_float32():
    short, full = (case("sasrec", "faerec", FAEREC, layout) for layout in ("bucketed", "padded"))
    params, samples, said = short.drawn_params(), short.epochs.order(1, 1)[1], []
    for system in (short, full):
        batch = tiny.make_batch(system.epochs.plan, system.data, system.tables, samples, jax.random.key(3))
        said.append(training(short.model, params, system.tables, batch, jax.random.key(5)))
    tiny.assert_close(said[1], said[0], 1e-5)


def ranking_of(system, params, samples, user):
    """The ranking loss of one user of the batch, and the gradient of it."""
    batch = tiny.make_batch(system.epochs.plan, system.data, system.tables, samples, jax.random.key(3))
    (row,) = np.flatnonzero((np.asarray(batch.users_B) == user) & np.asarray(batch.distils_B))
    theirs_T = batch.students.row_T == row
    batch = batch.replace(targets_T=jnp.where(theirs_T, batch.targets_T, 0))
    with tiny.float64():
        return one_term(system.model, *tiny.as_float64((params, system.tables)), batch, jax.random.key(5))


@functools.partial(jax.jit, static_argnames="model")
def one_term(model, params, tables, batch, key):
    return jax.value_and_grad(lambda p: model.terms(p, tables, batch, key)["ranking"].value)(params)


@pytest.mark.parametrize("backbone, method", [("sasrec", "llmesr"), ("sasrec", "faerec"), ("narm", "none")])
def test_a_users_masks_belong_to_the_place_in_the_batch(backbone, method):
    """Others come and go, and the user's row moves with them; at another place the user's masks are others."""
    system = case(backbone, method, {})
    params, samples = system.drawn_params(), system.epochs.order(1, 1)[0]
    place = int(np.argsort(system.corpus.train_lengths_U[samples])[len(samples) // 2])
    user, others = samples[place], np.delete(samples, place)
    wanted = ranking_of(system, params, samples, user)
    for company in (others[::-1], np.where(np.arange(len(others)) < 3, -1, others)):
        tiny.assert_close(ranking_of(system, params, np.insert(company, place, user), user), wanted, 1e-10)
    moved = ranking_of(system, params, np.roll(samples, 1), user)
    assert abs(float(moved[0] - wanted[0])) > 1e-6

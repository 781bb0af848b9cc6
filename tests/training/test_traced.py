"""Settings that are arguments of compiled programs: who shares one, and that an argument says what a constant says."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.core import knobs
from llmesr_jax.models import methods, recommender
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import traced


def build(**changes):
    return config_lib.build(flags={"method": "llmesr", **changes})


def fields_of(method):
    """The fields of a method that are traced."""
    return [name for name, s in knobs.fields(methods.PLUGINS.load(method).Config).items() if s.traced]


# Without numbers of its own a method has those of the loss, as `none` has.
SYSTEMS = [("gru4rec", method) for method in methods.PLUGINS.names() if fields_of(method) or method == "none"]


@functools.cache
def numbers_of(method):
    """{key: a value of its own, no default} for all traced numbers that the loss of a method may read."""
    own = {f"{method}.{field}": 0.61 + i / 30 for i, field in enumerate(fields_of(method))}
    own |= {"faerec.period": 7.0} if method == "faerec" else {}
    return {**own, "loss.temperature": 0.6}


def value(model, params, tables, batch, numbers, epoch=3.0):
    return recommender.loss_fn(model, params, tables, batch, None, epoch, numbers)[0]


def test_numbers_are_those_that_the_run_uses_and_that_are_not_0():
    assert traced.numbers(build()) == {
        "loss.temperature": 1.0,
        "train.learning_rate": 1e-3,
        "llmesr.alpha": 0.1,
    }
    assert traced.numbers(build(**{"loss.ranking": "gbce"}))["gbce.calibration"] == 0.75
    assert "llmesr.alpha" not in traced.numbers(build(method="none"))
    assert "llmesr.alpha" not in traced.numbers(build(**{"llmesr.alpha": 0.0}))


def test_runs_share_a_program_that_differ_in_numbers_seeds_and_folder():
    changes = {"llmesr.alpha": 0.5, "train.learning_rate": 0.1, "seeds": "1,2", "workdir": "w", "loss.temperature": 2.0}
    assert traced.program(build(**changes)) == traced.program(build())
    # Settings of methods and backbones that the run does not use make no difference either.
    assert traced.program(build(**{"gru4rec.layers": 2, "faerec.gate": False})) == traced.program(build())


@pytest.mark.parametrize(
    "change",
    [
        {"llmesr.alpha": 0.0},
        {"llmesr.similar": 5},
        {"backbone": "gru4rec"},
        {"train.epochs": 3},
        {"data.batch_size": 7},
    ],
    ids=str,
)
def test_other_settings_make_another_program(change):
    assert traced.program(build(**change)) != traced.program(build())


def test_put_replaces_fields_of_one_section():
    section = methods.PLUGINS.load("llmesr").Config()
    put = knobs.put(section, "llmesr", {"llmesr.alpha": 0.5, "loss.temperature": 2.0, "faerec.beta": 3.0})
    assert put == dataclasses.replace(section, alpha=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS, ids="-".join)
def test_an_argument_says_what_a_constant_says(system):
    """Losses and gradients in 64-bit, to 1e-12; each number moves the loss of the method that reads it."""
    case, method = tiny.case(*system), system[1]
    batch, params, numbers = case.batch(), case.drawn_params(), numbers_of(method)
    built = with_constants(case, system, numbers)
    with tiny.float64():
        params, tables, batch = tiny.as_float64((params, case.tables, batch))
        function = jax.jit(jax.value_and_grad(value, argnums=1), static_argnums=0)
        arrays = {key: jnp.asarray(x) for key, x in numbers.items()}
        found = function(case.model, params, tables, batch, arrays)
        tiny.assert_close(found, function(built, params, tables, batch, None), 1e-12)
        unread = {"faerec.fixed_item_weight", "faerec.fixed_feature_weight"}  # only without the curriculum
        for key in arrays.keys() - unread:
            moved = function(case.model, params, tables, batch, {**arrays, key: arrays[key] * 1.25})
            assert abs(moved[0] - found[0]) > 1e-7, key


def with_constants(case, system, numbers):
    """The model built from settings with these numbers in them."""
    backbone, method = system
    settings = knobs.put(tiny.plugin_config("method", method), method, numbers)
    loss = knobs.put(tiny.LossConfig("bpr"), "loss", numbers)
    of_backbone = tiny.plugin_config("backbone", backbone, blocks=1)
    return recommender.build(method, settings, backbone, of_backbone, loss, case.model.sizes)


_SLOW = ("melt", "rlmrec_con", "rlmrec_gen")  # beside LLM-ESR and FAERec


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(system, id="-".join(system), marks=pytest.mark.slow if system[1] in _SLOW else ())
        for system in SYSTEMS
        if fields_of(system[1])
    ],
)
def test_traced_settings_are_read_by_the_loss_alone(system):
    """What starts, serves and ranks is the same, whatever they are: so a group can share it."""
    case = tiny.case(*system)
    other = with_constants(case, system, numbers_of(system[1]))
    batch, params = case.batch(), case.params()
    tiny.assert_equal(tiny.init(other, jax.random.key(0), case.tables, batch), params)
    for one, two, args in (
        (case.model.user_vectors, other.user_vectors, (params, case.tables, batch.students)),
        (case.model.item_vectors, other.item_vectors, (params, case.tables)),
    ):
        assert str(jax.make_jaxpr(one)(*args)) == str(jax.make_jaxpr(two)(*args))


def test_the_optimiser_takes_its_step_size_as_an_argument():
    from llmesr_jax.training.optimizer import adam

    params, gradients = {"x": jnp.ones(3)}, {"x": jnp.asarray([0.1, -2.0, 30.0])}
    with jax.numpy_dtype_promotion("standard"):
        fixed, given = adam(0.03), adam(0.5)
        one = fixed.update(gradients, fixed.init(params), params)
        two = given.update(gradients, given.init(params), params, learning_rate=np.float32(0.03))
    tiny.assert_equal(one, two)
    np.testing.assert_allclose(one[0]["x"], [-0.03, 0.03, -0.03], rtol=1e-5)  # Adam's first step
    assert adam(0.03) is fixed

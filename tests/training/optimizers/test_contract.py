"""What every optimiser must hold to, over whatever files there are; and the first step of ours by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import optimizer, optimizers

NAMES = optimizers.PLUGINS.names()
PARAMS = {"table": {"items": jnp.array([[1.0, -2.0], [0.5, 4.0]])}, "bias": jnp.array([0.3])}
GRADIENT = {"table": {"items": jnp.array([[0.5, -3.0], [0.0, 0.0]])}, "bias": jnp.array([2.0])}


@pytest.fixture(autouse=True)
def promotion():
    """optax mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def made(name, **changes):
    module = optimizers.PLUGINS.load(name)
    settings = module.Config(**changes)
    return optimizer.injected(lambda rate: module.optimizer(settings, rate), 0.1)


def steps(transformation, count=3, **more):
    params, state = PARAMS, transformation.init(PARAMS)
    for _ in range(count):
        updates, state = transformation.update(GRADIENT, state, params, **more)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("name", NAMES)
def test_settings_have_help_and_no_two_optimisers_share_one(name):
    settings = knobs.fields(optimizers.PLUGINS.load(name).Config)
    assert all(setting.doc for setting in settings.values())
    built = config_lib.build({"method": "none", "train.optimizer": name})
    used = [key for key in config_lib.used(built) if key.partition(".")[0] in NAMES]
    assert {key.partition(".")[0] for key in used} == {name}


@pytest.mark.parametrize("name", NAMES)
def test_a_learning_rate_may_differ_under_vmap(name):
    """Two lanes at rates of their own, traced: what each is alone, with the rate as a constant."""
    rates = jnp.array([0.1, 0.02])
    both, _ = jax.jit(jax.vmap(lambda rate: steps(made(name), learning_rate=rate)))(rates)
    for i, rate in enumerate((0.1, 0.02)):
        module = optimizers.PLUGINS.load(name)
        alone, _ = jax.jit(lambda rate=rate, module=module: steps(module.optimizer(module.Config(), rate)))()
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x[i], y, rtol=1e-6, atol=1e-6), both, alone)


@pytest.mark.parametrize("name", NAMES)
def test_it_descends(name):
    params, _ = steps(made(name), 1)
    moved = jax.tree.map(lambda x, y, g: jnp.sum((x - y) * g), params, PARAMS, GRADIENT)
    assert all(float(x) < 0 for x in jax.tree.leaves(moved))


def test_first_steps_by_hand():
    """Adam and Lion move by the learning rate against the gradient's sign; AdamW takes rate * decay of all, too."""
    start, sign = np.asarray(PARAMS["table"]["items"]), np.sign(GRADIENT["table"]["items"])
    moved = {name: steps(made(name), 1)[0]["table"]["items"] - start for name in ("adam", "adamw", "lion")}
    np.testing.assert_allclose(moved["adam"], -0.1 * sign, atol=1e-6)
    np.testing.assert_allclose(moved["lion"], -0.1 * sign, atol=1e-6)
    np.testing.assert_allclose(moved["adamw"], -0.1 * sign - 0.1 * 0.01 * start, atol=1e-6)


def test_a_penalty_is_the_gradient_of_a_square():
    """Adam on g + 0.5 w, the gradient of the loss and of 0.25 w^2; without a gradient of its own a row moves, too."""
    params, state, plain = PARAMS, made("adam_l2", penalty=0.5).init(PARAMS), made("adam")
    theirs, wanted = plain.init(PARAMS), PARAMS
    for _ in range(3):
        updates, state = made("adam_l2", penalty=0.5).update(GRADIENT, state, params)
        params = optax.apply_updates(params, updates)
        penalised = jax.tree.map(lambda g, w: g + 0.5 * w, GRADIENT, wanted)
        updates, theirs = plain.update(penalised, theirs, wanted)
        wanted = optax.apply_updates(wanted, updates)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), params, wanted)
    assert np.all(np.abs(params["table"]["items"][1]) < np.abs(PARAMS["table"]["items"][1]) - 0.2)


def test_betas_are_settings():
    ours, _ = steps(made("adam", b1=0.5, b2=0.9, eps=0.1))
    wanted, _ = steps(optax.adam(0.1, 0.5, 0.9, 0.1))
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)


def test_auto_is_adam_and_unknown_names_are_refused():
    build = lambda **changes: config_lib.build({"method": "none", **changes})  # noqa: E731
    with pytest.raises(InputError, match="'sgb' is not known; expected one of: auto, adam, adam_l2, adamw, lion"):
        build(**{"train.optimizer": "sgb"})

    class Model:
        optimizer, trains = None, staticmethod(lambda path: True)

    runs = [optimizer.of_run(build(**changes), Model, ["w"]) for changes in ({}, {"train.optimizer": "adam"})]
    assert runs[0] is runs[1] is optimizer.adam()
    other = optimizer.of_run(build(**{"train.optimizer": "adam", "adam.b1": 0.5}), Model, ["w"])
    assert other is not runs[0]

    class Still(Model):
        trains = staticmethod(lambda path: False)

    with pytest.raises(
        InputError, match="method 'none' trains none of its 1 parameters; expected at least one; check `trains` in"
    ):
        optimizer.of_run(build(), Still, ["w"])


@pytest.mark.parametrize("keep", [0.0, 0.9])
def test_what_is_held_stays_and_has_no_state(keep):
    held = optimizer.holding(made("adamw"), ("bias",))
    held = optimizer.averaging(held, keep) if keep else held
    params, state = steps(held, learning_rate=0.1)
    free, _ = steps(made("adamw"), learning_rate=0.1)
    np.testing.assert_array_equal(params["bias"], PARAMS["bias"])
    np.testing.assert_array_equal(params["table"]["items"], free["table"]["items"])
    seen = optimizer.monitored(params, state)
    np.testing.assert_array_equal(seen["bias"], PARAMS["bias"])
    moments = state.inner if keep else state
    assert sum(x.size for x in jax.tree.leaves(moments) if x.ndim) == 2 * PARAMS["table"]["items"].size

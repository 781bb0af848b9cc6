"""Windows of training steps: seeds together against alone, repeatability, donated buffers, frozen tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.training import batches, state, steps
from llmesr_jax.training.optimizer import adam

SEEDS = (42, 43, 44)
SYSTEM = ("gru4rec", "llmesr")
OPTIMIZER = adam(1e-2)
EXPONENT = 0.9  # Adam's first moment after one step is (1 - 0.9) times the gradient


@pytest.fixture(autouse=True)
def promotion():
    """optax's bias correction mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def create(system, seeds):
    """State and sums of these seeds, on the host."""
    case = tiny.case(*system)
    example = steps.example_batch(case.epochs.plan, case.data, case.tables)
    states = state.create(case.model, OPTIMIZER, case.tables, example, seeds)
    sums = steps.zero_sums(case.model.outline(case.tables, example).terms, len(seeds))
    return jax.device_get((states, sums))


@functools.cache
def all_started(system):
    with jax.enable_x64(False):  # cached, so it must not depend on who asks first
        return create(system, SEEDS)


def start(system, seeds):
    """As `create`: that a seed starts in a group as alone is a test of its own."""
    return state.take(all_started(system), [SEEDS.index(seed) for seed in seeds])


def orders(system, seeds=SEEDS, width=2):
    """The first steps of each seed's first epoch: (S, width, B)."""
    return np.stack([tiny.case(*system).epochs.order(seed, 1)[:width] for seed in seeds])


def run(system, begin, order, count=1, tables=None, window=steps.run_window):
    """`run_window` from a state and sums."""
    case = tiny.case(*system)
    tables = case.tables if tables is None else tables
    states, sums = jax.tree.map(jnp.array, begin)  # buffers of its own, which may be donated
    return jax.device_get(
        window(
            case.model,
            OPTIMIZER,
            case.epochs.plan,
            states,
            sums,
            tables,
            case.data,
            order,
            np.int32(count),
            np.float32(1),
        )
    )


@functools.cache
def one_step(system, seeds=SEEDS):
    return run(system, start(system, seeds), orders(system, seeds))


def gradients(states):
    """The gradients of the first step, from Adam's first moment."""
    return jax.tree.map(lambda x: x / (1 - EXPONENT), states.opt_state[0].mu)


@pytest.mark.slow
def test_a_seed_starts_in_a_group_as_alone():
    tiny.assert_equal(create(SYSTEM, SEEDS[1:2]), start(SYSTEM, SEEDS[1:2]))


@pytest.mark.slow
def test_a_seed_steps_in_a_group_as_alone():
    """One step's losses and gradients within 1e-5, for each of three seeds."""
    group, group_sums = one_step(SYSTEM)
    for i, seed in enumerate(SEEDS):
        single, single_sums = one_step(SYSTEM, (seed,))
        tiny.assert_close(state.take(group_sums, i), state.take(single_sums, 0), 1e-5)
        tiny.assert_close(gradients(state.take(group, i)), gradients(state.take(single, 0)), 1e-5)
        assert max(np.abs(x).max() for x in jax.tree.leaves(gradients(single))) > 1e-2


def test_on_a_cpu_seeds_go_one_by_one():
    assert steps.lane_groups(3) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    begin = start(SYSTEM, SEEDS)[0]
    parts = state.split(begin, steps.lane_groups(3))
    tiny.assert_equal(parts[1], start(SYSTEM, SEEDS[1:2])[0])
    tiny.assert_equal(state.join(parts), begin)
    tiny.assert_equal(state.join(state.split(begin, [slice(0, 3)])), begin)


@pytest.mark.slow
def test_in_float64_a_seed_in_a_group_agrees_to_rounding():
    system, found = ("sasrec", "llmesr"), []
    with jax.enable_x64(True):
        tables = tiny.as_float64(tiny.case(*system).tables)
        for seeds in (SEEDS, SEEDS[1:2]):
            begin = tiny.as_float64(start(system, seeds))
            found.append(run(system, begin, orders(system, seeds), tables=tables))
    (group, group_sums), (single, single_sums) = found
    assert all(x.dtype == np.float64 for x in jax.tree.leaves((group.params, group_sums)))
    tiny.assert_close(state.take(group_sums, 1), state.take(single_sums, 0), 1e-10)
    tiny.assert_close(gradients(state.take(group, 1)), gradients(state.take(single, 0)), 1e-10)


@functools.partial(jax.jit, static_argnames="plan")
def second_batches(plan, data, tables, states, order_SxB):
    """The batches that `run_window` makes for its second step."""

    def one(one_state, samples_B):
        batch_key, _ = steps.step_keys(one_state.replace(step=jnp.ones((), jnp.int32)))
        return batches.make_batch(plan, data, tables, samples_B, batch_key)

    return jax.vmap(one)(states, order_SxB)


def test_each_seed_draws_the_same_batches_in_a_group_as_alone():
    """Bit for bit, negatives and masks; and no two seeds the same."""
    system = ("bert4rec", "none")
    case, seen = tiny.case(*system), set()
    made = functools.partial(second_batches, case.epochs.plan, case.data, case.tables)
    group = made(start(system, SEEDS)[0], orders(system)[:, 1])
    for i, seed in enumerate(SEEDS):
        single = made(start(system, (seed,))[0], orders(system, (seed,))[:, 1])
        tiny.assert_equal(state.take(group, i), state.take(single, 0))
        seen.add(np.asarray(single.targets_T).tobytes())
    assert len(seen) == 3


def test_keys_differ_between_steps_and_uses():
    one = state.take(start(("bert4rec", "none"), SEEDS)[0], 0)
    keys = [k for step in (0, 1) for k in steps.step_keys(one.replace(step=jnp.array(step, jnp.int32)))]
    assert len({np.asarray(jax.random.key_data(key)).tobytes() for key in keys}) == 4


def test_the_same_seed_twice_is_bit_equal():
    tiny.assert_equal(run(SYSTEM, start(SYSTEM, SEEDS), orders(SYSTEM)), one_step(SYSTEM))


def test_steps_beyond_the_count_are_not_taken():
    """What the rest of the window holds changes nothing; no step at all leaves everything as it was."""
    begin, order = start(SYSTEM, SEEDS), orders(SYSTEM)
    order[:, 1] = -1
    tiny.assert_equal(run(SYSTEM, begin, order), one_step(SYSTEM))
    tiny.assert_equal(run(SYSTEM, begin, order, count=0), begin)


def test_a_window_is_its_steps_one_after_the_other():
    both = run(SYSTEM, start(SYSTEM, SEEDS), orders(SYSTEM), count=2)
    tiny.assert_equal(both, run(SYSTEM, one_step(SYSTEM), orders(SYSTEM)[:, ::-1].copy(), count=1))
    assert both[0].step.tolist() == [2, 2, 2]


def test_states_are_donated():
    """The library's own jitted window reuses the buffers of states and sums."""
    given = []

    def window(*args):
        given.extend(jax.tree.leaves(args[3:5]))
        return steps.run_window(*args)

    run(SYSTEM, start(SYSTEM, SEEDS), orders(SYSTEM), window=window)
    assert given and all(x.is_deleted() for x in given)


def test_a_step_moves_every_parameter_and_no_table():
    case = tiny.case(*SYSTEM)
    before = jax.device_get((case.tables, case.data))
    after = run(SYSTEM, start(SYSTEM, SEEDS), orders(SYSTEM))[0]
    moved = jax.tree.map(lambda a, b: (a != b).any(), after.params, start(SYSTEM, SEEDS)[0].params)
    assert all(jax.tree.leaves(moved))
    tiny.assert_equal((case.tables, case.data), before)


def test_sums_are_the_losss_values():
    """`total` is the weighted sum of the terms."""
    sums = one_step(SYSTEM)[1]
    assert set(sums) == {"ranking", "distillation", "total"}
    np.testing.assert_allclose(sums["total"], sums["ranking"] + 0.1 * sums["distillation"], rtol=1e-6)
    assert (sums["distillation"] > 0).all()


def test_a_step_of_nobody_costs_and_changes_nothing():
    begin = start(SYSTEM, SEEDS)
    states, sums = run(SYSTEM, begin, np.full_like(orders(SYSTEM), -1))
    assert not any(x.any() for x in jax.tree.leaves(sums))
    tiny.assert_equal(states.params, begin[0].params)


RATES, ALPHAS = (1e-2, 3e-2, 1e-3), (0.1, 0.7, 0.01)


def run_cells(cells, seeds, dtype=np.float32, tables=None):
    """A step of lanes, each with its own seed, learning rate and alpha."""
    numbers = {
        "train.learning_rate": np.asarray([RATES[i] for i in cells], dtype),
        "llmesr.alpha": np.asarray([ALPHAS[i] for i in cells], dtype),
    }
    window = functools.partial(steps.run_window, numbers_S=numbers)
    begin = tiny.as_float64(start(SYSTEM, seeds)) if dtype == np.float64 else start(SYSTEM, seeds)
    return run(SYSTEM, begin, orders(SYSTEM, seeds), tables=tables, window=window)


def check_cells(dtype, tolerance, tables=None):
    group, group_sums = run_cells((0, 1, 2), (42, 42, 43), dtype, tables)
    for i, seed in enumerate((42, 42, 43)):
        single, single_sums = run_cells((i,), (seed,), dtype, tables)
        tiny.assert_close(state.take(group_sums, i), state.take(single_sums, 0), tolerance)
        tiny.assert_close(gradients(state.take(group, i)), gradients(state.take(single, 0)), tolerance)
        total = single_sums["ranking"] + ALPHAS[i] * single_sums["distillation"]
        np.testing.assert_allclose(single_sums["total"], total, rtol=1e-5)
        # Adam's first step is as long as its step size, wherever there is a gradient.
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), single.params, start(SYSTEM, (seed,))[0].params)
        assert max(jax.tree.leaves(moved)) == pytest.approx(RATES[i], rel=1e-3)


def test_a_cell_of_a_grid_steps_in_a_group_as_alone():
    """Lanes of different alphas and learning rates: losses and gradients within 1e-5."""
    check_cells(np.float32, 1e-5)


@pytest.mark.slow
def test_in_float64_a_cell_of_a_grid_agrees_to_rounding():
    with jax.enable_x64(True):
        check_cells(np.float64, 1e-10, tiny.as_float64(tiny.case(*SYSTEM).tables))


def test_lanes_go_as_many_at_a_time_as_asked_for():
    assert steps.lane_groups(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert steps.lane_groups(2, 5) == [slice(0, 2)]

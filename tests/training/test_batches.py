"""Batches made on the device against python lists: sequences, targets, negatives, masks, teachers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from batch_worlds import (
    BATCH,
    MAX_LEN,
    NEEDS,
    SIMILAR,
    SUPERVISIONS,
    rows_of,
    student_input,
    world,
)

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models.types import Needs
from llmesr_jax.training import epoch_plan


@pytest.mark.parametrize("layout", ["bucketed", "padded"])
@pytest.mark.parametrize("supervision", ["every", "last"])
def test_inputs_and_targets_are_the_users_items(supervision, layout):
    corpus, _, epochs, make = world(supervision, layout=layout)
    met = []
    for samples in epochs.order(5, 1):
        batch = make(samples, jax.random.key(0))
        rows = rows_of(samples, corpus, supervision)
        inputs = [student_input(corpus, user, supervision) for user in rows] + [[]] * (BATCH - len(rows))
        wanted = tiny.lay(inputs, batch.students.buckets, left=layout == "padded")
        real = np.asarray(wanted.valid_T)
        for name in ("items_T", "positions_T"):
            np.testing.assert_array_equal(getattr(batch.students, name), getattr(wanted, name))
        np.testing.assert_array_equal(batch.students.last_R, wanted.last_R)
        targets = np.asarray(batch.targets_T)
        assert not targets[~real].any()
        for user, at in zip(rows, tiny.slots(batch.students)):
            following = tiny.training(corpus, user)[-len(at) :]
            assert targets[at].tolist() == (
                following if supervision == "every" else [0] * (len(at) - 1) + following[-1:]
            )
        assert np.asarray(batch.distils_B).tolist() == [True] * len(rows) + [False] * (BATCH - len(rows))
        met += rows
    assert sorted(met) == [u for u in range(corpus.num_users) if len(tiny.training(corpus, u)) >= 2]


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_layouts_give_the_same_batch_to_every_user_and_position(supervision):
    """Same key, other rows: the same (row, position, shown item, target, negatives) and the same teachers."""
    seen, samples = {}, world(supervision, layout="bucketed", buckets=3)[2].order(1, 2)[0]
    for layout, buckets in (("bucketed", 3), ("bucketed", 1), ("padded", 3)):
        batch = world(supervision, layout=layout, buckets=buckets)[3](samples, jax.random.key(7))
        s = batch.students
        columns = [np.asarray(x) for x in (s.positions_T, s.items_T, batch.targets_T, *batch.negatives_TxK.T)]
        entries = [[tuple(int(c[t]) for c in columns) for t in at] for at in tiny.slots(s)]
        teachers = [[tiny.items_by_row(batch.teachers)[r] for r in rows] for rows in np.asarray(batch.teacher_rows_BxN)]
        seen[layout, buckets] = entries, teachers
    assert len({str(value) for value in seen.values()}) == 1


def test_the_cloze_task_hides_and_shows_the_stated_shares():
    corpus, _, epochs, make = world("masked", layout="padded")
    user = int(np.argmax(corpus.train_lengths_U))  # fills a row
    items = np.array(student_input(corpus, user, "masked"))
    batch = tiny.make_batches(*make.args, np.full((60, BATCH), user, np.int32), jax.random.split(jax.random.key(0), 60))
    shown = np.asarray(batch.students.items_T).reshape(60, BATCH, len(items))
    targets = np.asarray(batch.targets_T).reshape(shown.shape)
    hidden = targets > 0
    assert (targets == np.where(hidden, items, 0)).all() and (
        shown[~hidden] == np.broadcast_to(items, shown.shape)[~hidden]
    ).all()
    count, one = hidden.sum(), 1 / corpus.num_items
    kept = (shown == targets)[hidden].mean()
    token = (shown == corpus.num_items + 1)[hidden].mean()
    for found, wanted, n in ((hidden.mean(), 0.6, hidden.size), (token, 0.8, count), (kept, 0.1 + 0.1 * one, count)):
        assert abs(found - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / n)
    assert ((shown >= 1) & (shown <= corpus.num_items + 1)).all()


def test_the_cloze_tasks_second_look_hides_the_last_item_only():
    corpus, _, epochs, make = world("masked")
    users = [u for u in range(corpus.num_users) if len(tiny.training(corpus, u)) >= 2]
    assert sorted(epochs.samples_N) == sorted(users + [u + corpus.num_users for u in users])
    samples = np.array(users[:BATCH], np.int32) + corpus.num_users
    batch = make(samples, jax.random.key(0))
    for sample, at in zip(rows_of(samples, corpus, "masked"), tiny.slots(batch.students)):
        items = student_input(corpus, sample - corpus.num_users, "masked")
        assert np.asarray(batch.students.items_T)[at].tolist() == items[:-1] + [corpus.num_items + 1]
        assert np.asarray(batch.targets_T)[at].tolist() == [0] * (len(items) - 1) + items[-1:]


@pytest.mark.parametrize("teacher_input", ["whole", "input"])
@pytest.mark.parametrize("supervision", ["every", "masked"])
def test_teachers_are_the_similar_users_own_training_parts(supervision, teacher_input):
    corpus, similar, epochs, make = world(supervision, teacher_input=teacher_input)
    for samples in epochs.order(2, 1):
        batch = make(samples, jax.random.key(0))
        teachers = tiny.items_by_row(batch.teachers)
        rows = rows_of(samples, corpus, supervision)
        for sample, own in zip(rows, np.asarray(batch.teacher_rows_BxN)):
            parts = [tiny.training(corpus, u) for u in similar[sample % corpus.num_users]]
            wanted = [part if teacher_input == "whole" else part[:-1] for part in parts]
            assert [teachers[r] for r in own] == [part[-MAX_LEN:] for part in wanted]
        assert sorted(np.asarray(batch.teacher_rows_BxN).ravel()) == list(range(BATCH * SIMILAR))
        assert sum(map(bool, teachers)) <= len(rows) * SIMILAR


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_users_with_one_training_item_are_students_only_if_asked(supervision):
    """Asked for: an empty input whose only target is that item (none where every position needs an input)."""
    corpus, _, epochs, make = world(supervision, single_item_students=True)
    single = [u for u in range(corpus.num_users) if len(tiny.training(corpus, u)) == 1]
    assert single and set(single) <= set(epochs.samples_N)
    assert not set(single) & set(world(supervision)[2].samples_N)
    samples = np.array((single * BATCH)[:BATCH], np.int32) + (corpus.num_users if supervision == "masked" else 0)
    batch = make(samples, jax.random.key(1))
    only = [tiny.training(corpus, s % corpus.num_users)[0] for s in samples]
    shown = [[corpus.num_items + 1]] * BATCH if supervision == "masked" else [[]] * BATCH
    assert tiny.items_by_row(batch.students) == shown
    assert np.asarray(batch.targets_T)[batch.students.last_R].tolist() == (
        [0] * BATCH if supervision == "every" else only
    )
    assert (np.asarray(batch.targets_T) > 0).sum() == (0 if supervision == "every" else BATCH)
    assert np.asarray(batch.distils_B).all()


@pytest.mark.parametrize("layout", ["bucketed", "padded"])
def test_rows_know_their_places_in_the_batch(layout):
    """A student's is its place among the samples, a teacher's the student's * N + which of the N it is."""
    corpus, similar, epochs, make = world(layout=layout)
    samples = epochs.order(5, 1)[0]
    batch = make(samples, jax.random.key(0))
    place_B, rows = np.asarray(batch.students.place_R), tiny.items_by_row(batch.students)
    assert sorted(place_B) == list(range(BATCH))
    np.testing.assert_array_equal(batch.students.users_R, samples[place_B])
    users_BxN = np.asarray(batch.teachers.users_R)[batch.teacher_rows_BxN]
    np.testing.assert_array_equal(users_BxN, similar[samples[place_B]])
    for row, place in enumerate(place_B):
        assert rows[row] == student_input(corpus, samples[place], "every")
    of_teachers = np.asarray(batch.teachers.place_R)[batch.teacher_rows_BxN]
    np.testing.assert_array_equal(of_teachers, place_B[:, None] * SIMILAR + np.arange(SIMILAR))
    rows = tiny.items_by_row(batch.teachers)
    for place, row in zip(of_teachers.ravel(), np.asarray(batch.teacher_rows_BxN).ravel()):
        teacher = similar[samples[place // SIMILAR]][place % SIMILAR]
        assert rows[row] == tiny.training(corpus, teacher)[-MAX_LEN:]


def test_a_batch_of_nobody_is_empty():
    batch = world("every")[3](np.full(BATCH, -1, np.int32), jax.random.key(0))
    assert not any(np.asarray(x).any() for x in (batch.students.items_T, batch.targets_T, batch.negatives_TxK))
    assert not np.asarray(batch.distils_B).any() and not np.asarray(batch.teachers.items_T).any()
    assert (np.asarray(batch.students.users_R) == -1).all() and (np.asarray(batch.teachers.users_R) == -1).all()


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_a_plan_depends_on_data_and_sizes_only(supervision):
    corpus, similar, epochs, _ = world(supervision)
    np.random.seed(99)
    epochs.order(123, 4)
    again = epoch_plan.plan_epochs(corpus, epochs.plan.config, supervision, 0.6, NEEDS, similar)
    assert again.plan == epochs.plan and hash(again.plan) == hash(epochs.plan)
    np.testing.assert_array_equal(again.order(123, 4), epochs.order(123, 4))


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_an_epoch_visits_every_sample_once(supervision):
    _, _, epochs, _ = world(supervision)
    for seed, epoch in ((0, 1), (0, 2), (2**31 - 1, 1)):
        order = epochs.order(seed, epoch)
        assert order.shape == (epochs.steps, BATCH) and order.dtype == np.int32
        assert sorted(order[order >= 0]) == sorted(epochs.samples_N)


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_seeds_together_get_the_batches_they_get_alone(supervision):
    """Three seeds under vmap: negatives, masks and rows bit for bit."""
    _, _, epochs, make = world(supervision)
    order_SxB = np.stack([epochs.order(seed, 1)[0] for seed in (42, 43, 44)])
    keys_S = jax.random.split(jax.random.key(0), 3)
    together = tiny.make_batches(*make.args, order_SxB, keys_S)
    for i in range(3):
        tiny.assert_equal(jax.tree.map(lambda x: x[i], together), make(order_SxB[i], keys_S[i]))  # noqa: B023


def test_nobody_to_learn_from_is_an_error():
    with pytest.raises(
        InputError, match="no user has 2 or more training items; expected at least one such user; use more data"
    ):
        epoch_plan.plan_epochs(tiny.corpus([[1, 2, 3], [4]]), DataConfig(), "every", 0.0, Needs(), None)


@pytest.mark.parametrize("layout", ["bucketed", "padded"])
@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_a_student_without_similar_users_learns_and_is_not_distilled(supervision, layout):
    """Every third user has none (a row of -1), user 1 one too few: their teachers' rows are empty, all else as ever."""
    corpus, similar, epochs, make = world(supervision, layout=layout)
    fewer = similar.copy()
    fewer[::3], fewer[1, 1] = -1, -1
    plan, data, tables = make.args
    epochs = epoch_plan.plan_epochs(corpus, plan.config, supervision, 0.6, NEEDS, fewer)
    for samples in epochs.order(4, 1):
        batch = tiny.make_batch(epochs.plan, data, {"similar_users": jnp.asarray(fewer)}, samples, jax.random.key(0))
        users = [s % corpus.num_users for s in rows_of(samples, corpus, supervision)]
        taught = [u % 3 > 0 and u != 1 for u in users]
        assert np.asarray(batch.distils_B).tolist() == taught + [False] * (BATCH - len(users))
        teachers = tiny.items_by_row(batch.teachers)
        for user, is_taught, rows in zip(users, taught, np.asarray(batch.teacher_rows_BxN)):
            wanted = [tiny.training(corpus, u)[-MAX_LEN:] for u in fewer[user]] if is_taught else [[]] * SIMILAR
            assert [teachers[r] for r in rows] == wanted
        alike = make(samples, jax.random.key(0))  # of users who all have similar ones
        if layout == "padded":
            tiny.assert_equal(batch.students, alike.students)
            tiny.assert_equal((batch.targets_T, batch.negatives_TxK), (alike.targets_T, alike.negatives_TxK))

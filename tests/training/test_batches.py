"""Batches made on the device against python lists: sequences, targets, negatives, masks, teachers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models.types import Needs
from llmesr_jax.ranking.layout import RowPlan
from llmesr_jax.training import batches

MAX_LEN, BATCH, SIMILAR = 9, 8, 2
NEEDS = Needs(frozenset({"similar_users"}), similar=SIMILAR)
SUPERVISIONS = ("every", "last", "masked")


@functools.cache
def world(supervision="every", seed=0, **changes):
    """Corpus, its similar users and epochs, and a function from (samples, key) to a batch."""
    corpus = tiny.ragged(seed)
    similar = tiny.tables(corpus, NEEDS, seed)["similar_users"]
    config = DataConfig(**{"batch_size": BATCH, "max_len": MAX_LEN, "buckets": 3, "num_negatives": 2, **changes})
    epochs = batches.plan_epochs(corpus, config, supervision, 0.6, NEEDS, similar)
    data, tables = batches.interactions(corpus, epochs.plan), {"similar_users": jnp.asarray(similar)}
    return corpus, similar, epochs, functools.partial(tiny.make_batch, epochs.plan, data, tables)


def student_input(corpus, user, supervision):
    items = tiny.training(corpus, user)
    return (items if supervision == "masked" else items[:-1])[-MAX_LEN:]


def rows_of(samples, corpus, supervision):
    """Samples in the order in which they stand in rows: longest first, else as given."""
    real = [s for s in samples if s >= 0]
    return sorted(real, key=lambda s: -len(student_input(corpus, s % corpus.num_users, supervision)))


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


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_negatives_are_items_outside_the_users_training_part(supervision):
    corpus, _, epochs, make = world(supervision)
    drawn = set()
    for step, samples in enumerate(epochs.order(3, 1)):
        batch = make(samples, jax.random.key(step))
        targets, negatives = np.asarray(batch.targets_T), np.asarray(batch.negatives_TxK)
        assert not negatives[targets == 0].any()
        for sample, at in zip(rows_of(samples, corpus, supervision), tiny.slots(batch.students)):
            mine = negatives[at][targets[at] > 0]
            assert ((mine >= 1) & (mine <= corpus.num_items)).all()
            assert not set(mine.ravel()) & set(tiny.training(corpus, sample % corpus.num_users))
            drawn |= set(mine.ravel().tolist())
    assert len(drawn) > corpus.num_items // 2


def assert_unseen_is_a_bijection(corpus, avoid="training"):
    plan = batches.BatchPlan(DataConfig(avoid=avoid), "every", 0.0, RowPlan((1,), (1,)), None, 0)
    data = batches.interactions(corpus, plan)
    last, avoided = corpus.num_items, tiny.training
    if avoid == "history":  # the mask token may be drawn; validation and test items may not
        last, avoided = corpus.num_items + 1, tiny.history
    unseen = jax.jit(batches.unseen)
    users, draws = np.mgrid[: corpus.num_users, :last].astype(np.int32)
    ids = np.asarray(unseen(data, jnp.asarray(draws), jnp.asarray(users)))
    for user in range(corpus.num_users):
        complement = sorted(set(range(1, last + 1)) - set(avoided(corpus, user)))
        assert ids[user, : len(complement)].tolist() == complement


@settings(max_examples=12)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=5))
def test_the_unseen_items_are_enumerated_exactly(histories):
    assert_unseen_is_a_bijection(tiny.corpus([*histories, [1, 2, 3]]))


def test_the_unseen_items_of_users_who_saw_the_ends_or_all_but_one():
    everything = list(range(1, 9))
    # The last two items of a user of 3 or more are no training items.
    corpus = tiny.corpus([everything, [1, 8, 1, 2, 2], [8, 7, 6, 1, 1], everything[1:] + [8, 8]])
    for avoid in ("training", "history"):
        assert_unseen_is_a_bijection(corpus, avoid)


def test_every_negative_is_equally_likely():
    """4,608 draws for one user over its unseen items: each within 5 standard deviations of its share."""
    corpus, _, epochs, make = world("every", num_negatives=64, layout="padded")
    user = int(np.argmax(corpus.train_lengths_U))
    samples = np.full(BATCH, user, np.int32)
    negatives = np.asarray(make(samples, jax.random.key(0)).negatives_TxK).ravel()
    unseen = sorted(set(range(1, corpus.num_items + 1)) - set(tiny.training(corpus, user)))
    counts = np.bincount(negatives[negatives > 0], minlength=corpus.num_items + 1)[unseen]
    share, total = 1 / len(unseen), counts.sum()
    assert total == BATCH * MAX_LEN * 64
    assert (np.abs(counts - share * total) < 5 * np.sqrt(total * share * (1 - share))).all()


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_shared_negatives_come_as_often_as_their_probability_says(kind):
    """40,000 draws, each item within 5 standard deviations; the probabilities add up to 1."""
    corpus, _, epochs, make = world("every", num_negatives=5000, negatives=kind)
    many = tiny.make_batches(*make.args, epochs.order(5, 1)[:1].repeat(8, 0), jax.random.split(jax.random.key(0), 8))
    ids, q = np.asarray(many.shared_K), np.exp(np.asarray(many.log_q))
    assert many.negatives_TxK.shape[-1] == 0 and ids.shape == (8, 5000) and q.shape == (8, 1, 5000)
    counts_V = corpus.item_counts_V if kind == "popularity" else np.ones(corpus.num_items)
    share_V = counts_V / counts_V.sum()
    np.testing.assert_allclose(q[:, 0], share_V[ids - 1], rtol=1e-5)
    drawn_V = np.bincount(ids.ravel(), minlength=corpus.num_items + 1)[1:]
    assert (np.abs(drawn_V - share_V * ids.size) <= 5 * np.sqrt(ids.size * share_V * (1 - share_V))).all()


def test_in_batch_negatives_are_the_targets():
    _, _, epochs, make = world("every", negatives="in_batch")
    batch = make(epochs.order(5, 1)[0], jax.random.key(0))
    np.testing.assert_array_equal(batch.shared_K, batch.targets_T)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_in_batch_negatives_come_as_often_as_their_probability_says(supervision, single):
    """Targets counted over whole epochs: users cut to max_len, users of one item and all that is no target among them.

    Without the cloze task's draws an epoch has the shares exactly; with them, 40 epochs have within 5 deviations.
    """
    corpus, _, epochs, make = world(supervision, negatives="in_batch", single_item_students=single)
    assert (corpus.train_lengths_U > MAX_LEN + 1).any() and (corpus.train_lengths_U == 1).any()
    times = 40 if supervision == "masked" else 1
    order = np.concatenate([epochs.order(5, epoch) for epoch in range(1, times + 1)])
    many = tiny.make_batches(*make.args, order, jax.random.split(jax.random.key(0), len(order)))
    targets, q = np.asarray(many.targets_T), np.exp(np.asarray(many.log_q)[:, 0])
    counts_V = np.bincount(targets[targets > 0] - 1, minlength=corpus.num_items)
    share_V = np.zeros(corpus.num_items)
    share_V[targets[targets > 0] - 1] = q[targets > 0]
    assert share_V.sum() == pytest.approx(1, abs=1e-5)
    expected_V = share_V * counts_V.sum()
    if supervision == "masked":
        assert (np.abs(counts_V - expected_V) <= 5 * np.sqrt(expected_V)).all()
    else:
        np.testing.assert_allclose(counts_V, expected_V, rtol=1e-4)
    trained_V = corpus.item_counts_V / corpus.item_counts_V.sum()
    assert not np.allclose(share_V, trained_V, rtol=0.05)  # popularity in training is another number


def test_own_negatives_are_drawn_with_one_over_what_the_user_has_not_seen():
    corpus, _, epochs, make = world("every")
    users = rows_of(epochs.order(5, 1)[0], corpus, "every")
    batch = make(epochs.order(5, 1)[0], jax.random.key(0))
    for user, at in zip(users, tiny.slots(batch.students)):
        unseen = corpus.num_items - len(set(tiny.training(corpus, user)))
        np.testing.assert_allclose(np.asarray(batch.log_q)[at, 0], -np.log(unseen), rtol=1e-6)


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


def test_a_method_draws_items_that_a_user_has_not_seen():
    """Every one of them, as often as the others; of a user who is not known, any item."""
    corpus, _, _, make = world("every")
    data = batches.interactions(corpus, world("every")[2].plan)
    users = np.array([0, 5, -1], np.int32)
    drawn = np.asarray(jax.jit(data.unseen_items, static_argnums=2)(jax.random.key(3), users, 4000))
    for user, ids in zip(users, drawn):
        seen = set(tiny.training(corpus, user)) if user >= 0 else set()
        found, counts = np.unique(ids, return_counts=True)
        assert set(found) == set(range(1, corpus.num_items + 1)) - seen
        assert counts.max() < 1.7 * counts.mean() and counts.min() > 0.5 * counts.mean()


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
    again = batches.plan_epochs(corpus, epochs.plan.config, supervision, 0.6, NEEDS, similar)
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
    with pytest.raises(InputError, match="no user has 2 or more training items"):
        batches.plan_epochs(tiny.corpus([[1, 2, 3], [4]]), DataConfig(), "every", 0.0, Needs(), None)


WORDS = st.integers(0, 2**32 - 1)


@jax.jit
def _below(words, count):
    return batches.below(words, count)


@given(st.lists(WORDS, min_size=3, max_size=3), st.integers(1, 2**31 - 1))
def test_a_word_times_a_count_keeps_the_upper_half(words, count):
    drawn = _below(jnp.asarray(words, jnp.uint32), jnp.full(3, count, jnp.int32))
    assert drawn.dtype == jnp.int32 and drawn.tolist() == [word * count >> 32 for word in words]


@pytest.mark.parametrize("count", [1, 2, 2**16 - 1, 2**16, 2**16 + 1, 2**31 - 1])
def test_the_ends_of_a_draw(count):
    words = jnp.asarray([0, 2**16 - 1, 2**16, 2**32 - 1], jnp.uint32)
    assert _below(words, jnp.full(4, count, jnp.int32)).tolist() == [w * count >> 32 for w in words.tolist()]


def test_negatives_of_a_large_catalogue_are_all_drawn():
    """16,777,216 items: odd and even ones alike, where draws from float32 uniforms, of 2^23 values, are all odd."""
    items = 2**24
    corpus, _, epochs, make = world("every", num_negatives=64, layout="padded")
    plan, data, tables = make.args
    user = int(np.argmax(corpus.train_lengths_U))
    data = data.replace(num_items=items, last_negative=items, gap_count_U=jnp.zeros_like(data.gap_count_U))
    negatives = np.asarray(
        tiny.make_batch(plan, data, tables, np.full(BATCH, user, np.int32), jax.random.key(0)).negatives_TxK
    )
    drawn = negatives[negatives > 0]
    assert len(drawn) >= 500 and drawn.max() > 0.98 * items
    assert abs((drawn % 2).mean() - 0.5) < 5 * 0.5 / np.sqrt(len(drawn))


def test_draws_by_popularity_among_many_interactions():
    """Two items with 750 million interactions each are drawn alike: the remainder of a word gives 52 % to the first."""
    _, _, epochs, make = world("every", num_negatives=5000, negatives="popularity")
    data = make.args[1].replace(count_ends_V=jnp.asarray([750_000_000, 1_500_000_000], jnp.int32))
    draw = jax.jit(jax.vmap(lambda key: batches.shared_negatives(epochs.plan.config, data, None, key)[0]))
    first = (np.asarray(draw(jax.random.split(jax.random.key(0), 8))) == 1).mean()
    assert abs(first - 0.5) < 5 * 0.5 / np.sqrt(40_000)


@pytest.mark.parametrize("layout", ["bucketed", "padded"])
@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_a_student_without_similar_users_learns_and_is_not_distilled(supervision, layout):
    """Every third user has none (a row of -1), user 1 one too few: their teachers' rows are empty, all else as ever."""
    corpus, similar, epochs, make = world(supervision, layout=layout)
    fewer = similar.copy()
    fewer[::3], fewer[1, 1] = -1, -1
    plan, data, tables = make.args
    epochs = batches.plan_epochs(corpus, plan.config, supervision, 0.6, NEEDS, fewer)
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

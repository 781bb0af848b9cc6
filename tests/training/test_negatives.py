"""Negatives made on the device: which items, and how often each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from batch_worlds import BATCH, MAX_LEN, SUPERVISIONS, rows_of, world
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.data.settings import DataConfig
from llmesr_jax.ranking.layout import RowPlan
from llmesr_jax.training import epoch_plan, interactions


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
    plan = epoch_plan.BatchPlan(DataConfig(avoid=avoid), "every", 0.0, RowPlan((1,), (1,)), None, 0)
    data = interactions.resident(corpus, plan)
    last, avoided = corpus.num_items, tiny.training
    if avoid == "history":  # the mask token may be drawn; validation and test items may not
        last, avoided = corpus.num_items + 1, tiny.history
    unseen = jax.jit(interactions.unseen)
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


def test_a_method_draws_items_that_a_user_has_not_seen():
    """Every one of them, as often as the others; of a user who is not known, any item."""
    corpus, _, _, make = world("every")
    data = interactions.resident(corpus, world("every")[2].plan)
    users = np.array([0, 5, -1], np.int32)
    drawn = np.asarray(jax.jit(data.unseen_items, static_argnums=2)(jax.random.key(3), users, 4000))
    for user, ids in zip(users, drawn):
        seen = set(tiny.training(corpus, user)) if user >= 0 else set()
        found, counts = np.unique(ids, return_counts=True)
        assert set(found) == set(range(1, corpus.num_items + 1)) - seen
        assert counts.max() < 1.7 * counts.mean() and counts.min() > 0.5 * counts.mean()


WORDS = st.integers(0, 2**32 - 1)


@jax.jit
def _below(words, count):
    return interactions.below(words, count)


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
    draw = jax.jit(jax.vmap(lambda key: interactions.shared_negatives(epochs.plan.config, data, None, key)[0]))
    first = (np.asarray(draw(jax.random.split(jax.random.key(0), 8))) == 1).mean()
    assert abs(first - 0.5) < 5 * 0.5 / np.sqrt(40_000)

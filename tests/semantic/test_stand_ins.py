import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.data.corpus import from_pairs
from llmesr_jax.semantic import stand_ins
from llmesr_jax.semantic.stand_ins import mean_of_items, training_counts

# User 1 trains on 1, 1, 2; user 2 has two interactions, so both train; user 3 trains on 4.
_CORPUS = from_pairs("toy", np.repeat([1, 2, 3], [5, 2, 3]), np.array([1, 1, 2, 3, 4, 3, 4, 4, 1, 2]))


def test_training_counts_hold_out_the_last_two():
    np.testing.assert_array_equal(training_counts(_CORPUS).toarray(), [[2, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 99))
def test_training_counts_sum_to_training_lengths(lengths, seed):
    lengths = [3, *lengths]
    items = np.random.default_rng(seed).integers(1, 5, sum(lengths))
    items = np.unique(items, return_inverse=True)[1] + 1
    corpus = from_pairs("any", np.repeat(np.arange(len(lengths)) + 1, lengths), items)
    counts = training_counts(corpus)
    np.testing.assert_array_equal(counts.sum(axis=1), corpus.train_lengths_U)
    np.testing.assert_array_equal(counts.sum(axis=0), corpus.item_counts_V)


def test_mean_of_items_weighs_each_visit_and_ignores_length_of_vectors():
    items = np.array([[3, 0], [0, 5], [0, 0], [-4, 0]], np.float32)
    np.testing.assert_allclose(mean_of_items(items, _CORPUS), [[2 / 3, 1 / 3], [-0.5, 0], [-1, 0]], atol=1e-6)


def test_random_embeddings_are_fixed_by_their_seed_and_have_unit_length_on_average():
    a, b = stand_ins.random(200, 64, 1, "items"), stand_ins.random(200, 64, 1, "items")
    assert np.array_equal(a, b) and a.dtype == np.float32
    assert not np.array_equal(a, stand_ins.random(200, 64, 1, "users"))
    assert abs(np.square(a).sum(axis=1).mean() - 1) < 0.05

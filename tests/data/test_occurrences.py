"""Where items stand in training parts, against a loop."""

import numpy as np
import tiny
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.data.occurrences import occurrences


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=7), min_size=1, max_size=6))
def test_each_place_of_an_item_in_a_training_part_is_found_once(histories):
    corpus = tiny.corpus([[1, 2, 1, 2], *histories])
    found = occurrences(corpus)
    for item in range(corpus.num_items + 2):
        wanted = []
        for user in range(corpus.num_users):
            first, length = int(corpus.offsets[user]), int(corpus.train_lengths_U[user])
            wanted += [
                (first + i, first, first + length)
                for i, other in enumerate(tiny.training(corpus, user))
                if other == item
            ]
        own = slice(found.start_V[item], found.start_V[item] + found.count_V[item])
        assert list(zip(found.place_n[own], found.first_n[own], found.end_n[own])) == wanted
    assert len(found.place_n) == corpus.train_lengths_U.sum() and all(x.dtype == np.int32 for x in found)

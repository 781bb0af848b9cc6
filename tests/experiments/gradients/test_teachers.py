"""The slots of a batch that are targets of influence, against its users and items one by one."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from batch_worlds import world

from llmesr_jax.data import groups
from llmesr_jax.experiments.gradients import teachers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("some", [False, True])
def test_target_slots_are_those_of_the_named_users_and_items(some):
    corpus, _, epochs, make = world("every")
    order = epochs.order(5, 1)
    step, lengths = 1, np.minimum(corpus.train_lengths_U - 1, 9)
    samples = order[step][np.argsort(-np.where(order[step] >= 0, lengths[order[step]], 0), kind="stable")]
    batch = make(samples, jax.random.key(0))
    head_U, head_V = groups.head_users(corpus), groups.head_items(corpus)
    bag = SimpleNamespace(order=np.stack([order[0], samples]), corpus=corpus, tail_V=~head_V)
    among_U = np.arange(corpus.num_users) % 2 == 0
    found = teachers.target_slots(bag, step, batch, among_U if some else None)
    users, targets = np.asarray(batch.students.users_R)[np.asarray(batch.students.row_T)], np.asarray(batch.targets_T)
    met = 0
    for slot in np.flatnonzero(targets):
        counts = among_U[users[slot]] if some else True
        head_item, head_user = head_V[targets[slot] - 1], head_U[users[slot]]
        wanted = [counts and where for where in (not head_item, head_item, not head_user, head_user)]
        assert [bool(where_T[slot]) for where_T in found] == wanted
        met += counts
    assert 0 < met < len(np.flatnonzero(targets)) or not some

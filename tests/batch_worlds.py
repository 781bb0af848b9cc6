"""A small corpus, its similar users, and batches made of it: for tests of batches."""

import functools

import jax.numpy as jnp
import tiny

from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models.types import Needs
from llmesr_jax.training import epoch_plan, interactions

MAX_LEN, BATCH, SIMILAR = 9, 8, 2

NEEDS = Needs(frozenset({"similar_users"}), similar=SIMILAR)

SUPERVISIONS = ("every", "last", "masked")


@functools.cache
def world(supervision="every", seed=0, **changes):
    """Corpus, its similar users and epochs, and a function from (samples, key) to a batch."""
    corpus = tiny.ragged(seed)
    similar = tiny.tables(corpus, NEEDS, seed)["similar_users"]
    config = DataConfig(**{"batch_size": BATCH, "max_len": MAX_LEN, "buckets": 3, "num_negatives": 2, **changes})
    epochs = epoch_plan.plan_epochs(corpus, config, supervision, 0.6, NEEDS, similar)
    data, tables = interactions.resident(corpus, epochs.plan), {"similar_users": jnp.asarray(similar)}
    return corpus, similar, epochs, functools.partial(tiny.make_batch, epochs.plan, data, tables)


def student_input(corpus, user, supervision):
    items = tiny.training(corpus, user)
    return (items if supervision == "masked" else items[:-1])[-MAX_LEN:]


def rows_of(samples, corpus, supervision):
    """Samples in the order in which they stand in rows: longest first, else as given."""
    real = [s for s in samples if s >= 0]
    return sorted(real, key=lambda s: -len(student_input(corpus, s % corpus.num_users, supervision)))

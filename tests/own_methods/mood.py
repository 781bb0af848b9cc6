"""A method that brings all that one may: tables and parameters over items and users, an optimiser, rows of a batch.

The plain backbone; an item's vector has a second trained table and a frozen one added, a user's a row of a table over
users, halved for tail users. Pairs of an item and the one that most often follows it are encoded beside the students,
and drawn to the follower's vector.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from llmesr_jax.core.knobs import knob
from llmesr_jax.models import axes
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.layers.tables import SingleView
from llmesr_jax.models.losses import masked_mean
from llmesr_jax.models.types import Ids, Needs, Term, from_rows


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(8, "width of the tables and the encoder", least=1)
    pull: float = knob(0.5, "weight of the pull to followers", least=0, traced=True)


def needs(config):
    own = {"rarity": axes.Table(axes.ITEM), "follower": axes.Table(axes.ITEM, holds_ids=True)}
    return Needs(frozenset({"tail_user"}), own=own)


def tables(corpus, config):
    """1 / sqrt of an item's interactions, and the item that most often follows it, 0 for none."""
    rarity = np.pad(1 / np.sqrt(np.maximum(corpus.item_counts_V, 1)), 1)[:, None]
    counts = np.zeros((corpus.num_items + 2, corpus.num_items + 2), np.int64)
    for start, length in zip(corpus.offsets, corpus.train_lengths_U):
        items = corpus.items[start : start + length]
        np.add.at(counts, (items[:-1], items[1:]), 1)
    return {"rarity": rarity, "follower": np.where(counts.any(axis=1), counts.argmax(axis=1), 0)}


def trains(config, path):
    return path != "scale"


def optimizer(config, learning_rate):
    return optax.sgd(learning_rate, momentum=0.9)


def extra(config, sizes, data, tables, batch, key):
    students = batch.students
    newest_B = jnp.where(students.valid_R, take_rows(students.items_T, students.last_R), 0)
    first_B = jax.random.randint(key, newest_B.shape, 1, sizes.num_items + 1)  # any item before it
    rows = from_rows(jnp.stack([first_B, newest_B], axis=1), students, sizes.max_len, students.users_R)
    return {"pairs": rows, "followers": Ids(take_rows(tables["follower"], newest_B))}


def before_epoch(config, apply, params, tables, data, epoch):
    """The second table grows by 1 % at each epoch."""
    return {**params, "mood": params["mood"] * 1.01}


def for_serving(config, apply, params, tables, data):
    """Item 1 gets the vector, in the second table, of the user of row 0."""
    one = jnp.zeros(1, jnp.int32)
    return {**params, "mood": params["mood"].at[1].set(apply(params, tables, one, method="of_crowd")[0])}


class Method(SingleView):
    def setup(self):
        super().setup()
        normal, width = nn.initializers.normal(0.1), self.config.width
        self.mood = axes.parameter(self, "mood", normal, (self.sizes.num_items + 2, width), axes.ITEM)
        self.crowd = axes.parameter(self, "crowd", normal, (self.sizes.num_users, width), axes.USER)
        self.scale = self.param("scale", nn.initializers.ones, (1, width))

    def items(self, ids):
        rarity = self.get_variable("tables", "rarity") * jax.lax.stop_gradient(self.scale)
        return super().items(ids) + take_rows(self.mood, ids) + take_rows(rarity, ids)

    def of_crowd(self, users_R):
        """(R, D): zeros where the user is not known, half where it is a tail user."""
        rows = take_rows(self.crowd, jnp.maximum(users_R, 0))
        tail_R = take_rows(self.get_variable("tables", "tail_user"), jnp.maximum(users_R, 0))
        return jnp.where((users_R >= 0)[:, None], rows * jnp.where(tail_R, 0.5, 1.0)[:, None].astype(rows.dtype), 0)

    def encode(self, x_TxD, sequences, deterministic, last_only):
        of_rows = self.of_crowd(sequences.users_R)
        if not last_only:
            of_rows = take_rows(of_rows, sequences.row_T)
        return super().encode(x_TxD, sequences, deterministic, last_only) + of_rows

    def terms(self, batch, epoch, deterministic=False):
        if batch.extra is None:  # a batch made by hand
            return super().terms(batch, epoch, deterministic)
        pairs, followers = batch.extra["pairs"], batch.extra["followers"].ids
        users_BxD = self.encode(self.slot_views(pairs, deterministic), pairs, deterministic, last_only=True)
        apart_B = jnp.sum(jnp.square(users_BxD - self.items(followers)), axis=1)
        pull = masked_mean(apart_B, pairs.valid_R & (followers > 0))
        return {**super().terms(batch, epoch, deterministic), "pull": Term(pull, self.config.pull)}

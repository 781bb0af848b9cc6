"""Plans of epochs, made on the host: which users come in which order, and the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models.types import Array, Needs
from llmesr_jax.ranking import layout

_MOST_SAMPLES = 2**31 - 1  # their numbers are int32


class BatchPlan(NamedTuple):
    """All static facts about a training batch; hashable, for a static argument of jit.

    Attributes:
      config: the section `data` of the settings.
      supervision: the positions with a loss: every, last or masked.
      mask_share: share of positions that the cloze task hides; 0 without it.
      students, teachers: the rows of both bags; teachers is None without distillation.
      similar: N.
      extra: computes what the method adds, `Recommender.extra`; None if it adds nothing.
      whole: as in `Sizes`.
      shards: number of devices that the batch is distributed over.
    """

    config: DataConfig
    supervision: str
    mask_share: float
    students: layout.RowPlan
    teachers: layout.RowPlan | None
    similar: int
    extra: Callable[..., Any] | None = None
    whole: bool = False
    shards: int = 1

    def dealt(self, shards: int) -> BatchPlan:
        """The plan for so many devices; on several, rows are not packed."""
        alone = lambda rows: rows and rows._replace(bin_widths=())  # noqa: E731
        packs = {} if shards == 1 else {"students": alone(self.students), "teachers": alone(self.teachers)}
        return self._replace(shards=shards, **packs)


class Epochs(NamedTuple):
    """What the host needs to plan an epoch.

    Attributes:
      samples_N: int32 user + U * k. Under masked supervision each student has two samples: k = 0, and k = 1, in which
        only the last item is hidden. Under `data.prefixes` k is the number of newest training items that a prefix
        lacks. Else k = 0.
      counts_NxG, most_G: limits on the sequences of a batch that an order must respect, see `layout.draw_order`.
      plan: the static facts.
    """

    samples_N: np.ndarray
    counts_NxG: np.ndarray
    most_G: np.ndarray
    plan: BatchPlan

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return -(-len(self.samples_N) // self.plan.config.batch_size)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """int32 (steps, B): samples in the epoch's order, -1 for an empty place. A function of (seed, epoch) alone."""
        order = layout.draw_order(seed, epoch, self.plan.config.batch_size, self.counts_NxG, self.most_G)
        return np.where(order >= 0, self.samples_N[np.maximum(order, 0)], -1).astype(np.int32)


def _students(corpus: Corpus, config: DataConfig) -> np.ndarray:
    """bool (U,): which users are students."""
    return corpus.train_lengths_U >= (1 if config.single_item_students else 2)


def cut(plan: BatchPlan, samples: np.ndarray | Array, num_users: int) -> np.ndarray | Array:
    """int32: how many of a user's newest training items each sample lacks; meaningless for -1, an empty place."""
    return samples // num_users * int(plan.config.prefixes)


def student_lengths(corpus: Corpus, plan: BatchPlan, samples: np.ndarray) -> np.ndarray:
    """int, of the shape of `samples`: the number of items in each sample's input; 0 for -1, an empty place."""
    train = corpus.train_lengths_U[samples % corpus.num_users] - cut(plan, samples, corpus.num_users)
    lengths = np.minimum(train - (plan.supervision != "masked"), plan.config.max_len)
    return np.where(samples >= 0, lengths, 0)


def _samples(corpus: Corpus, config: DataConfig, supervision: str) -> np.ndarray:
    """`Epochs.samples_N`."""
    users = np.flatnonzero(_students(corpus, config))
    if not len(users):
        raise InputError(
            f"{corpus.name}: no user has 2 or more training items; expected at least one such user; use more data"
        )
    if config.prefixes and supervision == "masked":
        raise InputError(
            "config: data.prefixes=True is for backbones that can learn from the last position alone, but this one "
            "learns from hidden positions; set data.prefixes=False"
        )
    turns = np.full(len(users), 2 if supervision == "masked" else 1, np.int64)
    if config.prefixes:
        turns = np.maximum(corpus.train_lengths_U[users] - 1, 1)
    if corpus.num_users * int(turns.max()) > _MOST_SAMPLES:
        raise InputError(
            f"{corpus.name}: {corpus.num_users} users with up to {turns.max()} prefixes each exceed 32-bit "
            "numbers; set data.prefixes=False"
        )
    number = np.arange(turns.sum()) - np.repeat(np.cumsum(turns) - turns, turns)
    order = np.argsort(number, kind="stable")  # the whole sequence of every user first
    return (np.repeat(users, turns) + corpus.num_users * number)[order].astype(np.int32)


def target_counts(corpus: Corpus, plan: BatchPlan) -> np.ndarray:
    """float64 (V,): how often each item is a target in an epoch; under the cloze task the expected number.

    Targets of a student are: with `every`, its newest training items, one for each position of its input; with `last`,
    the newest one, and with `data.prefixes` all but the first; with `masked`, a share `mask_share` of its input, and in
    its second sample the newest item.
    """
    train_U = corpus.train_lengths_U
    slots_U = np.minimum(train_U - (plan.supervision != "masked"), plan.config.max_len)
    user_n = np.repeat(np.arange(corpus.num_users), corpus.lengths_U)
    from_end_n = (corpus.offsets[:-1] + train_U)[user_n] - np.arange(len(corpus.items))  # 1: the newest to train on
    newest_n, within_n = from_end_n == 1, (from_end_n >= 1) & (from_end_n <= slots_U[user_n])
    if plan.config.prefixes:
        follows_n = np.arange(len(corpus.items)) > corpus.offsets[user_n]
        newest_n |= follows_n & (from_end_n >= 1)
    share_n = {"every": within_n, "last": newest_n, "masked": plan.mask_share * within_n + newest_n}[plan.supervision]
    weight_n = share_n * _students(corpus, plan.config)[user_n]
    return np.bincount(corpus.items - 1, weight_n, minlength=corpus.num_items)


def plan_epochs(
    corpus: Corpus,
    config: DataConfig,
    supervision: str,
    mask_share: float,
    needs: Needs,
    similar_UxN: np.ndarray | None,
    extra: Callable[..., Any] | None = None,
    whole: bool = False,
) -> Epochs:
    """Chooses the students and plans the rows.

    Args:
      corpus: the data.
      config: the section `data` of the settings, with `layout` decided (not auto).
      supervision: of the backbone: every, last or masked.
      mask_share: share of positions that the cloze task hides.
      needs: of the method.
      similar_UxN: int32 (U, N) rows of similar users, -1 for none; None if the method has no teachers. A user with a -1
        is a student like the others, but is not distilled; nor is a prefix.
      extra, whole: see `BatchPlan`.
    Raises:
      InputError: no user has enough training items; `data.prefixes` with a backbone that learns from hidden positions;
        or more samples than 32-bit numbers can count.
    """
    samples = _samples(corpus, config, supervision)
    supervision = "last" if config.prefixes else supervision  # every other position is the last of another prefix
    plan = BatchPlan(config, supervision, mask_share, layout.padded(1, 1), None, needs.similar, extra, whole)
    student_Nx1 = student_lengths(corpus, plan, samples)[:, None]
    teacher_U = np.clip(corpus.train_lengths_U - (config.teacher_input == "input"), 0, config.max_len)
    teacher_NxM = None
    if similar_UxN is not None:
        similar_NxM = similar_UxN[samples % corpus.num_users]
        whole_N = cut(plan, samples, corpus.num_users) == 0
        taught_Nx1 = ((similar_NxM >= 0).all(axis=1) & whole_N)[:, None]
        teacher_NxM = np.where(taught_Nx1, teacher_U[similar_NxM], 0)
    bags = [student_Nx1] if teacher_NxM is None else [student_Nx1, teacher_NxM]
    if config.layout == "padded":
        stairs = [layout.padded(config.batch_size * bag.shape[1], config.max_len) for bag in bags]
    else:
        stairs = layout.plan(bags, config.batch_size, config.buckets)
        stairs = [rows.packed() for rows in stairs] if config.layout == "packed" else stairs
    counts_NxG = np.concatenate([layout.exceedances(bag, s.lengths) for bag, s in zip(bags, stairs)], axis=1)
    most_G = np.concatenate([np.array(s.at_least[1:], np.int64) for s in stairs])
    teachers = stairs[1] if len(stairs) > 1 else None
    return Epochs(samples, counts_NxG, most_G, plan._replace(students=stairs[0], teachers=teachers))

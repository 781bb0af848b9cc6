"""Training interactions that stay on the host, in memory or in mapped files; those of the next steps are sent ahead.

A window of steps reads the newest training items of its users and, to draw negatives, the items that they have seen.
While the device takes the steps of one window, these are sent for the next, as a small `Interactions` of the same form.
The batches, and so a run's results, are the same as with all interactions on the device.
"""

from __future__ import annotations

import functools
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.models.types import Array, on_device
from llmesr_jax.training import seen
from llmesr_jax.training.epoch_plan import BatchPlan
from llmesr_jax.training.interactions import Interactions, target_log_shares

_SHARE = 0.25  # share of the device's memory from which on interactions are streamed
_GROWTH = 1.25  # factor between the sizes that arrays may have: each size is compiled separately


def is_streamed(setting: str, corpus: Corpus, model: Recommender, method: str) -> bool:
    """Whether a run's interactions stay on the host.

    Args:
      setting: `train.interactions`.
      corpus: the data.
      model: of the run.
      method: its name, for the message.
    Raises:
      InputError: streamed, with a method that reads the interactions of users outside of a batch.
    """
    reads_all = any((model.extra, model.before_epoch, model.for_serving))
    if setting == "streamed" and reads_all:
        raise InputError(
            f"config: train.interactions=streamed, but {method} reads the interactions of users outside of a batch; expected "
            "train.interactions=resident"
        )
    if setting != "auto" or reads_all:
        return setting == "streamed"
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit is not None and 8 * len(corpus.items) > _SHARE * limit


class Streamed:
    """The interactions of a corpus, window by window."""

    def __init__(self, corpus: Corpus, plan: BatchPlan, similar_UxN: np.ndarray | None):
        """
        Args:
          corpus: the data, on the host.
          plan: of the batches.
          similar_UxN: int32, the similar users that teach; None without teachers.
        """
        self._corpus, self._plan, self._similar_UxN = corpus, plan, similar_UxN
        self._room = np.iinfo(np.int64).max if plan.config.prefixes else plan.config.max_len + 1
        blocks = (np.arange(users.start, users.stop) for users in corpus.user_blocks())
        count_U = np.concatenate([seen.gaps(corpus, users_m, plan.config.avoid)[1] for users_m in blocks])
        self._train_U = on_device(corpus.train_lengths_U, np.int32)
        self._gap_count_U = on_device(count_U, np.int32)
        self._count_ends_V = on_device(np.cumsum(corpus.item_counts_V), np.int32)
        self._log_shares_V = target_log_shares(corpus, plan)
        self._most_seen = int(count_U.max())
        self._sizes: dict[str, int] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="interactions")
        self._ahead: tuple[bytes, Future] | None = None

    def example(self) -> Interactions:
        """The interactions of no user, for their shapes."""
        return self._made(*self._begun(np.full((1, 1, 1), -1, np.int32)).result())

    def window(self, order_SxWxB: np.ndarray) -> Interactions:
        """The interactions that the batches of these int32 samples read; without waiting if they were sent ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == order_SxWxB.tobytes():
            return self._made(*ahead[1].result())
        return self._made(*self._begun(order_SxWxB).result())

    def send_ahead(self, order_SxWxB: np.ndarray) -> None:
        """Begins to send the interactions of a later window to the device."""
        self._ahead = order_SxWxB.tobytes(), self._begun(order_SxWxB)

    def users(self, order_SxWxB: np.ndarray) -> np.ndarray:
        """int64 (m,), ascending: the rows of the users whose interactions these samples read."""
        samples = np.unique(order_SxWxB)
        users_m = np.unique(samples[samples >= 0] % self._corpus.num_users)
        if self._similar_UxN is None or self._plan.teachers is None:
            return users_m
        similar = np.unique(self._similar_UxN[users_m])
        return np.union1d(users_m, similar[similar >= 0])

    def _begun(self, order_SxWxB: np.ndarray) -> Future:
        """`_staged`, always in the one thread: it changes `_sizes`."""
        return self._thread.submit(self._staged, order_SxWxB)

    def _staged(self, order_SxWxB: np.ndarray) -> tuple[Array, ...]:
        """users_m, start_m, items, gap_start_m, gaps: int32 on the device, each padded to one of few sizes."""
        corpus, users_m = self._corpus, self.users(order_SxWxB)
        train_m = corpus.train_lengths_U[users_m]
        kept_m = np.minimum(train_m, self._room)
        items = corpus.items[seen.ranges(corpus.offsets[users_m] + train_m - kept_m, kept_m)]
        # The index at which the user's first training item would be: positions are counted from it.
        start_m = np.cumsum(kept_m) - kept_m - (train_m - kept_m)
        gaps, count_m = seen.gaps(corpus, users_m, self._plan.config.avoid)
        gap_start_m = np.cumsum(count_m) - count_m
        return (
            self._padded("users", users_m, corpus.num_users),
            self._padded("users", start_m),
            self._padded("items", items),
            self._padded("users", gap_start_m),
            self._padded("gaps", gaps),
        )

    def _padded(self, what: str, array: np.ndarray, fill: int = 0) -> Array:
        """The array, padded at its end: the sizes of windows differ, and each shape would be compiled."""
        size = self._sizes.get(what, 64)
        while size < len(array):
            size = int(size * _GROWTH) + 1
        self._sizes[what] = size
        padded = np.full(size, fill, np.int32)
        padded[: len(array)] = array
        return jax.device_put(padded)

    def _made(self, users_m: Array, start_m: Array, items: Array, gap_start_m: Array, gaps: Array) -> Interactions:
        start_U, gap_start_U = _spread(users_m, start_m, gap_start_m, num_users=self._corpus.num_users)
        return Interactions(
            items_n=items,
            start_U=start_U,
            train_U=self._train_U,
            gaps_m=gaps,
            gap_start_U=gap_start_U,
            gap_count_U=self._gap_count_U,
            count_ends_V=self._count_ends_V,
            num_items=self._corpus.num_items,
            most_seen=self._most_seen,
            last_negative=self._corpus.num_items + (self._plan.config.avoid == "history"),
            whole=self._plan.whole,
            target_log_shares_V=self._log_shares_V,
        )


@functools.partial(jax.jit, static_argnames=("num_users",))
def _spread(users_m: Array, start_m: Array, gap_start_m: Array, *, num_users: int) -> tuple[Array, Array]:
    """int32 (U,) each: the values at the rows of users, 0 elsewhere; rows from `num_users` on are padding."""
    zeros = jnp.zeros(num_users, jnp.int32)
    return zeros.at[users_m].set(start_m, mode="drop"), zeros.at[users_m].set(gap_start_m, mode="drop")

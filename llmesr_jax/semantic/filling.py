"""Gets the missing vectors of texts, and stores each as it arrives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from llmesr_jax.core.errors import InputError, ServerError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.semantic import encoders, rows, texts, vector_checks
from llmesr_jax.semantic.encoders import Answer, Text, TextEncoder
from llmesr_jax.semantic.openai_api.responses import unusable_rows
from llmesr_jax.semantic.rows import Old
from llmesr_jax.semantic.store import KEY, Store, key_of
from llmesr_jax.semantic.texts import Plan

_EARLY = (32, 2**10, 2**15)  # sizes of the store at which its vectors are compared with each other
_MOST_FAILED = 100  # failed texts after which a run without --skip_failed ends at once
_BLOCK = 4096


class Filling:
    """Embeds the texts of a plan into a store.

    Args:
      store: where vectors are stored.
      plan: the texts.
      encoder: of the texts.
      stream: () -> the texts of the plan, in its order.
      old: the existing files; None without.
      in_old_W: place of each different text in `old`, -1 if it is absent.
      mine_W: bool, the texts to embed here; None: all.

    Attributes:
      missing_W: texts without a vector that have not failed.
      failed: index of a text in the plan -> why it has no vector and will get none.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        encoder: TextEncoder,
        stream: Callable[[], Iterator[str]],
        old: Old | None,
        in_old_W: np.ndarray,
        mine_W: np.ndarray | None = None,
    ):
        self._store, self._plan, self._encoder, self._stream = store, plan, encoder, stream
        self._old, self._in_old_W = old, in_old_W
        self.missing_W = (in_old_W < 0) & (rows.find(store.keys, plan.different_W) < 0)
        self._total = len(self.missing_W)
        if mine_W is not None:
            self.missing_W &= mine_W
            self._total = int(mine_W.sum())
        self.failed: dict[int, str] = {}

    @property
    def done(self) -> str:
        """The progress, for messages."""
        total = self._total
        return f"{total - int(self.missing_W.sum()) - len(self.failed):,} of {total:,} texts are done"

    def run(self, stop: Stop, skip_failed: bool) -> None:
        """Encodes the missing texts until none is left.

        Args:
          skip_failed: failed texts do not end the run, however many they are.

        Raises:
          InputError: the encoder gave no vector for any of the texts, or the server failed. The vectors so far are in
            the store.
          KeyboardInterrupt: the end was requested.
        """
        try:
            while before := int(self.missing_W.sum()):
                self._round(stop, skip_failed)
                if int(self.missing_W.sum()) == before:
                    raise InputError(
                        f"the encoder returned no vector for any of {before:,} texts; expected a vector or a failure "
                        "for each; check its settings and its log"
                    )
                if not skip_failed and len(self.failed) > _MOST_FAILED:
                    return
            self._check_different()
        except InputError as error:
            some = f"; {self.done}" if not self.missing_W.all() else ""
            if not isinstance(error, ServerError):
                raise InputError(f"{error}{some}") from error
            if error.passing:
                some += "; run the same command again to continue" if some else "; then run the same command again"
            raise ServerError(f"{error}{some}", error.passing) from error
        except KeyboardInterrupt:
            print(f"{self.done}; run the same command again to continue", flush=True)
            raise

    def _round(self, stop: Stop, skip_failed: bool) -> None:
        """Sends each missing text once."""
        total, early = self._total, [n for n in _EARLY if n > len(self._store)]
        with (
            tqdm(
                total=total, initial=total - int(self.missing_W.sum()), desc="embedding", unit="text", disable=None
            ) as bar,
            stop.gracefully("sending nothing more; waiting briefly for pending answers"),
            contextlib.closing(self._encoder.encode(self._pending(), self._store.folder, self._store.width)) as answers,
        ):
            for answer in _until_stopped(answers, stop):
                bar.update(self._take(answer))
                if early and len(self._store) >= early[0]:
                    early = [n for n in early if n > len(self._store)]
                    self._check_different()
                if not skip_failed and len(self.failed) > _MOST_FAILED:
                    return

    def _pending(self) -> Iterator[Text]:
        asked_W = ~self.missing_W
        for which, text in zip(self._plan.which_N.tolist(), self._stream()):
            if which >= 0 and not asked_W[which]:
                asked_W[which] = True
                clipped = self._encoder.clip(text)
                yield Text(key_of(clipped.text), clipped.text, clipped.tokens)

    def _take(self, answer: Answer) -> int:
        """Stores the usable vectors of an answer; returns the number of texts that are done or have failed."""
        finished = 0
        if answer.keys:
            wrong = unusable_rows(answer.vectors)
            which = texts.places(self._plan.different_W, np.frombuffer(b"".join(answer.keys), KEY))
            new = [i for i in np.flatnonzero((which >= 0) & self.missing_W[which]) if i not in wrong]
            self._store.add([answer.keys[i] for i in new], answer.vectors[new])
            self.missing_W[which[new]] = False
            finished = len(new) + self._fail({int(which[i]): reason for i, reason in wrong.items() if which[i] >= 0})
        if answer.failed:
            which = texts.places(self._plan.different_W, np.frombuffer(b"".join(answer.failed), KEY))
            finished += self._fail({int(w): reason for w, reason in zip(which, answer.failed.values()) if w >= 0})
        return finished

    def _fail(self, reasons: dict[int, str]) -> int:
        new = [which for which in reasons if self.missing_W[which]]
        self.failed |= reasons
        self.missing_W[new] = False
        return len(new)

    def _check_different(self) -> None:
        """Removes vectors that many different texts share from the store, and marks the texts as failed."""
        if not (count := len(self._store)):
            return
        vectors, where_W = self._store.rows(), texts.places(self._plan.different_W, self._store.keys)
        found = vector_checks.hashes(vectors(np.arange(i, min(i + _BLOCK, count))) for i in range(0, count, _BLOCK))
        if self._old is not None and self._old.items.dtype == np.float32:  # float16 vectors were rounded
            in_old = np.flatnonzero(self._in_old_W >= 0)
            blocks = (in_old[i : i + _BLOCK] for i in range(0, len(in_old), _BLOCK))
            old = vector_checks.hashes(self._old.rows(self._in_old_W[block]) for block in blocks)
            found, where_W = np.concatenate([found, old]), np.concatenate([where_W, in_old])
        found, where_W = found[where_W >= 0], where_W[where_W >= 0]
        # Texts that were shortened for the server may have become equal.
        cut = self._encoder.shortened(self._store.folder)
        groups = [where_W[group].tolist() for group in vector_checks.sharing(found)]
        groups = [[w for w in group if self._plan.different_W[w].tobytes().hex() not in cut] for group in groups]
        plain = self._plain({w for group in groups for w in group})
        for group in vector_checks.too_many(groups, plain.__getitem__):
            new = [w for w in group if self._in_old_W[w] < 0]
            self._store.drop([self._plan.different_W[w].tobytes() for w in new])
            different = len({plain[w] for w in group})
            self._fail(dict.fromkeys(new, f"the same vector for {different:,} different texts"))

    def _plain(self, wanted: set[int]) -> dict[int, str]:
        """The texts at some places of the plan, as `vector_checks.plain` compares them."""
        found: dict[int, str] = {}
        if wanted:
            for which, text in zip(self._plan.which_N.tolist(), self._stream()):
                if which in wanted and which not in found:
                    found[which] = vector_checks.plain(self._encoder.clip(text).text)
                    if len(found) == len(wanted):
                        break
        return found


def without(plan: Plan, failed: Sequence[int]) -> Plan:
    """The plan in which failed texts count as empty: their rows become zeros, and their digests are not kept."""
    is_failed_W = np.zeros(len(plan.different_W) + 1, bool)  # the last is that of -1, an empty text
    is_failed_W[list(failed)] = True
    is_failed_N = is_failed_W[plan.which_N]
    keys_N = plan.keys_N.copy()
    keys_N[is_failed_N] = np.zeros(1, KEY)[0]
    return plan._replace(keys_N=keys_N, which_N=np.where(is_failed_N, -1, plan.which_N))


def _until_stopped(answers: Generator[Answer, None, None], stop: Stop) -> Iterator[Answer]:
    """The answers; after a request to stop, only pending ones."""
    stopped = False
    with contextlib.suppress(StopIteration, encoders.Stop):
        while True:
            if stop.requested and not stopped:
                stopped = True
                yield answers.throw(encoders.Stop())
            else:
                yield next(answers)

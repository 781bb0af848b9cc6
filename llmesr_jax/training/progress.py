"""The progress of a run, and its bars on a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence

from tqdm import tqdm

_REFRESH = 0.2  # seconds between two looks at the clock while nothing else moves the bar


@dataclasses.dataclass
class Progress:
    """Where a run stands; as JSON in every checkpoint. `active` lists the places of the seeds that still learn.

    A seed in `failed` is not among them any more: {seed: which term of the loss was not finite, and where}. `watched` has
    sums over the watched steps of the epoch under way, {seed: {name: [sum, count]}}, see `training.watch`.
    """

    epoch: int  # finished epochs
    steps: int  # finished steps of the epoch under way
    active: list[int]
    best: list[float]  # per seed, the best validation value so far
    best_epoch: list[int]
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    watched: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)

    def sound(self, seeds: Sequence[int]) -> list[int]:
        """The places of the seeds that did not fail."""
        return [i for i, seed in enumerate(seeds) if str(seed) not in self.failed]


class StepBar(contextlib.AbstractContextManager):
    """The bar of one epoch: `epoch 3/200:  40%|...| 70/175 [00:04<00:06, 15.9step/s, loss 0.6512]`."""

    def __init__(self, epoch: int, epochs: int, total: int, start: int, shown: bool):
        """
        Args:
          epoch, epochs: this one, and how many there are at most.
          total, start: steps of the epoch, and those taken before.
          shown: False hides the bar on a terminal too.
        """
        hide = None if shown else True  # None: hidden where the output is no terminal
        self._desc = f"epoch {epoch}/{epochs}"
        self._bar = tqdm(
            total=total, initial=start, desc=self._desc, unit="step", leave=False, disable=hide, dynamic_ncols=True
        )

    def __exit__(self, *_) -> None:
        self._bar.close()

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Says so while the block runs, and lets the clock run: nothing else moves the bar meanwhile."""
        if self._bar.disable:
            yield
            return
        done = threading.Event()

        def tick():
            while not done.wait(_REFRESH):
                self._bar.refresh()

        self._bar.set_description_str(f"{self._desc}, compiling")
        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._bar.set_description_str(self._desc)

    def update(self, steps: int, loss: float) -> None:
        """So many steps more, and the mean loss of the epoch's steps so far."""
        self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        self._bar.update(steps)


def parts(what: str, total: int, shown: bool) -> tqdm:
    """A bar over `total` equal parts of some work, such as the rankings of a test."""
    hide = None if shown else True
    return tqdm(total=total, desc=what, unit="ranking", leave=False, disable=hide, dynamic_ncols=True)

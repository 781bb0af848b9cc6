"""The progress of a run, and its bars on a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence

from tqdm import tqdm

_REFRESH = 0.2  # seconds between two updates of the bar's clock while nothing else updates it


@dataclasses.dataclass
class Progress:
    """The progress of a run, stored as JSON in every checkpoint.

    `active` has the places of the seeds that still train, without those in `failed`: {seed: which term of the loss was
    not finite, and where}. `watched` has sums over the monitored steps of the current epoch, {seed: {name: [sum,
    count]}}, see `training.watch`.
    """

    epoch: int  # finished epochs
    steps: int  # finished steps of the current epoch
    active: list[int]
    best: list[float]  # per seed, the best validation value so far
    best_epoch: list[int]  # per seed, its epoch
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
          epoch, epochs: the current epoch, and the maximum number of epochs.
          total, start: steps of the epoch, and how many are already done.
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
        """Shows `compiling` while the block runs, and updates the bar's clock, which nothing else does meanwhile."""
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
        """Adds steps, and shows the mean loss of the epoch's steps so far."""
        self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        self._bar.update(steps)


def parts(what: str, total: int, shown: bool) -> tqdm:
    """A bar over `total` equal parts of some work, such as the rankings of a test."""
    hide = None if shown else True
    return tqdm(total=total, desc=what, unit="ranking", leave=False, disable=hide, dynamic_ncols=True)

"""A served model on several devices. Each device has a copy of the model and ranks its own batches of users.

A batch is ranked by the program that would rank it on a single device, so the lists are the same, bit for bit.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np

from llmesr_jax.serving.index import Top
from llmesr_jax.serving.options import Allowed, Options


class Replica(Protocol):
    """A `serving.model.ServedModel` whose arrays are on the first of its devices."""

    @property
    def devices(self) -> tuple[Any, ...]: ...

    def rank_batch(self, histories: Sequence[np.ndarray], options: Options, allowed: Allowed) -> Top: ...


def in_turns(
    models: Sequence[Replica], batches: Sequence[Sequence[np.ndarray]], options: Options, allowed: Allowed
) -> list[Top]:
    """The lists of each batch of histories; model n % len(models) ranks batch n.

    Args:
      models: one, or one for each device.
      batches: of histories, each as for `ServedModel.rank_batch`.
      options, allowed: of `ServedModel.check`.
    """
    if len(models) == 1:
        return [models[0].rank_batch(batch, options, allowed) for batch in batches]

    def of_one(place: int) -> list[Top]:
        model = models[place]
        mine = allowed._replace(on_device=jax.device_put(allowed.on_device, model.devices[0]))
        return [model.rank_batch(batch, options, mine) for batch in batches[place :: len(models)]]

    # A thread waits for its device outside of Python, so the devices work at the same time.
    with concurrent.futures.ThreadPoolExecutor(len(models)) as pool:
        found = list(pool.map(of_one, range(len(models))))
    return [found[number % len(models)][number // len(models)] for number in range(len(batches))]

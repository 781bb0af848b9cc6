"""Metrics of trained parameters: monitored ones during training, all of them at its end."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llmesr_jax.core import files
from llmesr_jax.data import groups
from llmesr_jax.models import recommender
from llmesr_jax.models.placement import Placement
from llmesr_jax.models.types import Tables
from llmesr_jax.ranking import evaluate, inference, metrics
from llmesr_jax.ranking.candidates import sample_candidates
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import interactions, processes, state
from llmesr_jax.training.experiment import Experiment
from llmesr_jax.training.interactions import Interactions


class Validation:
    """Metrics of one seed's parameters on one split; what does not depend on the parameters is prepared once."""

    def __init__(
        self,
        experiment: Experiment,
        split: str,
        tables: Tables,
        data: Interactions | None = None,
        tail: groups.Tail = groups.TRAINING,
        placement: Placement | None = None,
    ):
        """
        Args:
          experiment: the run.
          split: "test" or "valid".
          tables: the frozen tables, on the device.
          data: the interactions, on the device; None: they are put there if the method's `for_serving` needs them.
          tail: the definition of tail users and items.
          placement: of tables and parameters; None for one device.
        """
        self._experiment, self._tables, self.placement = experiment, tables, placement
        model = experiment.recommender
        if data is None and model.for_serving is not None:
            data = interactions.resident(experiment.corpus, experiment.epochs.plan)
            data = data if placement is None else placement.everywhere(data)
        self._data = data
        settings = config_lib.section(experiment.config, "train")
        self._with_mask = settings.seen_items == "zero"
        self.protocols = (settings.valid_protocol,) if split == "valid" else metrics.PROTOCOLS
        self.inputs = evaluate.inputs(experiment.corpus, split, settings.eval_users, settings.seen_items, tail)
        corpus, rows, stops = experiment.corpus, self.inputs.rows_E, self.inputs.stops_E
        data = experiment.epochs.plan.config
        supervision = experiment.recommender.supervision
        # If validation and test have the same number of users, both use one compiled encoder.
        other = evaluate.stops(
            corpus, "test" if split == "valid" else "valid", settings.eval_users, settings.seen_items
        )
        other = other if len(other) == len(stops) else None
        self._histories = inference.histories(corpus, rows, stops, data, supervision, other)
        if placement is not None:
            self._histories = inference.placed(self._histories, placement)
        self._candidates: dict[int, np.ndarray] = {}

    def compile_ahead(self, params_S: Any) -> None:
        """Begins to compile, in a thread, what encodes users and items, for parameters like these, stacked over lanes."""
        if self.placement is None:
            params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params_S)
            model = self._experiment.recommender
            inference.compile_ahead(model, params, self._tables, self._data, self._histories, self._with_mask)

    def ranks(self, params, seed: int, protocols, lists: bool):
        """The result of `evaluate.evaluate` for these parameters."""
        if seed not in self._candidates and "sampled" in protocols:
            self._candidates[seed] = sample_candidates(
                self.inputs.corpus, self.inputs.split, seed, rows_E=self.inputs.rows_E
            )
        model = self._experiment.recommender
        params = inference.served(model, params, self._tables, self._data, self.placement)
        users = inference.user_vectors(model, params, self._tables, self._histories, self.placement)
        items = inference.item_vectors(model, params, self._tables, self._with_mask, self.placement)
        candidates = self._candidates.get(seed)
        return evaluate.evaluate(
            users,
            items,
            self.inputs,
            seed=seed,
            protocols=protocols,
            lists=lists,
            candidates=candidates,
            mesh=self.placement.mesh if self.placement is not None and self.placement.split else None,
        )

    def __call__(self, params, seed: int) -> dict[str, Any]:
        """The summary under the protocols of this split."""
        return self.ranks(params, seed, self.protocols, False)[0]


def test(
    experiment: Experiment,
    params_S: Any,
    test: Validation,
    valid: Validation,
    done: Callable[[int], Any] = lambda count: None,
) -> dict[str, Any]:
    """Both splits under both protocols, for every seed, in the form of results.json; writes ranks to ranks.npz.

    Args:
      experiment: the run.
      params_S: the parameters, stacked over its seeds.
      test, valid: the `Validation` of each split.
      done: is called with the number of finished rankings, of which there is one for each split and seed.
    """
    config, seeds = experiment.config, experiment.seeds
    results = {"config": json.loads(config_lib.to_json(config)), "seeds": list(seeds)}
    results["split"] = experiment.corpus.split.name
    results["left_out"] = {
        split: {"repeated": runner.inputs.repeated, "without_input": experiment.corpus.split.without_input[split]}
        for split, runner in (("test", test), ("valid", valid))
    }
    ranks = {}
    for split, runner in (("test", test), ("valid", valid)):
        summaries = []
        for i, seed in enumerate(seeds):
            found = runner.ranks(state.take(params_S, i), seed, metrics.PROTOCOLS, True)
            done(1)
            summaries.append(found.summary)
            for protocol in metrics.PROTOCOLS:
                ranks[f"{split}/{protocol}/{seed}"] = np.stack(found.ranks[protocol])
            ranks[f"{split}/best_places/{seed}"] = found.best_V
        ranks[f"{split}/users"] = runner.inputs.rows_E + 1
        ranks[f"{split}/stops"] = runner.inputs.stops_E
        results[split] = evaluate.stack(summaries)
    whole = (
        params_S
        if test.placement is None
        else jax.eval_shape(functools.partial(test.placement.whole, lead=1), params_S)
    )
    results["parameters"] = recommender.parameter_count(whole) // len(seeds)
    if processes.is_first():
        with files.replacing(Path(config.workdir) / "ranks.npz") as file:
            np.savez_compressed(file, **ranks)
    return results

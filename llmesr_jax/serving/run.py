"""A loaded run, which recommends: `llmesr_jax.load_run("runs/...").recommend([["raw id", ...]])`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import nearest_id
from llmesr_jax.data import raw_ids
from llmesr_jax.serving import folders, live
from llmesr_jax.serving.catalogue import as_id
from llmesr_jax.serving.explain import Explanation
from llmesr_jax.serving.model import Answer, Recommendation, ServedModel
from llmesr_jax.training import runs, state
from llmesr_jax.training.experiment import Experiment
from llmesr_jax.training.progress import Progress


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Run(runs.Run):
    """A run that is trained, or partly trained, and recommends by its best parameters.

    Attributes:
      experiment: data, tables, model and settings of the run.
      params_S: the best parameters so far of each seed that did not fail, stacked.
      progress: of the training.
    """

    @functools.cached_property
    def _served(self) -> dict[int | None, ServedModel]:
        return {}

    def served(self, seed: int | None = None) -> ServedModel:
        """The served model of one seed; None: the seed that was best in validation. It is cached.

        Raises:
          InputError: the run has no such seed.
        """
        if seed not in self._served:
            self._served[seed] = live.served(self, seed)
        return self._served[seed]

    def recommend(self, histories: Sequence[Sequence[Any]], k: int = 10, **options: Any) -> list[Answer]:
        """The k items of highest score for each history.

        Args:
          histories: for each user a list of raw item ids, oldest first. Unknown ids are left out and counted; a history
            without any known item gets popular items.
          k: number of items.
          **options: hide_seen, allow, deny, where, tail_share, diversity (see `docs/serving.md`).
        Returns:
          For each history `recommendations`, a tuple of (item, score, title), best first; `source`, "model" or
          "popular"; and `unknown`, the number of unknown items.
        Raises:
          InputError: `histories` is not a list of lists of ids, or an option is wrong.
        """
        return self.served().recommend(histories, k, **options)

    def similar_items(self, item: Any, k: int = 10, view: str = "both") -> list[Recommendation]:
        """The k items most similar to one: (item, cosine, title), most similar first.

        Args:
          item: a raw item id.
          k: number of items.
          view: "both" compares item vectors, "id" or "semantic" the vectors of one view, "embedding" the frozen
            embeddings.
        Raises:
          InputError: the item is not in the catalogue, k is not valid, or the model has no such view.
        """
        return self.served().similar_items(item, k, view)

    def explain(self, history: Sequence[Any], item: Any) -> Explanation:
        """Explains the score of an item: the share of each view, and the influence of each item of the history.

        Args:
          history: raw item ids, oldest first.
          item: a raw item id.
        Raises:
          InputError: the item is not in the catalogue, or no item of the history is.
        """
        return self.served().explain(history, item)

    def history(self, user: Any) -> list[str]:
        """The raw ids of all items of one of the data set's users, oldest first.

        Raises:
          InputError: there is no such user.
        """
        corpus, catalogue = self.experiment.corpus, self.served().catalogue
        row = self._user_rows.get(as_id(user) or "")
        if row is None:
            example = repr(next(iter(self._user_rows)))[:40]
            near = nearest_id(str(user), self._user_rows)
            raise InputError(
                f"user {repr(user)[:60]} is not in the data set (ids are like {example}); expected a raw id{near}"
            )
        return [catalogue.ids[number - 1] for number in corpus.items[corpus.offsets[row] : corpus.offsets[row + 1]]]

    @functools.cached_property
    def _user_rows(self) -> dict[str, int]:
        return {raw: row for row, raw in enumerate(raw_ids.every(self.experiment.corpus, "user"))}


def load(folder: str | Path, data_dir: str = "") -> Run:
    """Reads a run's folder and its data; changes nothing in the folder.

    Args:
      folder: of the run, made by training.
      data_dir: the folder of the data; empty: the folder that training read.
    Raises:
      InputError: the folder is not a run's, has no intact checkpoint, or the data are not those of the training.
    """
    folders.check_run(Path(folder))
    found = runs.load(folder, data_dir)
    return Run(found.experiment, found.params_S, found.progress)


def of(experiment: Experiment, *params: Any) -> Run:
    """A run with parameters from a training loop of your own: it recommends, and `evaluate` measures it.

    Args:
      experiment: of `prepare`.
      *params: a tree of parameters for each of the experiment's seeds, in their order.
    Raises:
      InputError: there are more or fewer trees than seeds.
    """
    seeds = experiment.seeds
    if len(params) != len(seeds):
        raise InputError(f"run_of: got {len(params)} trees of parameters; expected one for each seed: {list(seeds)}")
    places = range(len(seeds))
    progress = Progress(epoch=0, steps=0, active=[*places], best=[0.0 for _ in places], best_epoch=[0 for _ in places])
    return Run(experiment, state.stack(list(params)), progress)

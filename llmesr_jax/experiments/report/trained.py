"""Reads the rows' checkpoints, for pictures and lists; one that cannot be read is left out, with a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import logging

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import reading
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.models.types import Tables
from llmesr_jax.ranking import inference
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.serving import live
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import runs, state


class Trained(NamedTuple):
    """A row's first seed, ready to recommend.

    Attributes:
      row: of the section.
      seed: the one that is shown.
      run: data, tables and best parameters.
      params: of this seed, as they are served.
      items_VxE: float32 item vectors, row 0 = id 1, on the host.
      views: {"ID": float32 (V, D), "LLM": float32 (V, D)}, the two views of the items; without "LLM" if the method has
        no such view.
    """

    row: Row
    seed: int
    run: runs.Run
    params: Any
    items_VxE: np.ndarray
    views: Mapping[str, np.ndarray]


def find_corpus(section: Section, data_dirs: Sequence[str]) -> tuple[Corpus, str] | None:
    """The section's interactions, and the folder of `data_dirs` that has them ("" for the folder that training read).

    The digests of the interactions are compared. None, with a warning, if no folder has the same interactions.
    """
    config = section.rows[0].runs[0].config
    reason = ""
    for folder in (*data_dirs, ""):
        try:
            corpus = reading.load(config.dataset, folder or config.data_dir or None, config_lib.section(config, "data"))
        except InputError as error:
            reason = reason or str(error).partition(";")[0]
            continue
        if corpus.digest == section.interactions:
            return corpus, folder
        reason = reason or f"{corpus.folder or config.dataset}: has other interactions than the training"
    logging.warning(
        "%s; without the data of %s there are no tests over users by group, no intervals, no lists; set the folder "
        "with --data_dir",
        reason,
        section.name,
    )
    return None


def embeddings(rows: Sequence[Row], corpus: Corpus) -> np.ndarray | None:
    """float32 (V, F): the embeddings of item texts that these rows use; None, with a warning, if they are missing."""
    for row in rows:
        config = row.runs[0].config
        try:
            wanted = frozenset({"item_llm"})
            tables, _ = tables_lib.prepare(corpus, config_lib.section(config, "semantic"), needs=wanted, pca_width=0)
        except InputError as error:
            logging.warning("%s; the embeddings of texts are left out", str(error).partition(";")[0])
            return None
        return np.asarray(tables["item_llm"][1:-1], np.float32)
    return None


def load(row: Row, corpus: Corpus, data_dir: str) -> Trained | None:
    """The best parameters of a row's first seed, and its item vectors; None, with a warning, if they cannot be read."""
    seed, (run, _) = next(iter(row.places.items()))
    try:
        if data_dir or not run.config.data_dir or Path(run.config.data_dir).is_dir():
            loaded = runs.load(run.folder, data_dir)
        else:
            raise InputError(f"{run.config.data_dir}: no such folder")
    except InputError as error:
        logging.warning("%s; item vectors and recommendations are left out", str(error).partition(";")[0])
        return None
    if loaded.progress.epoch != run.epochs:
        logging.warning(
            "%s: the checkpoint is of epoch %d, but results.json of epoch %d; item vectors and recommendations are "
            "left out until the training ends",
            run.folder,
            loaded.progress.epoch,
            run.epochs,
        )
        return None
    params = state.take(loaded.served_S, loaded.seeds.index(seed))
    items = np.asarray(inference.item_vectors(loaded.experiment.recommender, params, loaded.tables), np.float32)
    return Trained(row, seed, loaded, params, items, _views(loaded.experiment.recommender, params, loaded.tables))


def _views(model: Recommender, params: Any, tables: Tables) -> dict[str, np.ndarray]:
    """The views of all items: those that the encoder reads, ID first, or the method's map of the LLM embeddings."""
    views_WxVxD = np.asarray(live.item_views(model, params, tables), np.float32)[:, 1:-1]
    found = {"ID": views_WxVxD[0]}
    if len(views_WxVxD) > 1:
        return found | {"LLM": views_WxVxD[1]}
    if "item_llm" in tables and hasattr(model.module, "llm_views"):
        ids = jnp.arange(1, model.sizes.num_items + 1, dtype=jnp.int32)
        return found | {"LLM": np.asarray(model.apply(params, tables, ids, method="llm_views"), np.float32)}
    return found

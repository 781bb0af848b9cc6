"""Items added after training: ranked by the embeddings of their texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import options as options_lib
from llmesr_jax.serving.catalogue import as_id

ROWS = ("neighbours", "zeros")


def with_items(
    model: Any,
    items: Sequence[Any],
    embeddings: np.ndarray,
    titles: Sequence[str] | None = None,
    *,
    records: Sequence[Mapping[str, Any]] | None = None,
    rows: str = "neighbours",
    neighbours: int = 5,
) -> Any:
    """The model with n new items after its own.

    The semantic view of a new item is computed from its embedding, as for any other item (LLM-ESR: the adapter; FAERec:
    the mapper). Its ID row was never trained: it is the mean of the ID rows of the items with the nearest embeddings,
    by cosine, scaled to the mean of their lengths (a plain mean is shorter, so its scores would be lower); or zeros.
    AlphaFuse has one view, whose rows are partly trained: a new item gets such a mean for all of it.
    Search is exact again; `with_index` makes another graph.

    Args:
      model: a `ServedModel`.
      items: n raw ids.
      embeddings: float (n, F), from the same encoder and kind of text as those that the model was trained with.
      titles: n titles; None for none.
      records: n rows of columns, for conditions; None for none.
      rows: the ID rows: "neighbours" or "zeros".
      neighbours: number of nearest items.
    Returns: a `ServedModel`.
    Raises:
      InputError: ids are already in the catalogue, sizes do not match, or the model has no embeddings.
    """
    ids = [as_id(item) for item in items]
    if None in ids:
        raise InputError(f"new items: item {ids.index(None) + 1} has no id; expected a raw id for each")
    if rows not in ROWS:
        raise InputError(f"rows={rows!r}: is not known; expected one of: {', '.join(ROWS)}")
    own = model.embeddings_VxF
    if own is None:
        raise InputError(
            "new items: this model has no frozen embeddings, so new items cannot be compared with others; train on "
            "data with texts, and export without --embeddings=False"
        )
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or not np.issubdtype(embeddings.dtype, np.floating):
        raise InputError(
            f"new items: embeddings are {embeddings.dtype} of shape {embeddings.shape}; expected floats (n, F)"
        )
    embeddings = embeddings.astype(np.float32)
    if embeddings.shape != (len(ids), own.shape[1]):
        raise InputError(
            f"new items: {len(ids):,} ids and embeddings of shape {embeddings.shape}; expected ({len(ids)}, "
            f"{own.shape[1]}), a row for each id, from the encoder that embedded the other items"
        )
    for name, given in (("titles", titles), ("records", records)):
        if given is not None and len(given) != len(ids):
            raise InputError(f"new items: {len(ids):,} ids and {len(given):,} {name}; expected one for each")
    if not np.isfinite(embeddings).all():
        raise InputError("new items: an embedding holds NaN or infinity; expected finite numbers; embed the text again")
    options_lib.check_whole("neighbours", neighbours)
    catalogue = model.catalogue.extended(ids, titles, records)
    if not ids:
        return model
    new_WxnxD = []
    names = model.view_names or ("",) * len(model.views_WxVxD)
    for place, name in enumerate(names):
        if name == "semantic":
            new_WxnxD.append(np.asarray(model.programs.semantic(embeddings)))
        else:
            trained_VxD = np.asarray(model.views_WxVxD[place])[1:-1]
            zeros = np.zeros((len(ids), trained_VxD.shape[1]), np.float32)
            new_WxnxD.append(zeros if rows == "zeros" else nearest_mean(embeddings, own, trained_VxD, neighbours))
    new = jnp.asarray(np.stack(new_WxnxD))
    views = jnp.concatenate([model.views_WxVxD[:, :-1], new, model.views_WxVxD[:, -1:]], axis=1)
    vectors = np.asarray(model.programs.parts(new)).sum(axis=0)
    return dataclasses.replace(
        model,
        catalogue=catalogue,
        views_WxVxD=views,
        items_VxE=np.concatenate([model.items_VxE, vectors]),
        embeddings_VxF=np.concatenate([np.asarray(own), embeddings.astype(_dtype(own, embeddings))]),
        graph=None,
    )


def _dtype(own_VxF: np.ndarray, new_nxF: np.ndarray) -> np.dtype:
    """The dtype of the model's embeddings, or float32 if a new number is too large for it."""
    largest = float(np.abs(new_nxF).max(initial=0))
    return own_VxF.dtype if largest <= float(np.finfo(own_VxF.dtype).max) else np.dtype(np.float32)


def nearest_mean(new_nxF: np.ndarray, own_VxF: np.ndarray, rows_VxD: np.ndarray, neighbours: int) -> np.ndarray:
    """float32 (n, D): for each new embedding, the mean of the rows of the items with the nearest embeddings, by cosine,
    scaled to the mean of the lengths of these rows.

    It is zeros for an embedding of zeros, which has no neighbours. Own items whose embedding is zeros are no
    neighbours.
    """
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)  # noqa: E731
    own = unit(np.asarray(own_VxF, np.float32))
    embedded_V = np.abs(own).sum(axis=1) > 0
    taken = min(neighbours, int(embedded_V.sum()))
    found = np.zeros((len(new_nxF), rows_VxD.shape[1]), np.float32)
    if not taken:
        return found
    for start in range(0, len(new_nxF), 1024):
        cosine = unit(new_nxF[start : start + 1024]) @ own.T
        cosine[:, ~embedded_V] = -np.inf
        nearest = np.argpartition(-cosine, taken - 1, axis=1)[:, :taken]
        lengths = np.linalg.norm(rows_VxD[nearest], axis=2).mean(axis=1, keepdims=True)
        found[start : start + 1024] = unit(rows_VxD[nearest].mean(axis=1)) * lengths
    found[np.abs(new_nxF).sum(axis=1) == 0] = 0
    return found

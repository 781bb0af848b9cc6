"""Explains a score: the shares of the item's views, and of the items of the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError


class Influence(NamedTuple):
    """The effect of one item of the history on the score.

    Attributes:
      item, title: raw id and title of the item.
      added: the score of the history up to this item, minus the score of the history before it; before the first item
        the score counts as 0. The numbers of all items add up to the score.
      left_out: the score, minus that of the whole history without this item. These numbers do not add up, because
        similar items replace each other.
    """

    item: str
    title: str
    added: float
    left_out: float


class Explanation(NamedTuple):
    """The parts of a score.

    Attributes:
      score: of the item, for this history.
      views: {part of the item's vector: its share of the score}. The shares add up to the score exactly.
      history: the influence of each known item that the encoder reads, oldest first.
      unknown: number of items of the history that are not in the catalogue.
      cut: number of known items of the history that are too old for the encoder to read.
    """

    score: float
    views: dict[str, float]
    history: tuple[Influence, ...]
    unknown: int
    cut: int

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {share:+.4f}" for name, share in self.views.items())
        width = max((len(one.item) for one in self.history), default=0)
        width = max(width, len("item"))
        lines = [f"score {self.score:.4f} = {shares}", f"{'item':<{width}}    added  left out  title"]
        lines += [f"{i.item:<{width}}  {i.added:+.4f}   {i.left_out:+.4f}  {i.title}" for i in self.history]
        return "\n".join(line.rstrip() for line in lines)


def explain(model: Any, history: Sequence[Any], item: Any) -> Explanation:
    """Explains the score of an item.

    By views: an item's vector is a sum of parts (`Programs.parts`), and the score is linear in it, so each part has an
    exact share. LLM-ESR's parts are its two views. FAERec's are its two views, each scaled by the LayerNorm of their
    sum, and "constant", the LayerNorm's bias.

    By the history's items: an encoder is not linear in them. `added` adds the items one by one, from the oldest on, and
    `left_out` removes one at a time. This takes two encodings for each item.

    Args:
      model: a `ServedModel`.
      history: raw item ids, oldest first.
      item: a raw id of the catalogue.
    Raises:
      InputError: the item is not in the catalogue, or no item of the history is.
    """
    row = model.catalogue.number(item) - 1
    ids, unknown = model.catalogue.known(history)
    if not len(ids):
        raise InputError(
            "history: none of its items is in the catalogue, so there is no score to explain; expected at least one "
            "known item"
        )
    read = ids[-model.programs.longest :]
    prefixes = [read[: n + 1] for n in range(len(read))]
    without = [np.delete(read, n) for n in range(len(read))] if len(read) > 1 else []
    users = model.programs.users(model.views_WxVxD, [*prefixes, *without])
    scores = (users @ model.items_VxE[row]).astype(np.float64)
    whole = scores[len(read) - 1]
    added = np.diff(scores[: len(read)], prepend=0.0)
    left_out = whole - scores[len(read) :] if without else np.array([whole])
    parts_PxE = np.asarray(model.programs.parts(model.views_WxVxD[:, row + 1 : row + 2]))[:, 0]
    shares = parts_PxE @ users[len(read) - 1]
    influences = [
        Influence(model.catalogue.ids[number - 1], model.catalogue.title(number - 1), float(a), float(o))
        for number, a, o in zip(read.tolist(), added, left_out, strict=True)
    ]
    views = dict(zip(model.programs.names, map(float, shares), strict=True))
    return Explanation(float(whole), views, tuple(influences), unknown, len(ids) - len(read))

"""The items of a served model: raw ids, titles, popularity, and the columns of the items' file."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import nearest_id
from llmesr_jax.core.wording import counted

_WHOLE_FLOAT = re.compile(r"(-?[0-9]+)\.0+")
_EXACT = 2**53  # a float represents every whole number up to this one


def as_id(value: Any) -> str | None:
    """A raw id as text, as the data were read: 12, 12.0 and "12.0" are "12"; None for None, NaN and the empty text.

    Raises:
      InputError: the value is neither text nor a number.
    """
    if isinstance(value, str):
        value = value.strip()
        whole = _WHOLE_FLOAT.fullmatch(value) if value.endswith("0") else None
        return whole[1] if whole else value or None
    if value is None:
        return None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return None
        whole = float(value).is_integer() and abs(value) < _EXACT
        return str(int(value)) if whole else str(float(value))
    raise InputError(f"{repr(value)[:60]} is not a raw id; expected text or a number")


def encodable(text: str) -> str:
    """The text with "?" for half of a surrogate pair, which a program that cut a text may have left: UTF-8 has none."""
    return text.encode("utf-8", "replace").decode()


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """V items. Row v - 1 is the item with id v, the number that an encoder gets.

    Attributes:
      ids: raw ids, all different.
      counts_V: int64 (V,) training interactions.
      tail_V: bool (V,) tail items, by training counts.
      titles: None without texts.
      records: the rows of the items' file, read when a condition needs them; None without texts.
    """

    ids: Sequence[str]
    counts_V: np.ndarray
    tail_V: np.ndarray
    titles: Sequence[str] | None = None
    records: Sequence[Mapping[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """{raw id: item id from 1}."""
        return {raw: number for number, raw in enumerate(self.ids, 1)}

    @functools.cached_property
    def by_popularity(self) -> np.ndarray:
        """int64 (V,): rows, those with the most training interactions first; ties in order of row."""
        return np.argsort(-self.counts_V, kind="stable")

    def title(self, row: int) -> str:
        """The title of a row; "" if it has none."""
        return "" if self.titles is None else self.titles[row]

    def number(self, raw: Any) -> int:
        """The item id of a raw id.

        Raises:
          InputError: there is no such item.
        """
        found = self.numbers.get(as_id(raw) or "")
        if found is None:
            raise InputError(
                f"item {repr(raw)[:60]} is not in the catalogue of {len(self):,} items (ids are like "
                f"{repr(self.ids[0])[:40]}); expected one of its raw ids{nearest_id(str(raw), self.ids)}"
            )
        return found

    def known(self, history: Sequence[Any], where: str = "history") -> tuple[np.ndarray, int]:
        """int32 (n,): the item ids of a history's items in the catalogue, in order; and the number of unknown items.

        A missing value (None, NaN, "") counts as neither.

        Raises:
          InputError: the history is a text, or has a value that is not an id.
        """
        if isinstance(history, (str, bytes)) or not hasattr(history, "__iter__"):
            raise InputError(
                f"{where}: {repr(history)[:60]} is not a list; expected a list of raw item ids for each user, oldest "
                "first"
            )
        get, ids, unknown = self.numbers.get, [], 0
        for value in history:
            try:
                raw = as_id(value)
            except InputError as error:
                raise InputError(f"{where}: {error}") from error
            if raw is None:
                continue
            number = get(raw)
            if number is None:
                unknown += 1
            else:
                ids.append(number)
        return np.array(ids, np.int32), unknown

    def unlike(self, where: str, what: str, example: str) -> InputError:
        """The error for a list without any item of the catalogue."""
        return InputError(
            f"{where}: {what} found, but none is in the catalogue (such as {repr(example)[:40]}; ids of the catalogue "
            f"are like {repr(self.ids[0])[:40]}); expected raw item ids of the data set{nearest_id(example, self.ids)}"
        )

    def mask(self, raw_ids: Sequence[Any], where: str) -> np.ndarray:
        """bool (V,): which items are in a list of raw ids; unknown ids are ignored.

        Raises:
          InputError: no item is in the catalogue, or it is not a list.
        """
        numbers, unknown = self.known(raw_ids, where)
        if unknown and not len(numbers):
            example = next(raw for value in raw_ids if (raw := as_id(value)))
            raise self.unlike(where, counted(unknown, "id"), example)
        found_V = np.zeros(len(self), bool)
        found_V[numbers - 1] = True
        return found_V

    def extended(
        self, ids: Sequence[str], titles: Sequence[str] | None, records: Sequence[Mapping] | None
    ) -> Catalogue:
        """The catalogue with new items after the others: no training interactions, in the tail.

        Raises:
          InputError: an id already exists, or appears twice.
        """
        for raw in ids:
            if raw in self.numbers:
                raise InputError(f"new item {repr(raw)[:60]} is already in the catalogue; remove it from the new items")
        if twice := next((raw for raw, found in collections.Counter(ids).items() if found > 1), None):
            raise InputError(f"new item {repr(twice)[:60]} appears twice; expected each item once")
        count = len(ids)
        both_titles = self.titles is not None or titles is not None
        new_titles = list(titles) if titles is not None else [""] * count
        return Catalogue(
            [*self.ids, *ids],
            np.concatenate([self.counts_V, np.zeros(count, self.counts_V.dtype)]),
            np.concatenate([self.tail_V, np.ones(count, bool)]),
            [*(self.titles or [""] * len(self)), *new_titles] if both_titles else None,
            _Joined(self.records or [{}] * len(self), records or [{}] * count) if self.records or records else None,
        )


class _Joined(Sequence):
    """Two sequences, one after the other; each is read at its first use."""

    def __init__(self, first: Sequence, second: Sequence):
        self._parts = first, second

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, index: int):
        first, second = self._parts
        return first[index] if index < len(first) else second[index - len(first)]

    def __iter__(self):
        for part in self._parts:
            yield from part

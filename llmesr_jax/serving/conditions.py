"""Conditions on the columns of the items' file, as in `brand=Arden`, `price<20`, `categories~tea`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean
from llmesr_jax.serving.catalogue import Catalogue

_CONDITION = re.compile(r"\s*([^=<>!~]+?)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_NUMBER = re.compile(r"[^\d.,+-]*([+-]?(?:\d[\d.,]*|\.\d+))\D*")  # in "$1,299.00" or "2,50 EUR"
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d*")
_CURRENCY = re.compile(r"[^\w\s]?|[A-Z]{3}|US\$")
_CODE = re.compile(r"0\d")
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition(NamedTuple):
    """A condition on one column: its name, one of = != < <= > >= ~ (contains), and the value to compare with."""

    column: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.operator}{self.value}"

    def holds(self, found: Any) -> bool:
        """Whether a value of the column meets the condition; a missing value does not.

        Of a list or an object, any value must meet it; for `!=`, all values.
        """
        if isinstance(found, Mapping):
            found = list(found.values())
        if isinstance(found, (list, tuple)):
            if self.operator == "!=":
                return bool(found) and all(self.holds(value) for value in found)
            return any(self.holds(value) for value in found)
        if found is None:
            return False
        if self.operator in _ORDER:
            number = as_number(found)
            return number is not None and _ORDER[self.operator](number, float(self.value))
        if self.operator == "~":
            return self.value.casefold() in str(found).casefold()
        return _equal(found, self.value) == (self.operator == "=")


def parse(text: str) -> Condition:
    """A condition from its text.

    Raises:
      InputError: the text is not a condition.
    """
    match = _CONDITION.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise InputError(
            f"condition {text!r} is not understood; expected a column, one of = != < <= > >= ~ (contains), and a "
            "value, as in brand=Acme or price<20"
        )
    found = Condition(*match.groups())
    if found.operator in _ORDER and _plain_number(found.value) is None:
        raise InputError(f"condition {text!r}: {found.value!r} is not a number; expected one, as in price<20")
    return found


def meet(catalogue: Catalogue, texts: Sequence[str]) -> np.ndarray:
    """bool (V,): the items that meet all conditions.

    Raises:
      InputError: a condition is not understood, or there is no such column.
    """
    conditions = [parse(text) for text in texts]
    if catalogue.records is None:
        raise InputError(f"condition {texts[0]!r}: the items have no columns; prepare the data with a file of items")
    met_V, columns = np.zeros(len(catalogue), bool), dict.fromkeys(())
    there = {condition.column: False for condition in conditions}
    for row, record in enumerate(catalogue.records):
        columns.update(dict.fromkeys(record))
        for column in there:
            there[column] = there[column] or column in record
        met_V[row] = all(condition.holds(record.get(condition.column)) for condition in conditions)
    if absent := [column for column, found in there.items() if not found]:
        names = [str(name) for name in columns if name != "item_id"]
        raise InputError(
            f"condition on {absent[0]!r}: the items have no such column; expected one of: {', '.join(names)[:300]}"
            f"{did_you_mean(absent[0], names)}"
        )
    return met_V


def as_number(value: Any) -> float | None:
    """A number, or the number in a text such as "$12.50" or "2,50 EUR"; None for anything else.

    A comma before exactly three digits separates thousands: "1,299" is 1299. Any other comma is decimal.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    match = _NUMBER.fullmatch(str(value))
    if match is None:
        return None
    text = match[1].rstrip(".,")
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    elif _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    return _plain_number(text)


def _equal(found: Any, wanted: str) -> bool:
    if isinstance(found, bool):
        return str(found).casefold() == wanted.casefold()
    number = _plain_number(wanted)
    if isinstance(found, (int, float)):
        return float(found) == number
    return str(found).casefold() == wanted.casefold() or (number is not None and _amount(str(found)) == number)


def _amount(text: str) -> float | None:
    """The number of a text that is nothing else but a number, perhaps with a currency, as in "$12.50" or "2,50 EUR".

    Codes such as "007", and names such as "Model 7", are no numbers.
    """
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    if match is None or _CODE.match(match[1]):
        return None
    beside = (text[: match.start(1)] + text[match.end(1) :]).strip()
    return as_number(text) if _CURRENCY.fullmatch(beside) else None


def _plain_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

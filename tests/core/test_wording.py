"""Counts, lists and lines of messages; names of which one was probably meant."""

import doctest

import pytest

from llmesr_jax.core import nearest, wording


@pytest.mark.parametrize("module", [wording, nearest])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_ids_among_which_a_near_one_says_nothing():
    assert nearest.nearest_id("1234", ["1235", "1236"]) == ""
    assert nearest.nearest_id("user-1x", [f"user-{n}" for n in range(50_001)]) == ""


def test_commands_are_not_broken():
    line = f"out: written; next: python -m launch.train {'--flag=value ' * 8}".strip()
    text = "\n".join([line, "word " * 20, "short"])
    assert wording.wrapped(text).split("\n") == [line, ("word " * 16).strip(), "  word word word word", "short"]


def test_rows_of_a_table_are_not_wrapped():
    rows = ["raw   49,999,660  1,000,000,000", "      49,996,958    799,991,079"]
    assert wording.wrapped("\n".join(rows), 20).split("\n") == rows

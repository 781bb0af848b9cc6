"""Numbers in texts, as conditions on columns read them."""

import pytest

from llmesr_jax.serving import conditions


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$12.50", 12.5),
        ("$1,299.00", 1299.0),
        ("1,299", 1299.0),
        ("2,00", 2.0),
        ("2,37 EUR", 2.37),
        ("1.299,00", 1299.0),
        ("-3,5", -3.5),
        ("12.", 12.0),
        ("1.2.3", None),
        ("none", None),
        (True, None),
        (7, 7.0),
    ],
)
def test_numbers_in_texts(text, number):
    assert conditions.as_number(text) == number

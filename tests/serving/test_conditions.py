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
        ("$.99", 0.99),
        ("0,125", 0.125),
        ("1.2.3", None),
        ("none", None),
        (True, None),
        (7, 7.0),
    ],
)
def test_numbers_in_texts(text, number):
    assert conditions.as_number(text) == number


@pytest.mark.parametrize(
    ("text", "found", "holds"),
    [
        ("price=12.50", "$12.50", True),
        ("price!=12.50", "$12.50", False),
        ("price=5", "5.00", True),
        ("price=5", "$5.01", False),
        ("size=M", "m", True),
        ("size!=M", "L", True),
        ("price=2.5", "2,50 EUR", True),
        ("code=7", "007", False),
        ("code=007", "007", True),
        ("title=7", "Model 7", False),
        ("title!=7", "7 mm", True),
        ("price<1", "$.99", True),
    ],
)
def test_equal_numbers_are_equal_however_they_are_written(text, found, holds):
    assert conditions.parse(text).holds(found) == holds

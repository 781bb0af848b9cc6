"""What an item of each source is called: words only, and no id that the source knows it by."""

import prepared
import pytest

from llmesr_jax.data import reading
from llmesr_jax.semantic import texts
from llmesr_jax.semantic.texts import Wording

NAME = 'The item has the following attributes: name is Rose & "Thorn" balm'
BEAUTY = f"{NAME}; brand is Ada's; price is 3.17; category is Beauty, Skin Care, Health. The item has the following "
WANTED = {
    "amazon2014": BEAUTY + 'descriptions: It\'s "new"\\d.',
    "amazon2018": f"{NAME}; brand is Ada; price is $1.99 - $3.50; category is Fashion, Women; date is 5 star5 star (0%). "
    "The item has the following features: Soft, Imported & tested. The item has the following descriptions: One., Two..",
    "amazon2023": f"{NAME}; brand is Eve; price is 3.5; store is Ada; main category is All Beauty; date is May 1, 2019. "
    "The item has the following details: Brand: Eve; Date First Available: May 1, 2019. The item has the following "
    "descriptions: One..",
    "yelp": f"{NAME}; category is Food, Balms; city is Köln; stars is 4.5; review count is 7; is open is 1.",
    "movielens": f"{NAME}; category is Drama, War.",
    "movielens_100k": f"{NAME}; category is Drama, War; release date is 01-Jan-1995.",
    "recbole": f"{NAME}; category is A B.",
    "recbole_names": f"{NAME}; artist name is Ada.",
    "csv": f"{NAME}; note is two lines.",
    "parquet": f"{NAME}; tags is a, b.",
    "handled": f"{NAME}.",
}


@pytest.mark.parametrize("source", WANTED)
def test_the_text_of_an_item(tmp_path, source):
    prepared.sample(source, tmp_path)
    found = list(texts.stream(reading.load("shop", tmp_path / "out"), Wording()))
    assert found[2] == WANTED[source]  # the third item is x
    assert found[0].startswith("The item has the following attributes: name is Comb")
    for text in found:
        assert not text or text.startswith("The ") and "<" not in text and "{" not in text and "http" not in text

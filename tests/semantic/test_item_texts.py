"""From raw files to the texts that are embedded."""

import gzip
import json

import numpy as np
import prepared
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import reading
from llmesr_jax.semantic import embed as embed_lib
from llmesr_jax.semantic import texts
from llmesr_jax.semantic.encoders import openai, tfidf
from llmesr_jax.semantic.texts import Wording

MUG = "The item has the following attributes: name is Blue mug."


def reviews(ids):
    """(user, item, time): three users go through 5 items each, which are all of `ids`, again and again."""
    return [
        (f"u{user}", ids[(user * 5 + n) % len(ids)], 1_500_000_000 + n) for user in range(len(ids)) for n in range(5)
    ]


def prepare(tmp_path, files, *flags):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, text in files.items():
        content = text.encode()
        (raw / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    prepared.run(raw, tmp_path / "out", flags)
    return reading.load("shop", tmp_path / "out")


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def catalogue(ids, more_columns="", more=lambda n: ""):
    inter = "".join(f"{user},{item},{time}\n" for user, item, time in reviews(ids))
    items = "".join(f"{item},Blue mug{more(n)}\n" for n, item in enumerate(ids))
    return {"inter.csv": "user_id,item_id,at\n" + inter, "items.csv": f"item_id,title{more_columns}\n" + items}


PLAIN = [f"I{n:03d}" for n in range(1, 41)]
SKUS = [f"SKU-{919 - 17 * n}-blue" for n in range(40)]
ADDRESSES = [f"https://shop.example/p/{n}" for n in range(40)]
NUMBERS = [str(n) for n in range(100, 140)]


@pytest.mark.parametrize(
    ("ids", "more_columns", "more"),
    [
        (PLAIN, "", lambda n: ""),
        (SKUS, "", lambda n: ""),
        (ADDRESSES, "", lambda n: ""),
        (NUMBERS, ",stock number,isbn", lambda n: f",{NUMBERS[n]},97800{n}"),
        (SKUS, ",article,page", lambda n: f",MUG{n}B,https://shop.example/{n}"),
    ],
)
def test_ids_are_in_no_text_of_items_of_one_title(tmp_path, server, ids, more_columns, more):
    files = catalogue(ids, more_columns, more)
    corpus = prepare(
        tmp_path, files, "--importer=table", "--file=inter.csv", "--items_file=items.csv", "--time_column=at"
    )
    told = list(texts.stream(corpus, Wording()))
    assert set(told[:40]) == {MUG} and len(set(told)) == 2
    config = openai.Config(model="toy", base_url=server.base_url, dimensions=8)
    embed_lib.embed(corpus, "openai", config, Wording(), embed_lib.Options())
    assert len(server.paid) == 2 and set(server.paid.values()) == {1}
    items = np.load(tmp_path / "out" / "item_emb.npy")
    assert len(np.unique(items, axis=0)) == 1 and items.any()
    assert texts.text_counts(corpus) == texts.TextCounts(without_text=0, shared_texts=1, items_sharing=40)
    with pytest.raises(InputError, match="the texts of its 40 items have fewer than two words that distinguish items; add"):
        tfidf.latent(told[:40], corpus, 8, 0)


def test_a_template_may_name_an_identifier(tmp_path):
    files = catalogue(PLAIN)
    corpus = prepare(
        tmp_path, files, "--importer=table", "--file=inter.csv", "--items_file=items.csv", "--time_column=at"
    )
    assert next(texts.stream(corpus, Wording("{raw_id}"))) in PLAIN


def test_no_tag_of_the_pages_reaches_a_text(tmp_path):
    ids = ["x", "y", "z"]
    told = [{"overall": 5, "reviewerID": u, "asin": i, "unixReviewTime": t} for u, i, t in reviews(ids)]
    common = {
        "category": ["Toys", "</span></span></span>", "</i> Item #", "Games"],
        "feature": ["<a href='x'>Click</a> fine", "Fun &amp;amp; games"],
        "description": ['<div class="aplus">Good <br> toy</div> .a{color:red}', "<span class="],
        "brand": "<b>B</b>",
        "details": {"<b>Size</b>: ": "<i>4</i> in", "ASIN: ": "x"},
    }
    titles = [
        '<span id="productTitle">Soap</span>',
        "Lamp &amp;quot;Best&amp;quot; &lt;b&gt;new&lt;/b&gt;",
        "I <3 <Blue>",
    ]
    meta = [{"asin": i, "title": title, **common} for i, title in zip(ids, titles)]
    files = {"Toys.json.gz": lines(told), "meta_Toys.json.gz": lines(meta)}
    corpus = prepare(tmp_path, files, "--importer=amazon2018", "--category=Toys")
    rest = (
        "; brand is B; category is Toys, Item #, Games. The item has the following features: Click fine, Fun & games. "
        "The item has the following details: Size: 4 in. The item has the following descriptions: Good toy."
    )
    names = {"x": "Soap", "y": 'Lamp "Best" new', "z": "I <3 <Blue>"}
    order = [record["asin"] for record in corpus.item_records]
    wanted = [f"The item has the following attributes: name is {names[i]}{rest}" for i in order]
    assert list(texts.stream(corpus, Wording()))[:3] == wanted
    filled = list(texts.stream(corpus, Wording("{title}|{feature}|{category}")))[:3]
    assert filled == [f"{names[i]}|Click fine, Fun & games|Toys, Item #, Games" for i in order]
    # A folder that is laid out by hand, or was prepared when tags were kept.
    records = [{"item_id": n, "title": titles[ids.index(i)], "asin": i, **common} for n, i in enumerate(order, 1)]
    (tmp_path / "out" / "items.jsonl").write_text(lines(records))
    again = reading.load("shop", tmp_path / "out")
    assert list(texts.stream(again, Wording()))[:3] == wanted
    assert all("<b>" not in text and "&" not in text for text in list(texts.stream(again, Wording()))[3:])


@pytest.mark.parametrize("dataset", ["shop", "beauty"])
@pytest.mark.parametrize("spelled", [dict, json.dumps])
def test_details_of_amazon_2023(tmp_path, dataset, spelled):
    ids = ["x", "y", "z"]
    told = [{"rating": 5, "user_id": u, "parent_asin": i, "timestamp": t * 1000} for u, i, t in reviews(ids)]
    details = {"Brand": "Zed", "Material": "Oak", "Is Discontinued": False, "UPC": "123", "Box": {"Width": 3.0}}
    meta = [{"parent_asin": i, "title": f"Soap {i}", "store": "S", "details": spelled(details)} for i in ids]
    files = {"All_Beauty.jsonl.gz": lines(told), "meta_All_Beauty.jsonl.gz": lines(meta)}
    prepare(tmp_path, files, "--importer=amazon2023", "--category=All_Beauty")
    corpus = reading.load(dataset, tmp_path / "out")
    in_words = "Brand: Zed; Material: Oak; Is Discontinued: no; Box: Width: 3"
    for text in list(texts.stream(corpus, Wording()))[:3]:
        assert text.endswith(f". The item has the following details: {in_words}.")
    filled = list(texts.stream(corpus, Wording("{title}[ ({details})]")))[:3]
    assert sorted(filled) == [f"Soap {i} ({in_words})" for i in ids]
    filled = list(texts.stream(corpus, Wording("{title}[ of {details.Material}][, {details.Box.Width} in]")))[:3]
    assert sorted(filled) == [f"Soap {i} of Oak, 3 in" for i in ids]
    with pytest.raises(InputError, match="no item has a field 'details.Colour'; expected .*; a nested field is written det"):
        list(texts.stream(corpus, Wording("{title} {details.Colour}")))

"""Answers over HTTP are those of the model behind it, alone and in batches of any mixture."""

import json

import http_service
import numpy as np
import pytest

http_service.required()

from llmesr_jax.serving import index
from llmesr_jax.serving.http import ready, schema

OPTIONS = [
    {},
    {"k": 1},
    {"k": 30},
    {"hide_seen": False},
    {"k": 7, "where": ["brand=Acme"]},
    {"deny": ["sku-1", "sku-2", "nope"], "k": 5},
    {"allow": ["sku-1", "sku-2", "sku-4", "商品3"]},
    {"tail_share": 0.5, "k": 6},
    {"diversity": 0.4, "k": 4},
    {"diversity": 0.2, "tail_share": 1.0, "where": ["price<20"], "k": 3},
]


def histories(count, ids):
    rng = np.random.default_rng(4)
    found = [[ids[n] for n in rng.integers(0, 30, rng.integers(1, 25))] for _ in range(count)]
    return [*found, [], ["nope", None, ""], ["sku-1"] * 300, [7, 7.0, "sku-7 "]]


def check(answer, wanted):
    assert (answer["source"], answer["unknown"]) == (wanted.source, wanted.unknown)
    found = answer["recommendations"]
    assert [(one["item"], one["title"]) for one in found] == [(r.item, r.title) for r in wanted.recommendations]
    np.testing.assert_allclose(
        [r["score"] for r in found], [r.score for r in wanted.recommendations], rtol=1e-5, atol=1e-5
    )


def test_parity_with_the_model_in_one_large_mixture(post, models):
    """160 requests at once, of both bundles and all options: each is answered as the model answers it alone."""
    given = histories(4, models["one"].catalogue.ids)
    asked = [(name, options) for options in OPTIONS for name in models]
    bodies = [{"bundle": name, "history": one, **options} for name, options in asked for one in given]
    answers = iter(post("/recommend", *bodies))
    for name, options in asked:
        for wanted in models[name].recommend(given, **{"k": 10, **options}):
            answer = next(answers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["bundle"] == name
            check(answer.json(), wanted)


def test_the_other_answers(ask, post, models):
    model = models["two"]
    (answer,) = post("/explain", {"history": ["sku-1", "商品3", "nope"], "item": "sku-2", "bundle": "two"})
    wanted, found = model.explain(["sku-1", "商品3", "nope"], "sku-2"), answer.json()
    assert found["views"] == pytest.approx(wanted.views, abs=1e-6) and found["unknown"] == 1 and found["cut"] == 0
    assert found["score"] == pytest.approx(wanted.score, abs=1e-6) and found["title"] == model.catalogue.title(1)
    for one, influence in zip(found["history"], wanted.history, strict=True):
        assert (one["item"], one["title"]) == influence[:2] and one["added"] == pytest.approx(influence.added, abs=1e-5)
    (answer,) = ask(("GET", "/similar", {"params": {"item": "商品3", "k": 4, "view": "id", "bundle": "two"}}))
    assert [(i["item"], i["title"]) for i in answer.json()["items"]] == [
        (r.item, r.title) for r in model.similar_items("商品3", 4, "id")
    ]
    answers = ask(("GET", "/bundles", {}), ("GET", "/health", {}))
    assert [one["name"] for one in answers[0].json()["bundles"]] == ["one", "two"]
    assert answers[0].json()["bundles"][0]["views"] == ["id", "semantic", "both", "embedding"]
    assert answers[1].json() == {"status": "ok"}


def test_search_of_the_catalogue(ask, models):
    catalogue = models["one"].catalogue
    popular = [catalogue.ids[row] for row in catalogue.by_popularity]

    def found(query, k=100):
        (answer,) = ask(("GET", "/items", {"params": {"query": query, "k": k}}))
        return [one["item"] for one in answer.json()["items"]]

    tea = [i for i in popular if catalogue.title(catalogue.numbers[i] - 1).casefold().startswith("tee grün")]
    assert found("TEE Grün") == tea and found("grün ｔｅｅ") == tea  # in any order, case and width
    assert found("") == popular and found("   ", 3) == popular[:3]
    assert found("sku-7")[0] == "sku-7" and found("お茶 sku-8") == found("zzz") == []
    assert found("\0") == popular and found("tea mug") == []


def test_what_is_counted(ask, post):
    post("/recommend", {"history": ["nope", "sku-1"]}, {"history": []})
    (answer,) = ask(("GET", "/metrics", {}))
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert float(lines['llmesr_requests_total{path="/recommend",status="200"}']) >= 2
    assert float(lines["llmesr_unknown_items_total"]) >= 1 and float(lines["llmesr_popular_answers_total"]) >= 1
    assert lines['llmesr_bundle_items{bundle="one",digest="one"}'] == "30.0"
    assert float(lines["llmesr_batch_seconds_count"]) >= 1 and lines["llmesr_reload_failed"] == "0.0"
    assert lines['llmesr_waiting_requests{thread="lists"}'] == "0.0"


def test_the_description_fits_the_application(ask, application):
    document = ask(("GET", "/openapi.json", {}))[0].json()
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    for path, methods in document["paths"].items():
        for method in ("get", "post"):
            (answer,) = ask((method, path, {}))
            assert (answer.status_code == 405) == (method not in methods), path
    fields = document["components"]["schemas"]["RecommendRequest"]["properties"]
    assert fields["k"]["maximum"] == schema.MOST_K and fields["history"]["maxItems"] == schema.MOST_HISTORY


@pytest.mark.slow
def test_nothing_is_compiled_after_the_start(models):
    """Whatever is asked, in whatever mixture, runs on programs that were there before."""
    model = ready.of(models["one"], "x").warmed()
    assert all(one._cache_size() for one in model._answer.values())  # few plain requests are one program
    compiled = (model.programs.encode[16], index._search, *model._answer.values())
    size = lambda: sum(one._cache_size() for one in compiled)  # noqa: E731
    before, given = size(), histories(70, model.catalogue.ids)
    for options in OPTIONS:
        for count in (1, 3, 50, 64):
            model.recommend(given[-count:], **{"k": 10, **options})
    model.explain(given[0], "sku-1")
    assert size() == before

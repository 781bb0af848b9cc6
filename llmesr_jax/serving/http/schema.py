"""The types of requests and answers: requests are checked against them, and the OpenAPI page is made from them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

MOST_BYTES = 1 << 20  # of a request's body
MOST_K = 100
MOST_HISTORY = 1000
MOST_LISTED = 10_000  # ids in `allow` or `deny`

_Text = Annotated[str, Meta(max_length=256)]
Id = _Text | int | float | None
History = Annotated[
    list[Id],
    Meta(max_length=MOST_HISTORY, description="Raw item ids, oldest first. Unknown ids are left out and counted."),
]
Bundle = Annotated[_Text, Meta(description="Name of the served bundle; empty for the first.")]
K = Annotated[int, Meta(ge=1, le=MOST_K, description="Number of items.")]
Share = Annotated[float, Meta(ge=0, le=1)]


class RecommendRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """The items of highest score for a history."""

    history: History
    k: K = 10
    bundle: Bundle = ""
    hide_seen: Annotated[bool, Meta(description="Leave out the items of the history.")] = True
    where: Annotated[
        list[_Text],
        Meta(max_length=10, description="Conditions on columns of the items, such as brand=Acme or price<20."),
    ] = []
    allow: Annotated[list[Id], Meta(max_length=MOST_LISTED, description="Only these items.")] | None = None
    deny: Annotated[list[Id], Meta(max_length=MOST_LISTED, description="None of these items.")] = []
    tail_share: Annotated[Share, Meta(description="Minimum share of tail items in the list.")] = 0.0
    diversity: Annotated[
        Share,
        Meta(description="0: the best scores; towards 1: items that differ (maximal marginal relevance)."),
    ] = 0.0


class SimilarRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """The items most similar to one, by cosine."""

    item: _Text
    k: K = 10
    view: Annotated[
        _Text,
        Meta(description="both for item vectors, or one of the bundle's views; embedding for the frozen embeddings."),
    ] = "both"
    bundle: Bundle = ""


class ExplainRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """The parts of an item's score, for a history."""

    history: History
    item: _Text | int
    bundle: Bundle = ""


class ItemsRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """Items whose title or id has all words of a query, those with the most training interactions first."""

    query: Annotated[_Text, Meta(description="Words; empty for the items with the most training interactions.")] = ""
    k: K = 20
    bundle: Bundle = ""


class Scored(Struct, frozen=True, gc=False):
    """An item and its score."""

    item: str
    score: float
    title: str


class RecommendAnswer(Struct, frozen=True):
    """The recommended items, best first."""

    bundle: str
    source: Annotated[
        str,
        Meta(
            description="model; or popular if no item of the history is known: then scores are training interactions."
        ),
    ]
    unknown: Annotated[int, Meta(description="Items of the history that are not in the catalogue.")]
    recommendations: list[Scored]


class SimilarAnswer(Struct, frozen=True):
    """The items, most similar first; the score is the cosine."""

    bundle: str
    items: list[Scored]


class Influence(Struct, frozen=True):
    """The effect of one item of the history on the score."""

    item: str
    title: str
    added: Annotated[float, Meta(description="The gain of the score when this item was added to the history.")]
    left_out: Annotated[float, Meta(description="The loss of the score without this item.")]


class ExplainAnswer(Struct, frozen=True):
    """The parts of a score: `views` add up to it, and so do the `added` of the history."""

    bundle: str
    item: str
    title: str
    score: float
    views: dict[str, float]
    history: list[Influence]
    unknown: int
    cut: Annotated[int, Meta(description="Known items of the history that are too old for the model to read.")]


class Found(Struct, frozen=True):
    """An item of the catalogue."""

    item: str
    title: str
    interactions: int
    tail: bool


class ItemsAnswer(Struct, frozen=True):
    """Found items."""

    bundle: str
    items: list[Found]


class About(Struct, frozen=True):
    """A served bundle."""

    name: str
    items: int
    method: str
    backbone: str
    dataset: str
    views: list[str]
    longest: Annotated[int, Meta(description="Maximum number of items of a history that the model reads.")]
    diversity: Annotated[bool, Meta(description="Whether the bundle has the embeddings that diversity compares.")]


class BundlesAnswer(Struct, frozen=True):
    """The served bundles, the default one first."""

    bundles: list[About]


class Health(Struct, frozen=True):
    """The service answers."""

    status: str


class Problem(Struct, frozen=True):
    """The reason for a missing answer."""

    error: str

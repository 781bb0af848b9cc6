"""The demo: a small shop made in memory, whose texts carry what its ids do not.

Items live in topics, sub-topics and styles; titles and attributes are made of the words of all three. Users have one
to three topics and a favourite style, stay with a sub-topic for a while and move on to the next one, so order matters;
popularity is Zipf, so most items are too rare to be learned from ids, but their texts name their topic.

It uses only uniform draws, integers and square roots, which are exact, so every machine makes the same demo.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.data.corpus import Corpus, from_pairs
from llmesr_jax.data.splits import SplitConfig

# Topic: department | its words | sub-topic = product nouns, in the order in which people move on.
_TOPICS = {
    "running": "outdoor | trail marathon jogging stride | shoe sneaker | shorts tights | armband belt | insole sock",
    "hiking": "outdoor | alpine summit trekking ridge | boot gaiter | backpack daypack | pole staff | compass map",
    "camping": "outdoor | campsite forest night bivouac | tent tarp | mattress cot | stove burner | lantern headlamp",
    "climbing": "outdoor | crag boulder vertical belay | harness sling | rope cord | carabiner anchor | chalk crashpad",
    "cycling": "outdoor | road commuter gravel pedal | helmet visor | saddle seatpost | pump inflator | pannier basket",
    "fishing": "outdoor | river trout angler lake | rod reel | lure spinner | wader vest | net tacklebox",
    "swimming": "outdoor | pool lap aquatic stroke | goggles mask | swimsuit trunks | fin paddle | kickboard snorkel",
    "skincare": "beauty | face hydrate pore glow | cleanser foam | toner essence | serum ampoule | lotion balm",
    "haircare": "beauty | curl scalp shine frizz | shampoo wash | conditioner rinse | brush comb | dryer curler",
    "makeup": "beauty | matte blush tint blend | foundation primer | mascara eyeliner | lipstick gloss | bronzer rouge",
    "fragrance": "beauty | floral amber scent musk | perfume cologne | mist spray | candle diffuser | sachet incense",
    "nails": "beauty | manicure cuticle chip lacquer | polish topcoat | file buffer | clipper nipper | sticker decal",
    "shaving": "beauty | beard barber whisker sharp | razor blade | lather cream | aftershave tonic | trimmer shaver",
    "bathing": "beauty | spa soak bubble relaxing | soap bar | scrub loofah | towel bathrobe | salts oil",
    "baking": "kitchen | dough pastry oven cake | pan tin | whisk spatula | mixer beater | fondant sprinkles",
    "coffee": "kitchen | espresso roast barista brew | grinder mill | press dripper | kettle carafe | mug tumbler",
    "tea": "kitchen | leaf herbal infusion steep | teapot gaiwan | strainer infuser | teacup saucer | caddy canister",
    "cutlery": "kitchen | chef blade carving slice | knife cleaver | sharpener whetstone | board block | peeler grater",
    "cooking": "kitchen | simmer sear stovetop roast | skillet wok | saucepan stockpot | ladle tongs | apron mitt",
    "storage": "kitchen | pantry airtight leftover stack | jar bottle | container lunchbox | bag wrap | rack organizer",
}
_STYLES = (
    "lightweight compact slim travel",
    "classic vintage leather wooden",
    "organic bamboo recycled natural",
    "professional premium precision steel",
    "colorful playful printed neon",
    "rugged waterproof heavyduty reinforced",
)
_MAKERS = tuple(
    "Arden Boreal Calder Dunmore Everly Fenwick Galen Harrow Inverly Juniper Kestrel Larkin Marlow Norden Osric".split()
)
# Words that tell nothing about an item.
_FILLERS = tuple(
    "quality gift perfect daily value new easy set popular great everyday choice favorite comfort size smart".split()
)

_SUBTOPICS = 4
_MIN_LENGTH, _MAX_LENGTH = 3, 60


class Catalogue(NamedTuple):
    """The structure of I items, int64 (I,) each; `popularity` is an integer Zipf weight, the others count from 0."""

    topic: np.ndarray
    subtopic: np.ndarray
    style: np.ndarray
    popularity: np.ndarray


class Shop(NamedTuple):
    """The demo, and the structure from which it was made; row i of the catalogue is item id i + 1."""

    corpus: Corpus
    catalogue: Catalogue


def demo(seed: int = 0, num_users: int = 2000, num_items: int = 1000, split: SplitConfig = SplitConfig()) -> Corpus:
    """The demo data set; the same arguments give the same corpus everywhere.

    Args:
      seed: of all draws.
      num_users: U.
      num_items: size of the catalogue; items without interactions are left out, so V is slightly less (940 by default).
      split: how to split; the demo has no times.
    """
    return shop(seed, num_users, num_items, split).corpus


def shop(seed: int = 0, num_users: int = 2000, num_items: int = 1000, split: SplitConfig = SplitConfig()) -> Shop:
    """As `demo`, with its topics, sub-topics and styles, for tests."""
    rng = np.random.default_rng([seed, num_users, num_items])
    catalogue = _catalogue(rng, num_items)
    users, rows = _histories(rng, catalogue, num_users)
    taken, items = np.unique(rows, return_inverse=True)
    catalogue = Catalogue(*(column[taken] for column in catalogue))
    kinds = zip(*(column.tolist() for column in catalogue[:3]))
    records = tuple(_record(rng, item, *kind) for item, kind in enumerate(kinds, 1))
    return Shop(from_pairs("demo", users + 1, items + 1, item_records=records, split=split), catalogue)


def write(corpus: Corpus, folder: str | Path) -> None:
    """Writes `inter.txt` and, if there are texts, `items.jsonl`, as `reading.read_folder` reads them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    users = np.repeat(np.arange(1, corpus.num_users + 1), corpus.lengths_U)
    np.savetxt(folder / "inter.txt", np.stack([users, corpus.items], axis=1), fmt="%d")
    if corpus.item_records is not None:
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in corpus.item_records)
        (folder / "items.jsonl").write_text(lines, encoding="utf-8")


def _below(rng: np.random.Generator, bounds: int | np.ndarray, shape: tuple[int, ...] = ()) -> np.ndarray:
    """Uniform integers in [0, bounds). Only `random` is used: NumPy may change its other draws."""
    return (rng.random(shape) * bounds).astype(np.int64)


def _catalogue(rng: np.random.Generator, num_items: int) -> Catalogue:
    # The lower of two draws, so that low topics have more items.
    topic = np.minimum(*_below(rng, len(_TOPICS), (2, num_items)))
    subtopic = _below(rng, _SUBTOPICS, (num_items,))
    style = _below(rng, len(_STYLES), (num_items,))
    group = topic * _SUBTOPICS + subtopic
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])
    rank = np.empty(num_items, np.int64)
    rank[order] = np.arange(num_items) - first
    # Zipf with exponent 3/2 within a sub-topic; square roots are rounded alike everywhere, powers are not.
    return Catalogue(topic, subtopic, style, (10_000 / ((rank + 1) * np.sqrt(rank + 1))).astype(np.int64))


def _histories(rng: np.random.Generator, catalogue: Catalogue, num_users: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) user rows and (n,) item rows, each user's in time order."""
    longest = min(_MAX_LENGTH, len(catalogue.topic))
    lengths = np.minimum(_MIN_LENGTH + (3.0 / np.sqrt(1 - rng.random(num_users)) - 3.0).astype(np.int64), longest)
    tastes = np.minimum(*_below(rng, len(_TOPICS), (2, num_users, 3)))
    num_tastes = 1 + _below(rng, 3, (num_users,))
    home_style = _below(rng, len(_STYLES), (num_users,))
    topic, subtopic = tastes[:, 0], _below(rng, _SUBTOPICS, (num_users,))
    seen = np.zeros((num_users, len(catalogue.topic)), bool)
    users, rows = [], []
    for step in range(longest):
        move, draw = rng.random((2, num_users))
        # 60 % stay, 22 % move to the next sub-topic, 18 % turn to one of their topics.
        turn = move >= 0.82
        topic = np.where(turn, tastes[np.arange(num_users), _below(rng, num_tastes, (num_users,))], topic)
        subtopic = np.where(turn, _below(rng, _SUBTOPICS, (num_users,)), (subtopic + (move >= 0.6)) % _SUBTOPICS)
        style = np.where(rng.random(num_users) < 0.8, home_style, _below(rng, len(_STYLES), (num_users,)))
        active = np.flatnonzero(lengths > step)
        weights = _weights(catalogue, topic[active], subtopic[active], style[active])
        total = np.cumsum(np.where(seen[active], 0, weights), axis=1)
        row = (total <= (draw[active] * total[:, -1]).astype(np.int64)[:, None]).sum(axis=1)
        seen[active, row] = True
        users.append(active)
        rows.append(row)
    return np.concatenate(users), np.concatenate(rows)


def _weights(catalogue: Catalogue, topic: np.ndarray, subtopic: np.ndarray, style: np.ndarray) -> np.ndarray:
    """int64 (users, I): the weight of each item: its popularity times its match with the user's current interests."""
    same_topic = catalogue.topic == topic[:, None]
    same_subtopic = same_topic & (catalogue.subtopic == subtopic[:, None])
    same_style = catalogue.style == style[:, None]
    return catalogue.popularity * (1 + 10 * same_topic + 600 * same_subtopic) * (1 + 5 * same_style)


def _record(rng: np.random.Generator, item: int, topic: int, subtopic: int, style: int) -> dict[str, Any]:
    """Attributes in words; some are missing or empty, as in a real shop."""

    def pick(words: Sequence[str]) -> str:
        return words[int(_below(rng, len(words)))]

    name = list(_TOPICS)[topic]
    department, words, *products = (part.split() for part in _TOPICS[name].split("|"))
    looks, nouns = _STYLES[style].split(), products[subtopic]
    noun = pick(nouns)
    # Most items of a topic are from the same three makers.
    maker = _MAKERS[(topic + 5 * int(_below(rng, 3))) % len(_MAKERS)] if rng.random() < 0.8 else pick(_MAKERS)
    first_look, second_look, word = pick(looks), pick(looks), pick(words)
    title = f"{maker} {first_look} {word} {noun}, {pick(_FILLERS)}"
    record = {
        "item_id": item,
        "title": title,
        "brand": maker,
        "categories": [department[0], name, nouns[0]],
        "features": [
            f"{second_look} {pick(nouns)}",
            f"{pick(_FILLERS)} {pick(_FILLERS)}",
            f"{pick(words)} {pick(looks)}",
        ],
        "price": f"{5 + int(_below(rng, 60)) + 20 * style}.99",
        "description": f"A {pick(looks)} {noun} for {name}: {pick(words)}, {pick(_FILLERS)} and {pick(_FILLERS)}.",
    }
    for attribute in ("brand", "categories", "features", "description"):
        if rng.random() < 0.1:
            del record[attribute]
    return record

"""The named data sets: the source of each, the rule that makes it, and the counts that the papers give.

For two years users could not rebuild these data sets; this table records the rules that reproduce them.
`launch.prepare` compares every count with the papers' and prints the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llmesr_jax.data.rules import Rule


class Known(NamedTuple):
    """A data set.

    Attributes:
      importer: name of the importer of its raw files.
      options: {name: value} for the importer's `Options`.
      rule: which interactions are kept.
      counts: those of "users", "items", "interactions" and "mean_length" (to two digits) that a paper gives.
      source: where the counts and the rule come from.
    """

    importer: str
    options: Mapping[str, Any]
    rule: Rule
    counts: Mapping[str, float]
    source: str


IN_MEMORY = "demo"  # the data set that is made in memory
_NO_RULE = Rule(core="none", user_core=0, item_core=0)

# The papers' counts hold exact duplicates, so these rules keep them.
DATASETS = {
    "fashion": Known(
        "amazon2018",
        {"category": "AMAZON_FASHION"},
        Rule(core="iterated", user_core=3, item_core=2, exact_duplicates="keep"),
        {"users": 9_049, "items": 4_722, "mean_length": 3.82},
        "LLM-ESR, table of data sets (the authors' file has 9,094 users, as users report); rule: users' reports "
        "in the issues of the authors' repository",
    ),
    "beauty": Known(
        "amazon2014",
        {"category": "Beauty"},
        Rule(core="once", user_core=5, item_core=5, exact_duplicates="keep"),
        {"users": 52_204, "items": 57_289, "interactions": 394_908, "mean_length": 7.56},
        "LLM-ESR and FAERec, tables of data sets; rule: counts taken once, as the authors' code does",
    ),
    "grocery": Known(
        "amazon2014",
        {"category": "Grocery_and_Gourmet_Food"},
        Rule(core="once", user_core=5, item_core=5, exact_duplicates="keep"),
        {"users": 32_126, "items": 39_264, "interactions": 275_256, "mean_length": 8.57},
        "FAERec, table of data sets; rule: that of beauty",
    ),
    "yelp": Known(
        "yelp",
        {},
        Rule(
            core="once",
            user_core=3,
            item_core=3,
            date_from="2000-01-01",
            date_to="2019-12-31",
            min_length=3,
            exact_duplicates="keep",
        ),
        {"users": 15_720, "items": 11_383, "interactions": 192_214, "mean_length": 12.23},
        "LLM-ESR and FAERec, tables of data sets; rule: the authors' code; which release of Yelp's files they used is "
        "unknown, today's files give far more",
    ),
    "beauty5": Known(
        "amazon2014",
        {"category": "Beauty", "subset": "5core"},
        Rule(core="iterated", user_core=5, item_core=5, exact_duplicates="keep"),
        {"users": 22_363, "items": 12_101, "interactions": 198_502, "mean_length": 8.88},
        "the 5-core file itself, as many papers count it; the rule is the file's own, so it changes nothing",
    ),
    "ml-1m": Known(
        "movielens",
        {"release": "1m"},
        Rule(core="iterated", user_core=5, item_core=5, exact_duplicates="keep"),
        {"users": 6_040, "items": 3_416, "interactions": 999_611},
        "SASRec and BERT4Rec, tables of data sets (interactions: as counted by many after them)",
    ),
}


def rule_of(dataset: str, prepared: bool) -> Rule:
    """A rule that keeps everything if the source is already prepared; else the data set's rule, or the default."""
    if prepared:
        return _NO_RULE
    return DATASETS[dataset].rule if dataset in DATASETS else Rule()


def is_default(dataset: str, folder: Path) -> bool:
    """Whether a command reads this folder for `--dataset` without `--data_dir`."""
    return dataset != IN_MEMORY and folder == Path("data", dataset)


def compare(dataset: str, counts: Mapping[str, float]) -> dict[str, Any] | None:
    """The papers' counts and the counts found: {papers, match, difference, source}; None if no paper gives counts."""
    if dataset not in DATASETS:
        return None
    papers = dict(DATASETS[dataset].counts)
    difference = {name: round(counts[name] - wanted, 2) for name, wanted in papers.items()}
    return {
        "papers": papers,
        "match": not any(difference.values()),
        "difference": difference,
        "source": DATASETS[dataset].source,
    }

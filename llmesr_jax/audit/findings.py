"""The warnings of an audit: what was found, why it makes results misleading, what to do.

Two thresholds, the same for all data, decide whether to warn: `order.Z`, the z from which a deviation is not called
chance, and `order.RELEVANT`, the share from which results may change visibly. Repeated targets have a lower threshold,
`_GIVEN_AWAY`, because each is an easy hit, and hits are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from llmesr_jax.audit.order import RELEVANT, Z

_GIVEN_AWAY = 0.01  # share of targets
_MOST = 0.5  # share of interactions or targets that a few items or users have
_WIDE = 0.05  # half the width of the 95 % interval of a hit rate
_SOFTMAX = (
    "Models with a softmax loss learn that order, models with binary cross-entropy hardly do, so numbers are too good "
    "and cannot be compared"
)
_BOTH = "report results with --config.data.ties=file and with --config.data.ties=shuffled, each with its own --workdir"


VERSION = 1  # of the keys


class Warned(NamedTuple):
    """A warning.

    Attributes:
      code: a name that does not change from version to version.
      text: the warning, in sentences.
    """

    code: str
    text: str


class Audit(NamedTuple):
    """The result of an audit.

    Attributes:
      name: of the data set.
      folder: where it is; None for the demo.
      facts: nested dictionaries of numbers, strings and None; None means that the data do not show it.
      warnings: most serious first.
    """

    name: str
    folder: str | None
    facts: dict[str, Any]
    warnings: tuple[Warned, ...]

    def as_json(self) -> dict[str, Any]:
        """The whole audit, for `json.dumps`."""
        head = {"version": VERSION, "dataset": self.name, "folder": self.folder}
        return head | self.facts | {"warnings": [one._asdict() for one in self.warnings]}


def of_facts(facts: Mapping[str, Any]) -> tuple[Warned, ...]:
    """The warnings that follow from the facts of an audit, most serious first."""
    rules = (_sorted, _out_of_order, _sorted_ties, _coarse, _repeated, _duplicates, _odd_times, _few, _concentrated)
    rules += (_never_trained, _zeros, _alike, _no_text, _one_text)
    return tuple(Warned(rule.__name__.strip("_"), text) for rule in rules if (text := rule(facts)))


def percent(share: float) -> str:
    """A share of 1 as `69.4 %`; only 0 is `0 %`, and only 1 is `100 %`."""
    text = f"{100 * share:.1f}"
    if (text == "0.0" and share > 0) or (text == "100.0" and share < 1):
        text = "under 0.1" if share < 0.5 else "over 99.9"
    return text.removesuffix(".0") + " %"


def _sorted(f) -> str:
    found, share = f["order"]["sorted"], f["order"]["neighbours"]
    if found is None and not f["order"]["sorted_pairs"]:
        return ""
    todo = "Prepare the data from raw files that have times"
    if found is None:
        pairs = f["order"]["item_pairs"]["pairs"]
        return (
            f"Sequences seem to be sorted, but not by time: {pairs:,} pairs of items are neighbours for "
            f"several users, and no pair occurs in both orders. In time order many do. {_SOFTMAX}. {todo}."
        )
    way = f"{found['direction']} in {percent(_along(share['share'], found))} of {share['pairs']:,} neighbours"
    ids = "item ids" if f["order"]["ids"] == "ids" else f"item ids ({f['order']['ids']})"
    told = f"{ids[0].upper()}{ids[1:]} {way} (chance: 50 %; z = {abs(share['z']):.0f})"
    if found["kind"] == "always":
        return (
            f"Sequences seem to be sorted by item id, not by time. {told}: new items may have higher ids, but time "
            f"alone would leave exceptions. {_SOFTMAX}. {todo}."
        )
    return (
        f"Parts of the sequences seem to be sorted by item id, not by time. {told}: in "
        f"{percent(found['close_share'])} of the {found['close_pairs']:,} with the closest ids, and in "
        f"{percent(found['far_share'])} of the half with the most distant ones. Time does the opposite: it orders "
        "distant ids and leaves close ones to chance. Usually interactions of one day are in the order of a file. "
        f"(Series that users follow in the order of their ids look alike.) {_SOFTMAX}. {todo}, and {_BOTH}."
    )


def _along(share: float, found: Mapping[str, Any]) -> float:
    return share if found["direction"] == "ascend" else 1 - share


def _out_of_order(f) -> str:
    if not f["times"] or not (count := f["times"]["out_of_order"]):
        return ""
    return (
        f"Sequences are not in the order of their times: {count:,} interactions are earlier than the one before. So a "
        "model is trained on what came later and tested on what came earlier. Sort inter.txt and times.npy by time "
        "within each user. If the split is your own (--train, --valid, --test), do not sort the files: choose test "
        "interactions that come after training, or train with --config.data.split=time."
    )


def _sorted_ties(f) -> str:
    ties, share = f["ties"], f["order"]["ties"]
    if not share or not share["pairs"] or abs(share["z"]) < Z or not ties["pairs"]:
        return ""
    excess = abs(2 * share["share"] - 1)
    targets = ties["target_same_time_share"] or 0.0
    if excess * max(ties["share"], targets) < RELEVANT:
        return ""
    rises = share["share"] > 0.5
    way = "ascend" if rises else "descend"
    return (
        f"Items with the same time are sorted by id: where two neighbours have the same time, item ids {way} in "
        f"{percent(share['share'] if rises else 1 - share['share'])} of {share['pairs']:,} pairs (chance: 50 %; "
        f"z = {abs(share['z']):.0f}). Such pairs are {percent(ties['share'])} of all neighbours, and for "
        f"{percent(targets)} of the users the validation and the test item are such a pair. {_SOFTMAX}. Please {_BOTH}."
    )


def _coarse(f) -> str:
    ties = f["ties"]
    targets = (ties and ties["target_same_time_share"]) or 0.0
    if targets < RELEVANT:
        return ""
    why = ", because times are whole days" if f["times"]["whole_days"] else ""
    return (
        f"For {percent(targets)} of the users the validation and the test item have the same time{why}: which of them "
        f"is the test item is decided by the order of the file. A result is one of many that the data allow; {_BOTH}."
    )


def _repeated(f) -> str:
    found = f["repeats"]
    if max(found["test_share"], found["valid_share"]) < _GIVEN_AWAY:
        return ""
    return (
        f"Many targets are repeats: {percent(found['test_share'])} of the test items and "
        f"{percent(found['valid_share'])} of the validation items are already in their own input. "
        "Seen items are hidden from the ranking by default, so launch.train leaves such targets out; above 5 % of them "
        "it stops. To rank seen items like all others, set --config.train.seen_items=shown."
    )


def _duplicates(f) -> str:
    found = f["repeats"]
    doubled, targets = found["exact_duplicates"], found["duplicate_targets"]
    if not doubled:
        return ""
    n, tested = f["counts"]["interactions"], max(f["targets"]["test"], 1)
    if max(doubled / n, targets / tested) < _GIVEN_AWAY:
        return ""
    return (
        f"{doubled:,} interactions ({percent(doubled / n)}) are exact duplicates: an earlier row has the same user, "
        f"item and time. {targets:,} of them are validation or test items, for which a model only has to repeat an "
        "item. launch.prepare drops them with --exact_duplicates=drop."
    )


def _odd_times(f) -> str:
    if not f["times"] or not f["times"]["last"] or f["times"]["last"] >= "1990":
        return ""
    return (
        f"The last interaction is of {f['times']['last']}, so the times are probably not seconds since 1970. Set "
        "another --time_column of launch.prepare, or the --time_unit of the source; dates need dashes (2019-12-31) or "
        "--time_format."
    )


def _few(f) -> str:
    users = f["counts"]["test_users"]
    half = 1.96 * math.sqrt(0.25 / max(users, 1))
    if half <= _WIDE:
        return ""
    return (
        f"Only {users:,} users are tested: a hit rate near one half is uncertain by {100 * half:.0f} points (95 %), "
        "so most methods cannot be distinguished. Use several seeds and the tests of launch.report, or more users."
    )


def _concentrated(f) -> str:
    found = f["concentration"]
    told = [
        f"one {kind} has {percent(found[f'top_{kind}_share'])} of all interactions"
        for kind in ("item", "user")
        if found[f"top_{kind}_share"] > _MOST
    ]
    ten = found["targets_among_10_most_popular"] or 0.0
    if ten > _MOST:
        told.append(f"{percent(ten)} of the test items are among the ten most popular items")
    if not told:
        return ""
    return (
        f"Few items or users dominate: {', and '.join(told)}. Recommending the same ten items to all users has an "
        f"H@10 of about {ten:.2f} under full ranking, so compare with that, and read the results for tail items."
    )


def _never_trained(f) -> str:
    found = f["targets"]
    if found["never_trained_share"] < RELEVANT:
        return ""
    return (
        f"{percent(found['never_trained_share'])} of the test items ({found['never_trained']:,}) never occur in "
        "training. A method without texts can only guess them, so overall numbers compare how methods treat unseen "
        "items as much as what they learned. Read item_popularity group 0 separately."
    )


def _zeros(f) -> str:
    told = []
    for kind, found in f["vectors"].items():
        if found is None:
            continue
        with_text = found["zero_with_text"]
        if with_text:
            told.append(f"{with_text:,} items that have a text have a vector of zeros ({found['file']})")
        elif with_text is None and found["zero"] / found["rows"] >= RELEVANT:
            told.append(f"{found['zero']:,} of {found['rows']:,} {kind} have a vector of zeros ({found['file']})")
    if not told:
        return ""
    return f"{'; '.join(told)}. A model cannot distinguish them. Embed them again."


def _alike(f) -> str:
    found = f["vectors"]["items"]
    if found is None:
        return ""
    known = found["identical_with_other_text"] is not None
    count = found["identical_with_other_text"] if known else found["identical"]
    if count / found["rows"] < RELEVANT:
        return ""
    why = ", although their texts differ" if known else ""
    return (
        f"{count:,} of {found['rows']:,} items share their vector in {found['file']} with another item{why}. No model "
        "can distinguish such items by text. Check the encoder and its input, and embed again."
    )


def _no_text(f) -> str:
    if f["texts"] is None or (share := f["texts"]["items_without_text"] / f["counts"]["items"]) < RELEVANT:
        return ""
    return (
        f"{percent(share)} of the items ({f['texts']['items_without_text']:,}) have no text. Their vector is zero, so "
        "methods with texts have no advantage there. Prepare the data with the source's metadata."
    )


def _one_text(f) -> str:
    if f["texts"] is None or (share := f["texts"]["items_sharing"] / f["counts"]["items"]) < RELEVANT:
        return ""
    return (
        f"{percent(share)} of the items ({f['texts']['items_sharing']:,}) share their text with another item; the "
        f"largest group has {f['texts']['largest_group']:,}. They get the same vector, so methods with texts cannot "
        "distinguish them. Add fields to items.jsonl, or an --item_template that uses more of them."
    )

"""From user and item vectors to the metrics of a split, by group, under both protocols; and tables over seeds.

Protocols: `full` ranks the target against all items outside its input (or, with seen items shown, against all items),
`sampled` against 100 items outside the user's whole history.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jax.sharding import Mesh

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.splits import MOST_REPEATED
from llmesr_jax.models.placement import on_host
from llmesr_jax.models.types import DATA_AXIS, Array
from llmesr_jax.ranking import engine, metrics
from llmesr_jax.ranking.candidates import sample_candidates

_LIMIT_SEED = 20241209  # fixed, so that the targets that are drawn do not depend on the seed of the run
GROUPS = ("overall", "tail_item", "head_item", "tail_user", "head_user")


@dataclasses.dataclass(frozen=True, eq=False)
class EvalInputs:
    """The arrays that an evaluation of one split needs; E targets are ranked.

    Attributes:
      corpus: the interactions.
      split: "valid" or "test".
      rows_E: int64 rows (from 0) of users.
      stops_E: int64 how many of the user's interactions are the input.
      targets_E: int32 item ids.
      hidden: the items of each input; no items if seen items are shown.
      zero: whether hidden items are candidates with the score 0.
      members: masks over the E targets by group, see `groups.members`.
      tail_V: bool, tail items.
      repeated: number of targets that are left out, because hiding the items of their input would give them away.
    """

    corpus: Corpus
    split: Literal["valid", "test"]
    rows_E: np.ndarray
    stops_E: np.ndarray
    targets_E: np.ndarray
    hidden: engine.ItemSets
    zero: bool
    members: Mapping[str, Any]
    tail_V: np.ndarray
    repeated: int


class Evaluation(NamedTuple):
    """The result of ranking one model's targets.

    Attributes:
      summary: {protocol: {group: {"count", metric: mean}}} with `EvalInputs.members`'s nesting, plus, if lists were
        asked for, {metric: {name: number}} in "full" for each of `metrics.lists`.
      ranks: {protocol: `engine.Ranks` of int32 (E,) NumPy arrays}.
      best_V: see `best_places`; None unless lists were asked for.
    """

    summary: dict[str, Any]
    ranks: dict[str, engine.Ranks]
    best_V: np.ndarray | None


def inputs(
    corpus: Corpus,
    split: Literal["valid", "test"],
    limit: int = 0,
    seen: Literal["hidden", "zero", "shown"] = "hidden",
    tail: groups.Tail = groups.TRAINING,
) -> EvalInputs:
    """The arrays of a split, on the host; they do not depend on the model, so one call serves many evaluations.

    A target's input is everything before it: for the last item of a user, the training items and the validation item.

    Args:
      corpus: the interactions.
      split: whose targets are ranked.
      limit: maximum number of targets, drawn with a fixed seed; 0 = all.
      seen: the items of the input under `full`: hidden; candidates with the score 0 (FAERec's release); or shown, that
        is, ranked like all others. If they are hidden, a target that is in its own input is left out: it would be the
        only item of the input that is ranked, which gives it away.
      tail: which users and items are tail.

    Raises:
      InputError: see `check_repeats`.
    """
    (rows_E, stops_E), members = corpus.targets[split], groups.members(corpus, split, tail)
    chosen, repeated = _chosen(corpus, split, limit, seen)
    members = _cut(members, chosen)
    rows_E, stops_E, targets_E = rows_E[chosen], stops_E[chosen], corpus.target_items(split)[chosen]
    hidden = engine.prefix_sets(corpus, rows_E, np.zeros_like(stops_E) if seen == "shown" else stops_E)
    tail_V = ~groups.head_items(corpus, tail)
    return EvalInputs(
        corpus, split, rows_E, stops_E, targets_E, hidden, seen == "zero", members, tail_V, repeated=repeated
    )


def stops(corpus: Corpus, split: Literal["valid", "test"], limit: int, seen: str) -> np.ndarray:
    """int64 (E,): `EvalInputs.stops_E` of `inputs`."""
    return corpus.targets[split].stops_E[_chosen(corpus, split, limit, seen)[0]]


def _chosen(corpus: Corpus, split: Literal["valid", "test"], limit: int, seen: str) -> tuple[np.ndarray, int]:
    """Which of a split's targets are ranked, and how many are left out as repeated."""
    chosen, repeated = np.arange(len(corpus.targets[split].rows_E)), 0
    if seen == "hidden":
        repeated_E = corpus.repeated(split)
        check_repeats(corpus, split, seen, repeated_E)
        repeated = int(repeated_E.sum())
        chosen = np.flatnonzero(~repeated_E)
    if 0 < limit < len(chosen):
        chosen = chosen[np.sort(np.random.default_rng(_LIMIT_SEED).choice(len(chosen), limit, replace=False))]
    return chosen, repeated


def _cut(node: Any, chosen: np.ndarray) -> Any:
    """The masks of the chosen targets, in the order of their groups (a tree map would sort them)."""
    return {name: _cut(child, chosen) for name, child in node.items()} if isinstance(node, Mapping) else node[chosen]


def check_repeats(corpus: Corpus, split: str, seen: str, repeated_E: np.ndarray | None = None) -> None:
    """Raises InputError if seen items are hidden and a larger share of targets than `MOST_REPEATED` are seen items."""
    repeated_E = corpus.repeated(split) if repeated_E is None else repeated_E
    if seen == "hidden" and repeated_E.mean() > MOST_REPEATED:
        kind = {"valid": "validation"}.get(split, split)
        raise InputError(
            f"{corpus.folder or corpus.name}: {int(repeated_E.sum()):,} of {len(repeated_E):,} {kind} targets "
            f"({repeated_E.mean():.1%}) are items of the user's own input, and seen items are hidden; expected at most "
            f"{MOST_REPEATED:.0%}; rank all items with --config.train.seen_items=shown"
        )


def evaluate(
    users_ExD: Array,
    items_VxD: Array,
    inputs: EvalInputs,
    *,
    seed: int,
    protocols: Sequence[Literal["full", "sampled"]] = metrics.PROTOCOLS,
    lists: bool = False,
    candidates: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Evaluation:
    """Metrics of one model on one split.

    Args:
      users_ExD: float user vectors, in the order of `inputs.rows_E`.
      items_VxD: float item vectors, row 0 = id 1; if there is one row more, the mask token's, it is a candidate under
        `full` too.
      inputs: of the split.
      seed: of the sampled candidates.
      protocols: which to run.
      lists: whether `full` also reports the metrics of all users' lists together, such as coverage.
      candidates: int (E, C), the result of `sample_candidates(corpus, split, seed, rows_E=inputs.rows_E)`, to draw them
        once for many evaluations; None: they are drawn here.
      mesh: of devices over which the rows of `items_VxD` are split; rows after the items are padding. None: one device
        has all.

    Raises:
      ValueError: a protocol is not known, or arrays have different numbers of users.
    """
    summary, per_user, best_V = {}, {}, None
    top = max(metrics.CUTOFFS) if lists else 0
    split = None
    if mesh is not None:
        split = engine.SplitItems(inputs.corpus.num_items + inputs.zero, mesh.shape[DATA_AXIS], mesh)
    for protocol in protocols:
        if protocol == "full":
            ranks, top_ExK = engine.full_ranks(
                users_ExD, items_VxD, inputs.targets_E, inputs.hidden, top=top, zero_hidden=inputs.zero, split=split
            )
        elif protocol == "sampled":
            if candidates is None:
                candidates = sample_candidates(inputs.corpus, inputs.split, seed, rows_E=inputs.rows_E)
            ranks = engine.sampled_ranks(users_ExD, items_VxD, inputs.targets_E, candidates, split=split)
        else:
            raise ValueError(f"protocol {protocol!r} is not known; expected one of: {', '.join(metrics.PROTOCOLS)}")
        per_user[protocol] = engine.Ranks(*map(on_host, ranks))
        summary[protocol] = metrics.summarise(metrics.from_ranks(*per_user[protocol]), inputs.members)
        if protocol == "full" and lists:
            top_ExK = on_host(top_ExK)
            best_V = best_places(top_ExK, len(inputs.tail_V))
            given = metrics.Lists(best_V, inputs.tail_V, inputs.corpus.item_counts_V, top_ExK)
            summary[protocol] |= metrics.from_lists(given)
    return Evaluation(summary, per_user, best_V)


def best_places(top_ExK: np.ndarray, num_items: int) -> np.ndarray:
    """uint8 (V,): the best place, from 1, of each item in any user's list; 0 if it is in none.

    Args:
      top_ExK: int item ids, best first, 0 = none; K below 256.
      num_items: V; ids above it (a mask token's) are left out.
    """
    best_V = np.zeros(num_items + 1, np.uint8)
    for place in range(top_ExK.shape[1], 0, -1):  # backwards, so that the best place stays
        ids_E = top_ExK[:, place - 1]
        best_V[ids_E[ids_E <= num_items]] = place
    return best_V[1:]


def stack(summaries: Sequence[Mapping]) -> dict:
    """Summaries of several seeds in one: each number becomes the list of its values, one for each summary."""
    return {
        name: stack([summary[name] for summary in summaries])
        if isinstance(first, Mapping)
        else [summary[name] for summary in summaries]
        for name, first in summaries[0].items()
    }


def results_table(
    results: Mapping[str, Mapping],
    protocol: str = "full",
    names: Sequence[str] = ("H@10", "N@10"),
    width: int = 80,
) -> str:
    """A text table: a row for each method; columns overall, tail and head items, tail and head users.

    Args:
      results: {method: stacked summary of a split, see `stack`}.
      protocol: which to show.
      names: metrics to show, side by side if that fits into `width`, else one table under the other.
      width: characters.
    """
    table = _table(results, protocol, names)
    if len(names) > 1 and max(map(len, table.splitlines())) > width:
        return "\n\n".join(_table(results, protocol, [name]) for name in names)
    return table


def _table(results: Mapping[str, Mapping], protocol: str, names: Sequence[str]) -> str:
    columns = [(group, name) for group in GROUPS for name in names]
    corner = protocol if len(names) > 1 else f"{protocol} {names[0]}"
    rows = [[corner, *(group.replace("_", " ") if name == names[0] else "" for group, name in columns)]]
    if len(names) > 1:
        rows.append(["", *(name for _, name in columns)])
    rows += [
        [method, *(cell(summary[protocol][group][name]) for group, name in columns)]
        for method, summary in results.items()
    ]
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines, their columns padded to the same width."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(row, widths)).rstrip() for row in rows)


def cell(values: Sequence[float | None], short: bool = True) -> str:
    """The mean over seeds, and with several seeds the sample standard deviation (ddof = 1); "-" for an empty group.

    Args:
      values: one for each seed; None if the group is empty.
      short: the deviation without its leading 0.
    """
    if any(value is None for value in values):
        return "-"
    mean = f"{math.fsum(values) / len(values):.4f}"
    if len(values) == 1:
        return mean
    spread = f"{np.std(values, ddof=1):.4f}"
    return f"{mean}±{spread.removeprefix('0') if short else spread}"  # five short ones fit a terminal

"""Compares a section's rows with their baseline, group by group, and computes intervals for every group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.report import statistics
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.ranking import evaluate, metrics

SEED = 20241209  # of random choices, such as the bootstrap's: the same runs give the same report
LEVEL = 0.05


class Comparison(NamedTuple):
    """One row against its baseline in one group of users, by one metric under one protocol.

    Attributes:
      row, baseline: the two rows.
      group: one of `evaluate.GROUPS`.
      users: number of test targets in the group.
      difference: of the means over seeds and users, row minus baseline.
      relative: the difference divided by the baseline's mean; None if that is 0.
      low, high: 95 % interval of the difference, users drawn with replacement; None without the data.
      relative_low, relative_high: the same for the relative difference, whose two parts are from the same draws; None
        without the data, or if the baseline's mean is 0 in a draw.
      seeds: test over seeds; None if a row has fewer than two seeds.
      paired_t, wilcoxon: tests over users; None without the data.
      p_seeds, p_t, p_wilcoxon: Holm-corrected p values; NaN if there is no test.
    """

    row: Row
    baseline: Row
    group: str
    users: int
    difference: float
    relative: float | None
    low: float | None
    high: float | None
    relative_low: float | None
    relative_high: float | None
    seeds: statistics.Test | None
    paired_t: statistics.Test | None
    wilcoxon: statistics.Test | None
    p_seeds: float = float("nan")
    p_t: float = float("nan")
    p_wilcoxon: float = float("nan")

    @property
    def verdict(self) -> str:
        """ "shown" if the tests over users and over seeds agree after correction, "users" if there is one seed or the
        seeds do not show it, "" if not even the users do."""
        if not (self.p_t < LEVEL and self.p_wilcoxon < LEVEL):  # NaN is below nothing
            return ""
        return "shown" if self.p_seeds < LEVEL else "users"


class Intervals(NamedTuple):
    """Intervals of means.

    Attributes:
      means: {(index of the row, protocol, group, label): (mean, low, high)}, 95 %, users drawn with replacement.
    """

    means: Mapping[tuple[int, str, str, str], tuple[float, float, float]]


def baselines(section: Section, name: str) -> dict[int, int] | None:
    """{index of a row: index of the row it is compared with}; None if no row has this name.

    If `name` is a method, each row is compared with that method on the same backbone, in the variant that shares most
    settings with the row. If it is the name of a row, on the page or in the table of tests, or of a run's folder, all
    rows are compared with that row.
    """
    methods = {row.method for row in section.rows}
    called = [
        i
        for i, row in enumerate(section.rows)
        if name in (section.label(row), section.title(row), f"{row.backbone} {row.system}", *_folders(row))
    ]
    if name not in methods:
        return {i: called[0] for i in range(len(section.rows)) if i != called[0]} if called else None
    found = {}
    for i, row in enumerate(section.rows):
        same = [j for j, other in enumerate(section.rows) if (other.method, other.backbone) == (name, row.backbone)]
        if row.method == name:  # an ablation: against the whole method
            same = [j for j in same if not section.rows[j].variant and j != i]
        if same:
            found[i] = max(same, key=lambda j: (_shared(row, section.rows[j]), -len(section.rows[j].variant)))
    return found


def usual(section: Section) -> dict[int, int] | None:
    """The default baselines: the plain backbone; if there is none, for each variant its method without variations."""
    if (found := baselines(section, "none")) is not None:
        return found
    rows = section.rows
    of_methods = [baselines(section, method) or {} for method in dict.fromkeys(row.method for row in rows)]
    return {i: j for of in of_methods for i, j in of.items() if rows[i].method == rows[j].method} or None


def _folders(row: Row) -> set[str]:
    return {text for run in row.runs for text in (str(run.folder), run.folder.name)}


def _shared(a: Row, b: Row) -> int:
    return sum(a.settings[key] == b.settings.get(key) for key in a.settings)


def no_baseline(sections: Sequence[Section], name: str) -> InputError:
    """The error for a baseline that no section has."""
    labels = [section.label(row) for section in sections for row in section.rows]
    methods = [row.method for section in sections for row in section.rows]
    known = list(dict.fromkeys([*methods, *labels]))
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    return InputError(f"--baseline={name}: no run has this name; expected one of: {', '.join(known[:8])}{more}")


def masks(
    corpus: Corpus, users_E: np.ndarray, stops_E: np.ndarray, tail: groups.Tail = groups.TRAINING
) -> dict[str, Any]:
    """{group: bool (E,)}: which test targets of a run are in each group, see `data.groups.members`.

    Args:
      corpus: the interactions.
      users_E: ids of the targets' users.
      stops_E: how many of the user's interactions come before each target.
      tail: the definition of head and tail.
    """
    longest = int(corpus.lengths_U.max()) + 1
    everything = corpus.targets["test"].rows_E * longest + corpus.targets["test"].stops_E
    places = np.searchsorted(everything, (users_E - 1) * longest + stops_E)

    def cut(node):
        return {name: cut(child) for name, child in node.items()} if isinstance(node, Mapping) else node[places]

    return cut(groups.members(corpus, "test", tail))


def compare(
    section: Section, against: Mapping[int, int], members: Mapping[str, Any] | None, metric: str, resamples: int
) -> dict[str, list[Comparison]]:
    """{protocol: comparisons}, by row and then group, with Holm's correction over all comparisons of a protocol.

    Args:
      section: the rows.
      against: see `baselines`.
      members: see `masks`; None without the data: then there are only tests over seeds, and over all users.
      metric: to compare by.
      resamples: of the bootstrap.
    """
    found = {}
    for protocol in metrics.PROTOCOLS:
        per_user = {i: section.rows[i].per_user(protocol, metric) for i in {*against, *against.values()}}
        drawn: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        pairs = [(i, j) for i, j in against.items()]
        bases = list(dict.fromkeys(against.values()))
        for group in evaluate.GROUPS:
            mask = _mask(members, group, len(section.users_E))
            if mask is not None and mask.any() and pairs:
                each = [per_user[i] - per_user[j] for i, j in pairs] + [per_user[j] for j in bases]
                means = statistics.bootstrap_means(np.stack(each)[:, mask], section.users_E[mask], resamples, SEED)
                drawn[group] = means[: len(pairs)], means[len(pairs) :][[bases.index(j) for _, j in pairs]]
        made = [
            one(section, i, j, protocol, metric, group, per_user, members, [of[k] for of in drawn.get(group, ())])
            for k, (i, j) in enumerate(pairs)
            for group in evaluate.GROUPS
        ]
        found[protocol] = corrected([one for one in made if one is not None])
    return found


def _mask(members: Mapping[str, Any] | None, group: str, count: int) -> np.ndarray | None:
    if group == "overall":
        return np.ones(count, bool)
    return None if members is None else members[group]


def one(
    section: Section,
    i: int,
    j: int,
    protocol: str,
    metric: str,
    group: str,
    per_user: Mapping[int, np.ndarray],
    members: Mapping[str, Any] | None,
    drawn: Sequence[np.ndarray] = (),
) -> Comparison | None:
    """Row i against row j, not corrected yet; None if one of them has no number for the group.

    Args:
      per_user: {index of a row: its `Row.per_user` for this protocol and metric}, at least of the two rows.
      drawn: the means of the difference and of the baseline over the same draws of users; () without the data.
    """
    row, other = section.rows[i], section.rows[j]
    a, b = row.values(protocol, metric, group), other.values(protocol, metric, group)
    if None in a or None in b:
        return None
    users = row.values(protocol, "count", group)[0]
    difference, base = float(np.mean(a) - np.mean(b)), float(np.mean(b))
    seeds = statistics.over_seeds(dict(zip(row.seeds, a)), dict(zip(other.seeds, b)))
    low = high = relative_low = relative_high = paired = signed = None
    mask = _mask(members, group, len(section.users_E))
    if drawn:
        low, high = statistics.interval(drawn[0])
        if drawn[1].all():
            relative_low, relative_high = statistics.interval(drawn[0] / drawn[1])
    if mask is not None:
        sums, counts = statistics.by_user(np.stack([per_user[i], per_user[j]])[:, mask], section.users_E[mask])
        paired, signed = statistics.over_users(*(sums / counts))
    relative = difference / base if base else None
    spread = low, high, relative_low, relative_high
    return Comparison(row, other, group, users, difference, relative, *spread, seeds, paired, signed)


def corrected(made: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction over all of them, separately for each kind of test."""
    p = {
        name: statistics.holm([test.p if (test := getattr(one, name)) else np.nan for one in made])
        for name in ("seeds", "paired_t", "wilcoxon")
    }
    return [
        one._replace(p_seeds=s, p_t=t, p_wilcoxon=w)
        for one, s, t, w in zip(made, p["seeds"], p["paired_t"], p["wilcoxon"])
    ]


def intervals(section: Section, members: Mapping[str, Any] | None, metric: str, resamples: int) -> Intervals:
    """Intervals of every row's mean, in the five groups and in every group by user length and item popularity."""
    if members is None:
        return Intervals({})
    found = {}
    wanted = [(group, "", members[group]) for group in evaluate.GROUPS]
    wanted += [
        (group, label, mask) for group in ("user_length", "item_popularity") for label, mask in members[group].items()
    ]
    values = {p: np.stack([row.per_user(p, metric) for row in section.rows]) for p in metrics.PROTOCOLS}
    stacked = np.concatenate(list(values.values()))
    for group, label, mask in wanted:
        if not mask.any():
            continue
        cut = stacked[:, mask]
        drawn = statistics.bootstrap_means(cut, section.users_E[mask], resamples, SEED)
        for k, (protocol, i) in enumerate((p, i) for p in values for i in range(len(section.rows))):
            found[i, protocol, group, label] = (float(cut[k].mean()), *statistics.interval(drawn[k]))
    return Intervals(found)

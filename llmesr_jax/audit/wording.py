"""An audit as text for a terminal, and as rows for a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from llmesr_jax.audit.findings import Audit, percent

_BAR = 30  # characters of the longest bar
_UNKNOWN = "unknown: the data have no times"


def describe(audit: Audit) -> str:
    """The facts, a line for each, both histograms, and the warnings."""
    shown = list(rows(audit))
    width = max(len(name) for name, _ in shown)
    lines = [f"{name:<{width}}  {value}" for name, value in shown]
    for key, title in (("user_length", "users by interactions"), ("item_popularity", "items by interactions")):
        lines += ["", title, *_bars(audit.facts[key])]
    lines.append("")
    for one in audit.warnings:
        lines += textwrap.wrap(f"warning ({one.code}): {one.text}", 80, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines if audit.warnings else [*lines, "no warnings"])


def rows(audit: Audit) -> Iterator[tuple[str, str]]:
    """(name, value) of each fact, in words."""
    f = audit.facts
    c, r, o, t, g = f["counts"], f["repeats"], f["order"], f["ties"], f["groups"]
    yield "users, items", f"{c['users']:,}, {c['items']:,}"
    yield "interactions", f"{c['interactions']:,}; {c['mean_length']:.2f} per user; sparsity {_sparsity(c['sparsity'])}"
    yield "times", _times(f)
    yield "exact duplicates", _UNKNOWN if t is None else f"{r['exact_duplicates']:,} (user, item and time)"
    yield (
        "repeated targets",
        f"{percent(r['valid_share'])} of validation, {percent(r['test_share'])} of test targets are in their own input",
    )
    if t is None:
        yield "equal times", _UNKNOWN
    else:
        of_targets = (
            ""
            if t["target_same_time_share"] is None
            else (
                f"; validation and test item: {percent(t['target_same_time_share'])} of users, same day "
                f"{percent(t['target_same_day_share'])}"
            )
        )
        yield "equal times", f"{'none known' if t['share'] is None else percent(t['share'])} of neighbours{of_targets}"
    yield f"ids ascend ({o['ids']})", _ascending(o)
    if o["ties"]:
        yield "  within equal times", _share(o["ties"])
    p = o["item_pairs"]
    yield "item pairs", f"{p['pairs']:,} are neighbours for several users, {p['agreeing']:,} always in one order"
    n = f["targets"]
    yield "split", f"{n['split'].replace('_', ' ')}; {n['test']:,} test targets of {c['test_users']:,} users"
    yield "never trained", f"{n['never_trained']:,} test targets ({percent(n['never_trained_share'])})"
    yield (
        "head and tail",
        f"{g['head_items']:,} and {g['tail_items']:,} items, {g['head_users']:,} and {g['tail_users']:,} users; head "
        f"items have {percent(g['head_item_share'])} of training interactions",
    )
    x = f["texts"]
    yield (
        "texts",
        "none"
        if x is None
        else f"{x['different']:,} different; items without a text: {x['items_without_text']:,}; items that share theirs: "
        f"{x['items_sharing']:,}",
    )
    for kind, v in f["vectors"].items():
        if v is not None:
            yield f"{kind[:-1]} vectors", f"{v['file']}: {v['zero']:,} of zeros, {v['identical']:,} equal to another"


def _sparsity(share: float) -> str:
    percents = 100 * share
    return f"{percents:.2f} %" if percents < 99.99 else f"{percents:.4f} %"


def _times(f) -> str:
    times = f["times"]
    if times is None or times["first"] is None:
        return "unknown"
    known = "" if times["known"] == 1 else f"; known for {percent(times['known'])}"
    return f"{times['first']} to {times['last']}{', whole days' if times['whole_days'] else ''}{known}"


def _ascending(o) -> str:
    text = _share(o["neighbours"])
    lags = [
        f"{lag} positions apart {percent(share)}"
        for lag, share in o["lags"].items()
        if lag != "1" and share is not None
    ]
    text += f"; {', '.join(lags)}" if lags else ""
    return text + ("; without first appearances, in whose order ids were given" if o["by_appearance"] else "")


def _share(share) -> str:
    if not share["pairs"]:
        return "no pairs"
    return f"{percent(share['share'])} of {share['pairs']:,} neighbours (chance: 50 %; z = {share['z']:.1f})"


def _bars(histogram) -> list[str]:
    if not histogram:
        return []
    top = max(bar["count"] for bar in histogram)
    labels = [label(bar) for bar in histogram]
    width = max(map(len, labels))
    return [
        f"  {name:>{width}}  {bar['count']:>11,}  {'#' * round(_BAR * bar['count'] / top)}".rstrip()
        for name, bar in zip(labels, histogram)
    ]


def label(bar) -> str:
    """The name of a bar of a histogram: `5-9`, `3` or `100,000+`."""
    if bar["high"] is None:
        return f"{bar['low']:,}+"
    return f"{bar['low']:,}" + ("" if bar["low"] == bar["high"] else f"-{bar['high']:,}")

"""Text tables of the finer groups, by user length and by item popularity, and of the metrics of all lists together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmesr_jax.ranking import metrics
from llmesr_jax.ranking.evaluate import align, cell

_NESTED = ("user_length", "item_popularity")


def table(
    results: Mapping[str, Mapping],
    protocol: str,
    names: Sequence[str] = ("H@10", "N@10"),
    width: int = 80,
) -> str:
    """A row for each group that has targets, with their number; a column for each method and metric.

    Args:
      results: {method: stacked summary of a split, see `evaluate.stack`}, all of the same data.
      protocol: which to show.
      names: metrics to show, side by side if that fits into `width`, else one table under the other.
      width: characters.
    """
    text = _groups(results, protocol, names)
    if len(names) > 1 and max(map(len, text.splitlines())) > width:
        text = "\n\n".join(_groups(results, protocol, [name]) for name in names)
    for metric, module in metrics.lists().items():
        found = {method: of[protocol][metric] for method, of in results.items() if metric in of[protocol]}
        if found:
            lines = [[method, *(cell(of[name]) for name in module.SHOWN)] for method, of in found.items()]
            text += "\n\n" + align([["", *module.SHOWN], *lines])
    return text


def _groups(results: Mapping[str, Mapping], protocol: str, names: Sequence[str]) -> str:
    of_methods = {method: summary[protocol] for method, summary in results.items()}
    first = next(iter(of_methods.values()))
    rows = [[protocol, "", "targets", *(f"{method} {name}" for method in results for name in names)]]
    for group in _NESTED:
        labels = [label for label, summary in first[group].items() if summary["count"][0]]
        for i, label in enumerate(labels):
            values = [cell(of[group][label][name]) for of in of_methods.values() for name in names]
            rows.append(["" if i else group.replace("_", " "), label, str(first[group][label]["count"][0]), *values])
    return align(rows)

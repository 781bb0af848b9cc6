"""What `launch.prepare` prints at its end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from llmesr_jax.core import commands
from llmesr_jax.data import known
from llmesr_jax.data.prepare import Outcome
from llmesr_jax.data.staging import counted
from llmesr_jax.data.tally import Counts


def describe(outcome: Outcome, embed: str = "", audit: str = "", train: str = "") -> str:
    """The counts as a table, their comparison with the papers, the audit, and the next command.

    Args:
      outcome: of `prepare.prepare`.
      embed: the next command if there are texts to embed; "" for the default command.
      audit: of the data, as text; "" for none.
      train: flags that launch.train needs for these data, each after a blank.
    """
    p, m = outcome.plan, outcome.manifest
    rows = _rows([Counts(**step) for step in m["steps"]])
    rows += [("result", *(f"{m['counts'][key]:,}" for key in rows[0][1:]))]
    lines = []
    if m["papers"]:
        papers = m["papers"]["papers"]
        rows.append(("the papers", *(f"{papers[key]:,}" if key in papers else "-" for key in rows[0][1:])))
        missed = [f"{key} {value:+,}" for key, value in m["papers"]["difference"].items() if value]
        lines.append(
            "the counts match the papers'" if not missed else f"the counts differ from the papers': {', '.join(missed)}"
        )
    if span := m.get("times"):  # older manifests have none
        lines.append(f"from {span['first']} to {span['last']}")
        if span["last"] < "1990" and hasattr(p.options, "time_unit") and not p.options.time_format:
            lines[-1] += (
                f"; is --time_unit={p.options.time_unit} right? a date needs dashes (2019-12-31) or --time_format"
            )
    if found := m["item_records"]:
        have = [f"{n:,} {'has' if n == 1 else 'have'}" for n in (found["with_record"], found["without_title"])]
        lines.append(f"items: {have[0]} a record, {have[1]} no title")
        if (
            found["with_record"]
            and found["without_title"] == m["counts"]["items"]
            and hasattr(p.options, "title_column")
        ):
            lines[-1] += "; set --title_column to the column of the titles, and prepare again with --overwrite"
    if bad := m["malformed_lines"]["count"]:
        lines.append("1 malformed line was left out" if bad == 1 else f"{bad:,} malformed lines were left out")
    if count := m.get("exact_duplicates"):
        what = (
            "exact duplicate (same user, item and time)" if count == 1 else "exact duplicates (same user, item, time)"
        )
        kept = m["rule"]["exact_duplicates"] == "keep"
        papers = ", as the papers' counts include them" if m["papers"] else ""
        lines.append(
            f"{count:,} {what}: kept{papers}; drop them with --exact_duplicates=drop"
            if kept
            else f"{count:,} {what}: dropped; keep them with --exact_duplicates=keep"
        )
    for what, count in m.get("dropped", {}).items():
        lines.append(f"{counted(count, what)}: left out")
    lines += m.get("notes", [])
    if absent := m.get("absent"):
        lines.append(
            f"no {absent}, so items have no texts; if you have this file, put it into --raw_dir and prepare again with "
            "--overwrite"
        )
    if outcome.before:
        added = {key: m["counts"][key] - outcome.before.get(key, 0) for key in rows[0][1:]}
        more = (f"{n:+,} {key.removesuffix('s') if abs(n) == 1 else key}" for key, n in added.items())
        lines.append(f"appended: {', '.join(more)}; users and items keep their ids")
    if outcome.kept:
        lines.append(f"the previous content is in {outcome.kept}")
    lines += ["", audit, ""] if audit else []
    state = "written" if outcome.fresh else "up to date, nothing was written"
    step = "embed" if found else "train --method=none"
    step = f"{commands.line(step)} {data_flags(p.settings.dataset, p.out)}{'' if found else train}"
    lines.append(f"{p.out}: {state}; next: {embed if found and embed else step}")
    return "\n".join([_aligned(rows), *lines])


def data_flags(dataset: str, folder: Path) -> str:
    """The flags with which a command reads a prepared folder."""
    where = "" if known.is_default(dataset, folder) else " " + shlex.quote(f"--data_dir={folder}")
    return f"--dataset={dataset}{where}"


def table(counts: Sequence[Counts]) -> str:
    """The counts after each step."""
    return _aligned(_rows(counts))


def _rows(counts: Sequence[Counts]) -> list[tuple[str, ...]]:
    return [("", *Counts._fields[1:]), *((step, *(f"{count:,}" for count in of_step)) for step, *of_step in counts)]


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = ("  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:])) for row in rows)
    return "\n".join(f"{row[0]:<{widths[0]}}  {of_row}" for row, of_row in zip(rows, cells))

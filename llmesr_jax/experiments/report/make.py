"""From run folders to tables, tests, figures and one page."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging
from tqdm import tqdm

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups
from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.report import chapter as chapter_lib
from llmesr_jax.experiments.report import (
    collect,
    compare,
    page,
    rows,
    small_tables,
    tables,
)
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.settings import Options
from llmesr_jax.ranking import metrics

PAGE = "report.html"
LISTED = "report-files.txt"  # the files of a report, so that the next report can delete those that it does not replace
# Only files with such names are deleted, whatever the list contains.
_OURS = re.compile(
    r"[^/\\]+-((full|sampled|lists|views|sets)\.(md|csv|tex)|(groups|tests|improvements)\.csv)|figures/[^/\\]+\.svg"
)


def make(folders: Sequence[str], out: str, options: Options) -> str:
    """Writes the report of all runs in and below `folders` into `out`; returns the text to print: tables, page's path.

    Files: report.html; for each data set <name>-<protocol>.md, .csv and .tex, <name>-groups.csv, -tests.csv and
    -improvements.csv, <name>-lists and <name>-views as .md and .tex; data-sets.md and .tex; figures/*.svg; and
    report-files.txt with their names. Each file is written completely or not at all, the page after the others. The
    same runs give the same bytes. Files of an earlier report that this one does not make are deleted.

    Args:
      folders: of runs, or folders that contain some.
      out: a folder; "" for report/ in the first of `folders`.
      options: the content of the report.
    Raises:
      InputError: no runs, unreadable ones, an unknown baseline, or a folder that cannot be written to.
    """
    target = Path(out) if out else Path(folders[0]) / "report"
    found = rows.sections(collect.read_all(collect.find(folders)))
    name = options.baseline or "none"
    if options.baseline and not any(compare.baselines(section, name) is not None for section in found):
        raise compare.no_baseline(found, name)
    if existing := next((p for p in (target, *target.parents) if p.exists() and not p.is_dir()), None):
        raise InputError(f"{existing}: is a file; expected a folder for the report; choose another --out")
    if not drawing.installed():
        logging.warning("the report will have no figures, as matplotlib is not installed; run pip install matplotlib")
    _check_ours(found, options.ours)
    chapters = _chapters(found, name, options)
    texts = {file: text for one in chapters for file, text in _files(one).items()}
    texts |= small_tables.data_sets(chapters)
    texts[PAGE] = page.page(
        chapters, shlex.join(["python", "-m", "launch.report", *map(str, folders), *_flags(options)])
    )
    _write(target, texts)
    printed = [
        f"{one.section.name}\n" * (len(chapters) > 1 or one.section.tail != groups.TRAINING)
        + tables.text(one.section, protocol)
        for one in chapters
        for protocol in metrics.PROTOCOLS
    ]
    told = ["\n".join(lines) for one in chapters if (lines := rows.failures(one.section))]
    told += [_tested(one) for one in chapters if one.comparisons]
    return "\n\n".join([*printed, *told, f"{target / PAGE}: the page; tables and figures are beside it"])


def _flags(options: Options) -> list[str]:
    """The flags that make these options, except --out."""
    usual = Options()
    told = [f"--data_dir={folder}" for folder in options.data_dir]
    for name in ("baseline", "ours", "metric", "resamples", "users", "items", "tail", "tail_user", "tail_item"):
        if (value := getattr(options, name)) != getattr(usual, name):
            told.append(f"--{name}={value}")
    return told


def _write(target: Path, texts: Mapping[str, str]) -> None:
    """Writes the files, and deletes those that an earlier report listed and this one does not have."""
    listed = target / LISTED
    before = listed.read_text(errors="replace").splitlines() if listed.is_file() else []
    stale = [name for name in before if name not in texts and _OURS.fullmatch(name)]
    target.mkdir(parents=True, exist_ok=True)
    # Until all is written, the list has old and new files, so that after an interrupt the next report deletes both.
    files.write_text(listed, "".join(f"{name}\n" for name in [*texts, *stale]))
    for name in stale:
        (target / name).unlink(missing_ok=True)
    for name, text in texts.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_text(target / name, text)
    files.write_text(listed, "".join(f"{name}\n" for name in texts))


def _check_ours(found: Sequence[rows.Section], ours: str) -> None:
    known = list(dict.fromkeys(row.method for section in found for row in section.rows))
    if ours and ours not in known:
        raise InputError(f"--ours={ours}: no run has this method; expected one of: {', '.join(known)}")


def _chapters(found: Sequence[rows.Section], baseline: str, options: Options) -> list[Chapter]:
    chapters = []
    with tqdm(unit="step", leave=False, disable=None if sys.stderr.isatty() else True) as bar:
        for section in found:
            for step, made in chapter_lib.steps(section, options):
                bar.set_description(f"{section.name}: {step}")
                bar.update()
            chapters.append(made)
            if made.against is None:
                logging.warning(
                    "%s: no run has method %s, so nothing is tested; choose another --baseline", section.name, baseline
                )
    return chapters


def _files(one: Chapter) -> dict[str, str]:
    slug, files = one.section.slug, {}
    for protocol in metrics.PROTOCOLS:
        improved = one.improved.get(protocol)
        files[f"{slug}-{protocol}.md"] = tables.markdown(one.section, protocol, improved)
        files[f"{slug}-{protocol}.csv"] = tables.paper_csv(one.section, protocol)
        files[f"{slug}-{protocol}.tex"] = tables.latex(one.section, protocol, improved)
    files[f"{slug}-groups.csv"] = tables.groups_csv(one.section, one.intervals, one.metric)
    if one.comparisons:
        files[f"{slug}-tests.csv"] = tables.tests_csv(one.comparisons, one.metric)
    if any(one.improved.values()):
        files[f"{slug}-improvements.csv"] = tables.improvements_csv(one.improved)
    files |= small_tables.files(one)
    for figure in one.figures:
        for panel in figure.panels:
            files[f"figures/{panel.name}.svg"] = panel.standalone()
    return files


def _tested(one: Chapter) -> str:
    """The number of significant comparisons, for the terminal."""
    lines = []
    for protocol, made in one.comparisons.items():
        counts = {kind: sum(c.verdict == kind for c in made) for kind in ("shown", "users", "")}
        lines.append(
            f"{protocol} {one.metric} against {one.baseline_name}, {len(made)} comparisons: {counts['shown']} "
            f"significant over users and seeds, {counts['users']} over users only, {counts['']} not (p < .05, "
            "two-sided, Holm)"
        )
    return "\n".join(lines)

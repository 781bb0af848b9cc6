"""Groups runs into the rows of tables: one row per system, with its seeds from any number of folders.

Runs on other interactions, or ranked in another way, are in separate tables, because their numbers cannot be compared.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from llmesr_jax.data import groups, splits
from llmesr_jax.experiments.report import collect, names
from llmesr_jax.experiments.report.collect import Run
from llmesr_jax.models import methods
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.training import config as config_lib

_RANKING = ("train.seen_items", "train.eval_users")  # settings that change the test itself
_NOT_NAMES = {"seeds", "dataset", "method", "backbone", "preset", *_RANKING}


class Row(NamedTuple):
    """One system: a method on a backbone with its settings.

    Attributes:
      method, backbone: names.
      variant: what distinguishes it from other rows of the same method and backbone; "" if nothing does.
      settings: every setting that decides its numbers, except the seeds.
      runs: the runs that it consists of.
      places: {seed: (run, index of the seed in it)}, seeds ascending.
    """

    method: str
    backbone: str
    variant: str
    settings: Mapping[str, Any]
    runs: tuple[Run, ...]
    places: Mapping[int, tuple[Run, int]]

    @property
    def system(self) -> str:
        """Method and variant, as in the commands; a system has the same colour in all figures."""
        return f"{self.method} {self.variant}".strip()

    @property
    def title(self) -> str:
        """Method and variant, by the papers' names."""
        return f"{names.method(self.method)} {self.variant}".strip()

    @property
    def cut(self) -> bool:
        """Whether the limit of epochs ended the training of a seed before its patience did."""
        patience = self.settings["train.patience"]
        return any(run.cut and run.epochs - run.best_epoch[i] < patience for run, i in self.places.values())

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(self.places)

    def values(self, protocol: str, metric: str, *group: str) -> list[float | None]:
        """The metric's mean over a group of users, one number per seed; None for a group without users."""
        found = []
        for run, place in self.places.values():
            node = run.results[protocol]
            for name in group:
                node = node[name]
            found.append(node[metric][place])
        return found

    def per_user(self, protocol: str, metric: str) -> np.ndarray:
        """float64 (E,): the metric of each test user, averaged over the seeds."""
        each = [
            metrics.from_ranks(*run.ranks[protocol][seed])[metric].astype(np.float64)
            for seed, (run, _) in self.places.items()
        ]
        return np.mean(each, axis=0)


class Section(NamedTuple):
    """Rows that may be compared: the same interactions, test users and way of ranking.

    Attributes:
      name: of the data set, and what else distinguishes the section from others.
      slug: the same for names of files.
      rows: by backbone, then method, `none` first, then variants.
      users_E: ids of the test users, one for each target.
      interactions: digest of the data and their split.
      stops_E: how many of the user's interactions come before each target; None if the target is the last one.
      split: how the interactions were split, in words.
      seen: whether seen items are hidden, see `train.seen_items`.
      tail: which users and items are tail.
    """

    name: str
    slug: str
    rows: tuple[Row, ...]
    users_E: np.ndarray
    interactions: str
    stops_E: np.ndarray | None = None
    split: str = splits.LEAVE_ONE_OUT
    seen: str = "hidden"
    tail: groups.Tail = groups.TRAINING

    @property
    def backbones(self) -> tuple[str, ...]:
        """The names of the backbones, in the order of rows."""
        return tuple(dict.fromkeys(row.backbone for row in self.rows))

    def label(self, row: Row) -> str:
        """A unique name of a row, as in the commands."""
        return f"{row.backbone} · {row.system}" if len(self.backbones) > 1 else row.system

    def title(self, row: Row) -> str:
        """A unique name of a row, by the papers' names."""
        return f"{names.backbone(row.backbone)} · {row.title}" if len(self.backbones) > 1 else row.title

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of all rows, ascending."""
        return tuple(sorted({seed for row in self.rows for seed in row.seeds}))


def failures(section: Section) -> list[str]:
    """A line for each seed that failed and is left out of the means."""
    runs = {run.folder: run for row in section.rows for run in row.runs}
    return [
        f"{run.folder}: seed {seed} failed ({what}) and is left out"
        for run in runs.values()
        for seed, what in run.failed.items()
    ]


def sections(runs: Sequence[Run]) -> list[Section]:
    """All runs, in sections and rows; a seed that appears twice counts once, with a warning."""
    apart: dict[tuple, list[Run]] = defaultdict(list)
    for run in runs:
        flat = config_lib.flatten(run.config)
        apart[run.identity.get("interactions", ""), *(flat[key] for key in _RANKING)].append(run)
    datasets = [group[0].config.dataset for group in apart.values()]
    found: list[Section] = []
    for (digest, seen, limit), group in apart.items():
        name = group[0].config.dataset
        if datasets.count(name) > 1:
            told = [f"data {digest[:8]}"]
            told += [group[0].split.replace("_", " ")]
            told += [f"seen items: {seen}"] if seen != "hidden" else []
            told += [f"{limit} test users"] if limit else []
            name += f" ({', '.join(told)})"
        before = sum(one.rows[0].runs[0].config.dataset == group[0].config.dataset for one in found)
        slug = group[0].config.dataset + (f"-{before + 1}" if before else "")
        first = group[0]
        found.append(Section(name, slug, tuple(_rows(group)), first.users_E, digest, first.stops_E, first.split, seen))
    return found


def _rows(runs: Sequence[Run]) -> list[Row]:
    together: dict[str, list[Run]] = defaultdict(list)
    settings: dict[str, dict[str, Any]] = {}
    for run in runs:
        flat = config_lib.flatten(run.config)
        decides = {k: v for k, v in config_lib.decisive(run.config).items() if k not in ("seeds", "dataset")}
        decides |= {key: flat[key] for key in ("train.epochs", "train.patience")}
        decides["start"] = Path(decides["start"]).name  # seeds in several folders start from several folders
        key = json.dumps([decides, run.identity.get("recipe", "")], sort_keys=True)
        together[key].append(run)
        settings[key] = decides
    usual = {key: collect.usual(group[0].config) for key, group in together.items()}
    recipes = {key: group[0].identity.get("recipe", "") for key, group in together.items()}
    variants = _variants(settings, usual, recipes)
    rows = []
    for key, group in together.items():
        places: dict[int, tuple[Run, int]] = {}
        for run in group:
            for place, seed in enumerate(run.seeds):
                if seed in places:
                    logging.warning(
                        "%s: seed %d was also trained in %s with the same settings; only the first counts",
                        run.folder,
                        seed,
                        places[seed][0].folder,
                    )
                places.setdefault(seed, (run, place))
        config = group[0].config
        ordered = {seed: places[seed] for seed in sorted(places)}
        rows.append(Row(config.method, config.backbone, variants[key], settings[key], tuple(group), ordered))
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    return sorted(
        rows, key=lambda row: (backbones.index(row.backbone), names.place(row.method), row.method, _order(row))
    )


def _order(row: Row) -> list[tuple[int, str, float, str]]:
    """A key that sorts the full method first, then the papers' variants, then others by setting and value."""
    if not row.variant:
        return []
    parts = [part.partition("=") for part in row.variant.split(", ")]
    numbers = [float(value) if re.fullmatch(r"[\d.e+-]*\d", value) else 0.0 for *_, value in parts]
    return [(names.variant_place(part[0]), part[0], x, part[2]) for part, x in zip(parts, numbers)]


def _variants(
    settings: Mapping[str, Mapping[str, Any]], usual: Mapping[str, Mapping[str, Any]], recipes: Mapping[str, str]
) -> dict[str, str]:
    """{row: variant's name}: its values of the settings in which rows of the same method and backbone differ."""
    groups = defaultdict(list)
    for key, flat in settings.items():
        groups[flat["method"], flat["backbone"]].append(key)
    named = {}
    for keys in groups.values():
        for preset in {settings[key]["preset"] for key in keys}:
            same = [key for key in keys if settings[key]["preset"] == preset]
            varied = varying([settings[key] for key in same], shared=False)
            for key in same:
                parts = [f"{preset}"] if len({settings[k]["preset"] for k in keys}) > 1 and preset != "paper" else []
                own = [name for name in varied if settings[key].get(name) != usual[key].get(name)]
                named[key] = ", ".join(parts + _parts(settings[key], own))
        for name in set(named[key] for key in keys):
            same = [key for key in keys if named[key] == name]
            for key in same:  # of several names of one data set, each with other usual settings
                more = _parts(settings[key], varying([settings[k] for k in same], shared=False))
                named[key] = ", ".join(filter(None, [name, *more]))
        for key in keys:
            if [named[k] for k in keys].count(named[key]) > 1:  # they differ only in their embeddings
                named[key] = ", ".join(filter(None, [named[key], f"tables {recipes[key][:8]}"]))
    return named


def varying(settings: Sequence[Mapping[str, Any]], shared: bool = True) -> list[str]:
    """The keys of settings that differ, without those that name the system.

    Args:
      settings: of each row.
      shared: only settings that all rows have; else also, for example, those of a loss that only some rows use.
    """
    sets = [set(flat) for flat in settings]
    keys = (set.intersection(*sets) if shared else set.union(*sets)) - _NOT_NAMES
    return sorted(key for key in keys if len({json.dumps(flat.get(key)) for flat in settings}) > 1)


def _parts(flat: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """The names of the values of those of these settings that a row has."""
    own = [key for key in keys if key in flat]
    own.sort(key=lambda key: names.variant_place(names.variant(key, flat[key])))  # stable: else by name
    return [names.variant(key, flat[key]) or f"{short(key)}={flat[key]}" for key in own]


def short(key: str) -> str:
    """A setting's name within the name of a row: its field, if the row already names the plug-in."""
    section, _, field = key.rpartition(".")
    plugin = section in methods.PLUGINS.names() or not section
    return names.SETTINGS.get(key, field if plugin else key)


def differing(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """{setting: {value: rows}} of the settings that differ between rows, which a comparison may depend on.

    They include the sections of backbones and methods, for the rows that use them, and the preset. A setting that several
    methods have by the same name, such as `none.width` and `llmesr.width`, is also compared between them, as
    `<method>.width`; likewise `<backbone>.dropout`.
    """
    keys = sorted({key for row in rows for key in row.settings} - (_NOT_NAMES - {"preset"}))
    found: dict[str, dict[str, list[Row]]] = {}
    for key in keys:
        by_value = _by_value([(row, row.settings[key]) for row in rows if key in row.settings])
        if len(by_value) > 1:
            found[key] = by_value
    for kind in ("backbone", "method"):
        own = [(row, key) for row in rows for key in row.settings if key.startswith(f"{getattr(row, kind)}.")]
        for field in sorted({key.partition(".")[2] for _, key in own}):
            of_field = [(row, key) for row, key in own if key.partition(".")[2] == field]
            by_value = _by_value([(row, row.settings[key]) for row, key in of_field])
            if len(by_value) > 1 and len({key for _, key in of_field}) > 1:
                found[f"<{kind}>.{field}"] = by_value
    return found


def _by_value(values: Sequence[tuple[Row, Any]]) -> dict[str, list[Row]]:
    """{value, as it is shown: rows that have it}."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row, value in values:
        found[_told(value)].append(row)
    return dict(found)


def _told(value: Any) -> str:
    return "(empty)" if value == "" else str(value)


def featured(section: Section, most: int = 12) -> list[Row]:
    """One row per method, without variants if possible, on the backbone with most methods: for lists and pictures."""
    of_backbone = {b: [row for row in section.rows if row.backbone == b] for b in section.backbones}
    rows = max(of_backbone.values(), key=lambda rows: len({row.method for row in rows}))
    chosen: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row.variant != "", len(row.variant))):
        chosen.setdefault(row.method, row)
    return [row for row in rows if chosen[row.method] is row][:most]


def rivals(section: Section) -> list[Row]:
    """The rows among which a best one is named: one per method, or all on a backbone if they are variants of one method."""
    found = featured(section, len(section.rows))
    on_it = [row for row in section.rows if row.backbone == found[0].backbone]
    return on_it if are_variants(on_it) else found


def are_variants(rows: Sequence[Row]) -> bool:
    """Whether there are several rows, all of one method."""
    return len(rows) > 1 and len({row.method for row in rows}) == 1


def cell(values: Sequence[float | None]) -> str:
    """As `evaluate.cell`, with a space around the sign."""
    return evaluate.cell(values, short=False).replace("±", " ± ")

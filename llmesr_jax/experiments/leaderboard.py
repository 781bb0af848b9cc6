"""The leaderboard: one checked JSON file per finished run, and a page that lists them.

    entry = leaderboard.entry(experiment)     # of a finished run, as `launch.train --publish` writes it
    leaderboard.page(leaderboard.read("leaderboard"))

An entry has everything that a reader needs to judge a row and to train it again: every setting that the run uses,
digests of data and tables, seeds, all metrics of all groups, warnings of the audit of the data, time, device and
versions. It has no path.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.audit import audit
from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.training import active_run, provenance
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.experiment import Experiment

FORMAT = 1
FOLDER = "leaderboard"
_PLACES = ("data_dir", "workdir", "start", "loggers", "semantic.cache_dir")  # places that differ between machines
_SHAPE = {
    "format": int,
    "published": str,
    "dataset": str,
    "backbone": str,
    "method": str,
    "preset": str,
    "settings": {str: (str, int, float, bool)},
    "changes": [str],
    "data": {str: str},
    "split": str,
    "warnings": [{"code": str, "text": str}],
    "seeds": [int],
    "failed": {str: str},
    "best_epoch": [int],
    "epochs": int,
    "early_stopped": bool,
    "parameters": int,
    "valid": {str: {str: [float]}},
    "test": {str: dict},
    "seconds": float,
    "device": {"platform": str, "kind": str, "count": int},
    "python": str,
    "versions": {str: (str, type(None))},
    "git": (dict, type(None)),
}
_HEADLINE = ("N@10", "H@10")
_COLUMNS = (  # title, group, metric; `full`
    ("N@10", "overall", "N@10"),
    ("H@10", "overall", "H@10"),
    ("tail item N@10", "tail_item", "N@10"),
    ("head item N@10", "head_item", "N@10"),
    ("tail user N@10", "tail_user", "N@10"),
    ("head user N@10", "head_user", "N@10"),
    ("Coverage@10", "coverage", "Coverage@10"),
)


def entry(experiment: Experiment) -> dict[str, Any]:
    """The entry of a finished run, as JSON values; its settings are those of the results, not those of the command.

    Raises:
      InputError: the run is not finished, its results have no full ranking, or its starts are not recorded.
    """
    folder = Path(experiment.config.workdir)
    results = active_run.finished(experiment.config)
    if results is None:
        raise InputError(
            f"{folder}: is not finished; expected a run with results; run the command that made it again to finish it"
        )
    config = config_lib.from_json(json.dumps(results["config"]), str(folder / "results.json"))
    started = _started(folder / provenance.STARTS_FILE)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    took = {line["epoch"]: line["seconds"] for line in lines}
    plain = config_lib.build(
        flags={key: experiment.config[key] for key in ("dataset", "backbone", "method", "preset", "data_dir")}
    )
    settings, usual = (
        {key: value for key, value in config_lib.used(one).items() if key not in _PLACES} for one in (config, plain)
    )
    of_run = {"seeds", "dataset", "backbone", "method", "preset"}
    changes = [f"{key}={settings[key]}" for key in sorted(settings) if settings[key] != usual.get(key)]
    found = {
        "format": FORMAT,
        "published": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **{key: config[key] for key in ("dataset", "backbone", "method", "preset")},
        "settings": settings,
        "changes": [change for change in changes if change.partition("=")[0] not in of_run],
        "data": experiment.identity(),
        "split": results["split"],
        "warnings": [one._asdict() for one in audit.of_corpus(experiment.corpus).warnings],
        "failed": results.get("failed", {}),
        **{key: results[key] for key in ("seeds", "best_epoch", "epochs", "early_stopped", "parameters")},
        "valid": {
            protocol: {metric: groups["overall"][metric] for metric in _HEADLINE}
            for protocol, groups in results["valid"].items()
        },
        "test": results["test"],
        "seconds": float(sum(took[epoch] for epoch in took if epoch <= results["epochs"])),
        **{key: started[key] for key in ("device", "python", "versions", "git")},
    }
    found = json.loads(json.dumps(found, default=float), parse_float=lambda text: round(float(text), 6))
    check(found, str(folder))
    return found


def _started(path: Path) -> dict[str, Any]:
    """The newest start of a run; a kill may have cut off the last line."""
    for line in reversed(path.read_text(errors="replace").splitlines() if path.exists() else []):
        with contextlib.suppress(ValueError):
            return json.loads(line)
    raise InputError(
        f"{path}: has no record of a start; expected device and versions; delete results.json, and run the same "
        "command again to make both"
    )


def publish(experiment: Experiment, folder: str | Path = FOLDER) -> Path:
    """Writes the entry of a finished run into a folder, replacing an older one of the same run.

    Returns: the file.
    Raises:
      InputError: as `entry`.
    """
    found = entry(experiment)
    of_run = json.dumps([found["settings"], found["data"], found["seeds"]], sort_keys=True)
    name = "-".join(
        [found["dataset"], found["backbone"], found["method"], hashlib.sha256(of_run.encode()).hexdigest()[:8]]
    )
    path = Path(folder, f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, _text(found))
    return path


def _text(found: Mapping[str, Any]) -> str:
    """JSON with one line for each list of plain values."""
    text = json.dumps(found, indent=1)
    return re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m[1]) + "]", text) + "\n"


def read(folder: str | Path = FOLDER) -> dict[str, dict[str, Any]]:
    """{name of the file: entry} of a folder, checked.

    Raises:
      InputError: there is no such folder, or a JSON file in it is not an entry.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; expected one that launch.train --publish writes into")
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        try:
            found[path.name] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read as JSON ({error}); delete it, or publish the run again"
            ) from error
        check(found[path.name], str(path))
    return found


def check(found: Any, where: str) -> None:
    """Raises InputError for the first value of an entry that is missing, unexpected, or of another type.

    Args:
      found: the entry.
      where: its source, named in messages.
    """
    _check(found, _SHAPE, where, "entry")
    if found["format"] != FORMAT:
        raise InputError(f"{where}: format is {found['format']}; expected {FORMAT}; publish the run again")
    if not found["seeds"] or len(found["best_epoch"]) != len(found["seeds"]):
        raise InputError(
            f"{where}: best_epoch has {len(found['best_epoch'])} numbers; expected one for each of the seeds"
        )
    for title, group, metric in _COLUMNS:
        values = found["test"].get("full", {}).get(group, {}).get(metric)
        if not isinstance(values, list) or len(values) != len(found["seeds"]):
            raise InputError(
                f"{where}: test/full/{group}/{metric} ({title}) is {values}; expected a number for each seed"
            )
    for key in found["settings"].keys() & set(_PLACES):
        raise InputError(
            f"{where}: settings have {key}, which is a place on one machine; expected no such setting; remove it"
        )


def _check(value: Any, shape: Any, where: str, name: str) -> None:
    if isinstance(shape, list) and isinstance(value, list):
        for i, one in enumerate(value):
            _check(one, shape[0], where, f"{name}[{i}]")
    elif isinstance(shape, dict) and isinstance(value, dict) and str in shape:
        for key, one in value.items():
            _check(one, shape[str], where, f"{name}.{key}")
    elif isinstance(shape, dict) and isinstance(value, dict):
        if odd := sorted(shape.keys() ^ value.keys()):
            raise InputError(
                f"{where}: {name} {'lacks' if odd[0] in shape else 'has'} {odd[0]}; expected {', '.join(shape)}"
            )
        for key in shape:
            _check(value[key], shape[key], where, f"{name}.{key}")
    else:
        kinds = shape if isinstance(shape, tuple) else (type(shape) if isinstance(shape, (dict, list)) else shape,)
        whole_for_float = float in kinds and type(value) is int
        if not (type(value) in kinds or whole_for_float):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise InputError(f"{where}: {name} is {value!r}; expected {wanted}")


def page(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The page in Markdown: for each data set its warnings, then its runs, the highest N@10 first.

    Args:
      entries: of `read`.
    """
    lines = [
        "# Leaderboard",
        "",
        "`python -m launch.leaderboard` makes this page from the files of `leaderboard/`, one per run, which",
        "`launch.train --publish` writes. Test split, all items ranked (`full`); mean over seeds, with the sample",
        "standard deviation if there are several. A change is a setting that differs from the preset's. Seconds are",
        "those of training and validation on the named device, which may have done other work too.",
        "[Protocol](protocol.md) explains the numbers.",
    ]
    by_data: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for name, one in entries.items():
        by_data.setdefault((one["dataset"], one["data"]["interactions"]), {})[name] = one
    titles = ["method", "backbone", "preset", "changes", "seeds", *(title for title, _, _ in _COLUMNS)]
    titles += ["valid N@10", "parameters", "s", "device", "file"]
    for (dataset, digest), runs in sorted(by_data.items()):
        told = [f"> **Warning ({w['code']}).** {w['text']}" for w in next(iter(runs.values()))["warnings"]]
        lines += [
            "",
            f"## {dataset} ({digest[:8]})",
            "",
            "\n>\n".join(told) or "The audit of the data has no warnings.",
        ]
        lines += ["", f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
        lines += [_row(name, runs[name]) for name in sorted(runs, key=lambda name: -_ndcg(runs[name]))]
    return "\n".join(lines) + "\n"


def _ndcg(one: Mapping[str, Any]) -> float:
    return float(np.mean(one["test"]["full"]["overall"]["N@10"]))


def _row(name: str, one: Mapping[str, Any]) -> str:
    full = one["test"]["full"]
    cells = [one["method"], one["backbone"], one["preset"], ", ".join(f"`{change}`" for change in one["changes"])]
    cells += [", ".join(map(str, one["seeds"])), *(_cell(full[group][metric]) for _, group, metric in _COLUMNS)]
    cells += [_cell(one["valid"].get("full", {}).get("N@10", [])), f"{one['parameters']:,}", f"{one['seconds']:,.0f}"]
    return f"| {' | '.join([*cells, one['device']['kind'], f'`{name}`'])} |"


def _cell(values: Sequence[float | None]) -> str:
    """`.0653 ± .0005`; "" if there is no value."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    text = f"{np.mean(known):.4f}" + (f" ± {np.std(known, ddof=1):.4f}" if len(known) > 1 else "")
    return text.replace("0.", ".")

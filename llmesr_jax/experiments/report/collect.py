"""Reads run folders: settings, data, and results by seed and by user."""

from __future__ import annotations

import datetime
import functools
import json
import shlex
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import splits
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import experiment

_ROUNDING = 1e-9  # largest difference between a mean in results.json and the same mean from ranks.npz


class Run(NamedTuple):
    """One finished run folder.

    Attributes:
      folder: as it was found.
      config: every setting; `train.epochs` and `train.patience` are those of the results.
      identity: digests of its data, see `experiment.Experiment.identity`.
      seeds: trained together, without those that failed.
      results: {protocol: stacked summary of the test split}, see `evaluate.stack`.
      best_epoch: of each seed.
      epochs: number of trained epochs.
      parameters: number of trained numbers of one seed.
      users_E: int64 ids of the test users, one for each target.
      stops_E: int64, how many of the user's interactions come before the target; None in runs of older versions, in
        which the target is the last interaction.
      best_V: {seed: uint8 (V,)}, see `evaluate.best_places`, of the test; empty in runs of older versions.
      split: how the interactions were split, in words.
      ranks: {protocol: {seed: int (2, E)}}, the numbers of candidates scored above the target and equal to it.
      curves: the lines of metrics.jsonl.
      about: {name: text} of what else the folder records: versions, device, command, git.
      date: UTC day of the newest start; of results.json if no start is recorded.
      cut: whether training ended at the limit of epochs, not by early stopping.
      seconds: time of all epochs, including validation, of all seeds together; None if it is not recorded.
      failed: {seed: why its numbers are left out}.
    """

    folder: Path
    config: ConfigDict
    identity: Mapping[str, str]
    seeds: tuple[int, ...]
    results: Mapping[str, Mapping[str, Any]]
    best_epoch: tuple[int, ...]
    epochs: int
    parameters: int
    users_E: np.ndarray
    stops_E: np.ndarray | None
    best_V: Mapping[int, np.ndarray]
    split: str
    ranks: Mapping[str, Mapping[int, np.ndarray]]
    curves: tuple[Mapping[str, Any], ...]
    about: Mapping[str, str]
    date: str
    cut: bool = False
    seconds: float | None = None
    failed: Mapping[str, str] = types.MappingProxyType({})


def find(folders: Sequence[str | Path]) -> list[Path]:
    """The run folders in, and anywhere below, the given ones, each once, in order of path.

    Raises:
      InputError: a folder does not exist, or has no run.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        below = sorted(path.parent for path in folder.rglob(experiment.CONFIG_FILE))
        if not below:
            what = "has no run" if folder.is_dir() else "no such folder"
            raise InputError(f"{folder}: {what}; expected the folder of a run, or of several, made by launch.train")
        for path in below:
            found.setdefault(path.resolve(), path)
        for path in sorted(path.parent for path in folder.rglob("results.json")):
            if not (path / experiment.CONFIG_FILE).exists():
                logging.warning("left out, as there is no %s beside results.json: %s", experiment.CONFIG_FILE, path)
    return [found[path] for path in sorted(found)]


def read_all(folders: Iterable[Path]) -> list[Run]:
    """The finished runs among these folders; a warning names the unfinished ones.

    Raises:
      InputError: a file cannot be read, or no run is finished.
    """
    runs, unfinished = [], []
    for folder in folders:
        runs += [read(folder)] if (folder / "results.json").exists() else []
        unfinished += [] if (folder / "results.json").exists() else [str(folder)]
    if not runs:
        raise InputError(f"{unfinished[0]}: has no results.json yet; finish the training of this run")
    if unfinished:
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        logging.warning("left out, as they are not finished: %s%s", ", ".join(unfinished[:3]), more)
    return runs


def read(folder: Path) -> Run:
    """Reads one run.

    Raises:
      InputError: a file is damaged or missing, or ranks.npz and results.json belong to different parameters.
    """
    config, identity = experiment.read_config(folder)
    path = folder / "results.json"
    try:
        stored = json.loads(path.read_text())
        seeds = tuple(int(seed) for seed in stored["seeds"])
        test = {protocol: stored["test"][protocol] for protocol in metrics.PROTOCOLS}
        for of_groups in test.values():  # older versions left out this group, which is empty
            nobody = {**{metric: [None] * len(seeds) for metric in of_groups["overall"]}, "count": [0] * len(seeds)}
            of_groups["user_length"] = {"0": nobody, **of_groups["user_length"]}
        _check_means(test, len(seeds))
        best, epochs = tuple(map(int, stored["best_epoch"])), int(stored["epochs"])
        parameters = int(stored["parameters"])
        split = str(stored.get("split", splits.LEAVE_ONE_OUT))
        cut = not stored.get("early_stopped", True)
        failed = {str(seed): str(what) for seed, what in stored.get("failed", {}).items()}
        config.train.update({key: stored["config"]["train"][key] for key in ("epochs", "patience")})
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected the results of a run; check the file's permissions"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: is not a run's results ({type(error).__name__}: {error}); delete the file, and run launch.train "
            "again to make it"
        ) from error
    users_E, stops_E, best_V, ranks = _ranks(folder / "ranks.npz", seeds)
    for protocol, of_seed in ranks.items():
        for i, seed in enumerate(seeds):
            mean = float(metrics.from_ranks(*of_seed[seed])["N@10"].mean())
            if abs(mean - test[protocol]["overall"]["N@10"][i]) > _ROUNDING:
                raise InputError(
                    f"{folder}: ranks.npz and results.json belong to different parameters (seed {seed}, {protocol} "
                    f"N@10 {mean:.4f} and {test[protocol]['overall']['N@10'][i]:.4f}); finish the interrupted "
                    "training with the command that made the folder"
                )
    # A run that is continued has another config.json and more lines than those of the results that it had before.
    about, curves = _about(folder), tuple(c for c in _curves(folder / "metrics.jsonl") if c["epoch"] <= epochs)
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    day = about.pop("time", changed.isoformat())[:10]
    return Run(
        folder,
        config,
        identity,
        seeds,
        test,
        best,
        epochs,
        parameters,
        users_E,
        stops_E,
        best_V,
        split,
        ranks,
        curves,
        about,
        day,
        cut,
        _seconds(curves),
        failed,
    )


def _seconds(curves: Sequence[Mapping[str, Any]]) -> float | None:
    """The time of all epochs. Seeds that were trained together share the time of an epoch, which counts once."""
    took = {(line["epoch"], line["seconds"]) for line in curves if isinstance(line.get("seconds"), (int, float))}
    return sum(seconds for _, seconds in took) if took else None


def _check_means(test: Mapping[str, Any], count: int) -> None:
    for of_groups in test.values():
        for group in evaluate.GROUPS:
            for metric in dict.fromkeys(("H@10", "N@10", *of_groups["overall"])):
                if len(of_groups[group][metric]) != count:
                    raise ValueError(f"{group} {metric} has {len(of_groups[group][metric])} numbers for {count} seeds")


def _ranks(
    path: Path, seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray | None, dict[int, np.ndarray], dict[str, dict[int, np.ndarray]]]:
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            users = np.asarray(file["test/users"], np.int64)
            stops = np.asarray(file["test/stops"], np.int64) if "test/stops" in file else None
            if stops is not None and stops.shape != users.shape:
                raise ValueError(f"{len(stops)} places for {len(users)} users")
            places = {s: f"test/best_places/{s}" for s in seeds}
            best = {s: np.asarray(file[name]) for s, name in places.items()} if places[seeds[0]] in file else {}
            ranks = {p: {s: np.asarray(file[f"test/{p}/{s}"]) for s in seeds} for p in metrics.PROTOCOLS}
        if wrong := [a.shape for of in ranks.values() for a in of.values() if a.shape != (2, len(users))]:
            raise ValueError(f"ranks of shape {wrong[0]} for {len(users)} users")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path}: cannot be read ({reason}); delete results.json, and run launch.train again to make both"
        ) from error
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds of errors for a damaged file
        raise InputError(
            f"{path}: is not a run's ranks ({type(error).__name__}: {error}); delete results.json, and run "
            "launch.train again to make both"
        ) from error
    return users, stops, best, ranks


def _curves(path: Path) -> tuple[dict[str, Any], ...]:
    """The lines that can be read; a crash may have cut off the last one, and the file may be missing."""
    found = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"epoch", "seed"} <= record.keys():
            found.append(record)
    return tuple(found)


def _about(folder: Path) -> dict[str, str]:
    """Versions, device, command and git state of the newest complete line of starts.jsonl, as far as recorded."""
    about = {"jax": str(json.loads((folder / experiment.CONFIG_FILE).read_text()).get("jax", ""))}
    path = folder / "starts.jsonl"
    starts = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            starts += [record] if isinstance(record := json.loads(line), dict) else []
        except ValueError:  # torn by a crash
            continue
    for key, value in starts[-1].items() if starts else ():
        if key == "versions" and isinstance(value, dict):
            about |= {name: str(version) for name, version in value.items()}
        elif key == "device" and isinstance(value, dict):
            about["device"] = f"{value.get('count', 1)} x {value.get('kind', value.get('platform'))}"
        elif key == "git" and isinstance(value, dict):
            about["git"] = str(value.get("commit", ""))[:10] + " (changed)" * bool(value.get("dirty"))
        elif key in ("python", "command", "time") and value:
            about[key] = str(value)
    if len(starts) > 1:
        about["starts"] = str(len(starts))
    return {key: value for key, value in about.items() if value and value != "None"}


def command(config: ConfigDict) -> str:
    """A command that trains this configuration: data set, backbone, method and so on, then all other settings."""
    flat = config_lib.flatten(config)
    names = {key: flat[key] for key in ("dataset", "data_dir", "backbone", "method", "preset", "seeds") if flat[key]}
    decides = config_lib.decisive(config) | {key: flat[key] for key in ("train.epochs", "train.patience")}
    implied = usual(config)
    more = {f"config.{k}": v for k, v in decides.items() if k not in names and implied[k] != v}
    return shlex.join(
        ["python", "-m", "launch.train", *(f"--{key}={value}" for key, value in {**names, **more}.items())]
    )


def usual(config: ConfigDict) -> Mapping[str, Any]:
    """{key: value} of every setting as a run's data set, backbone, method and preset imply it."""
    return _implied(config.dataset, config.backbone, config.method, config.preset)


@functools.cache
def _implied(dataset: str, backbone: str, method: str, preset: str) -> Mapping[str, Any]:
    names = {"dataset": dataset, "backbone": backbone, "method": method, "preset": preset}
    try:
        return config_lib.flatten(config_lib.build({}, {**names, "data_dir": "."}))  # so the data need not exist
    except InputError:  # a preset of another version
        return config_lib.flatten(config_lib.default())

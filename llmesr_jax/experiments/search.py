"""A search for good settings with optuna (extra `search`): each trial is a run, and is judged by its validation alone.

The search is stored in optuna.db in its folder. A trial's settings depend only on earlier trials and on its number, so
a killed search continues as if it had not been killed.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.training import active_run, experiment, loop, schema, traced
from llmesr_jax.training import config as config_lib

_STUDY = "search"
Build = Callable[[Mapping[str, Any]], ConfigDict]


class Axis(NamedTuple):
    """The values of a setting: from `low` to `high` (on a logarithmic scale with `log`), or those in `values`."""

    low: float = 0
    high: float = 0
    log: bool = False
    values: tuple[Any, ...] = ()


def space(texts: Sequence[str]) -> dict[str, Axis]:
    """{key: axis} of flags such as `--search=train.learning_rate=1e-4..1e-2:log --search=backbone=sasrec,gru4rec`.

    Raises:
      InputError: an axis is not valid; its key is not a setting; a setting has two axes; or a value is not allowed.
    """
    found: dict[str, Axis] = {}
    for text in texts:
        key, _, values = text.partition("=")
        where = f"--search={text}"
        schema.check_keys([key], "command line", prefix="--search=")
        if key in found:
            raise InputError(f"{where}: {key} already has an axis; put all its values into one flag")
        if match := re.fullmatch(r"(.+)\.\.(.+?)(:log)?", values):
            low, high = (schema.parsed(key, match[i], where) for i in (1, 2))
            if isinstance(low, (bool, str)) or not low < high or (match[3] and low <= 0):
                raise InputError(
                    f"{where}: is not a range; expected low..high, two numbers, low < high; above 0 for :log"
                )
            found[key] = Axis(low, high, bool(match[3]))
        elif values:
            found[key] = Axis(values=tuple(schema.parsed(key, value.strip(), where) for value in values.split(",")))
        else:
            raise InputError(
                f"{where}: is not an axis; expected setting=low..high, setting=low..high:log or setting=value,value"
            )
    return found


def run(build: Build, axes: Mapping[str, Axis], trials: int, *, stop: Stop | None = None) -> str:
    """Runs trials until there are `trials` of them.

    Args:
      build: settings that vary -> the configuration, with the search's folder as workdir.
      axes: of the search.
      trials: total number, including trials of earlier calls.
      stop: as in `loop.train`.
    Returns: a table of all trials, sorted by validation, and the test results of the best one.
    Raises:
      InputError: optuna is not installed; the folder has another search.
      KeyboardInterrupt: `stop` was requested; the trial is saved.
    """
    if importlib.util.find_spec("optuna") is None:
        raise InputError("--search: optuna is not installed; run pip install optuna, or use --grid")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    running, failed = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.FAIL
    folder, study = _study(build, axes)
    distributions = {key: _distribution(axis) for key, axis in axes.items()}
    prepared: dict[str, experiment.Experiment] = {}
    while True:
        begun = [trial for trial in study.get_trials(states=(running,)) if trial.params.keys() == axes.keys()]
        for trial in study.get_trials(states=(running,)):
            if trial.params.keys() != axes.keys():  # killed while its settings were drawn
                study.tell(trial.number, state=failed)
        if begun:
            number, settings = begun[0].number, begun[0].params
        else:
            number = len(study.trials)
            if number >= trials:
                break
            study.sampler = optuna.samplers.TPESampler(seed=zlib.crc32(f"trial {number}".encode()))
            settings = study.ask(distributions).params
        config = build(settings)
        config.workdir = str(folder / f"trial-{number:04d}")
        print(f"\n{config.workdir}: {_spelt(settings)}", flush=True)
        try:
            program = traced.program(config)
            if program not in prepared:
                prepared[program] = experiment.prepare(config)
            results = loop.train(experiment.vary(prepared[program], config), stop=stop)
        except InputError as error:
            print(f"error: {config.workdir}: {error}", file=sys.stderr, flush=True)
            study.tell(number, state=failed)
        else:
            note = active_run.left_out(results)
            if note:  # a mean over the remaining seeds could make an unstable setting look good
                print(f"error: {config.workdir}: {note}; the trial counts as failed", file=sys.stderr, flush=True)
                study.tell(number, state=failed)
            else:
                study.tell(number, _value(config, results))
    return _summary(study, folder, build({key: _any(axis) for key, axis in axes.items()}))


def _study(build: Build, axes: Mapping[str, Axis]):
    """The search's folder, and its study: the existing one, or a new one.

    Raises:
      InputError: the folder is a run's, or has a search over other settings.
    """
    import optuna

    config = build({key: _any(axis) for key, axis in axes.items()})
    folder = Path(config.workdir)
    if (folder / experiment.CONFIG_FILE).exists():
        raise InputError(f"{folder}: is the folder of a run; choose another --workdir for the search")
    fixed = {k: v for k, v in config_lib.flatten(config).items() if k not in config_lib.RESUMABLE and k not in axes}
    books = json.dumps({"axes": axes, "settings": fixed}, sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{(folder / 'optuna.db').absolute()}"
    study = optuna.create_study(storage=storage, study_name=_STUDY, load_if_exists=True, direction="maximize")
    if study.user_attrs.get("books", books) != books:
        raise InputError(f"{folder}: has another search, over other values or settings; choose another --workdir")
    study.set_user_attr("books", books)
    return folder, study


def _any(axis: Axis) -> Any:
    return axis.values[0] if axis.values else axis.low


def _distribution(axis: Axis):
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if axis.values:
        return CategoricalDistribution(axis.values)
    whole = isinstance(axis.low, int) and isinstance(axis.high, int)
    return (IntDistribution if whole else FloatDistribution)(axis.low, axis.high, log=axis.log)


def _value(config: ConfigDict, results: Mapping[str, Any]) -> float:
    """The monitored validation metric of the run, mean over seeds."""
    values = results["valid"][config.train.valid_protocol]["overall"][config.train.monitor]
    return math.fsum(values) / len(values)


def _spelt(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items()
    )


def _summary(study, folder: Path, config: ConfigDict) -> str:
    monitored = f"valid {config.train.valid_protocol} {config.train.monitor}"
    rows = [("trial", monitored, "settings")]
    rows += [
        (f"trial-{t.number:04d}", "failed" if t.value is None else f"{t.value:.4f}", _spelt(t.params))
        for t in sorted(study.trials, key=lambda t: -math.inf if t.value is None else t.value, reverse=True)
    ]
    table = "\n" + evaluate.align(rows)
    if all(trial.value is None for trial in study.trials):
        return table
    best = f"trial-{study.best_trial.number:04d}"
    results = {best: json.loads((folder / best / "results.json").read_text())["test"]}
    return "\n\n".join([table, *(evaluate.results_table(results, protocol) for protocol in metrics.PROTOCOLS)])


def states(build: Build, axes: Mapping[str, Axis]) -> str:
    """One line on the progress of the search. Writes nothing."""
    folder = Path(build({key: _any(axis) for key, axis in axes.items()}).workdir)
    begun = len(list(folder.glob("trial-*/config.json")))
    done = len(list(folder.glob("trial-*/results.json")))
    return f"{folder}: {begun} trials started, {done} with results"

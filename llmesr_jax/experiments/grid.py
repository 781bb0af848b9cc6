"""Grids of runs: axes of settings, from a file or from flags, and their product, one named configuration per cell.

An axis is a setting and its values, {"llmesr.alpha": [0.1, 0.5]}, or named sets of settings,
{"variant": {"full": {}, "wo-sd": {"llmesr.alpha": 0.0}}}. A grid is the product of its axes, the first one outermost.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import schema
from llmesr_jax.training.stages import HERE

Axes = Mapping[str, Sequence[Any] | Mapping[str, Mapping[str, Any]]]
_SPEAK_FOR_THEMSELVES = ("method", "backbone", "dataset", "preset")
_LONGEST_NAME = 120


class Plan(NamedTuple):
    """The plan of a sweep.

    Attributes:
      name: of the file, or of the axes.
      base: {key: value} for all runs.
      grids: the axes of each grid; cells that several grids share are run once.
      varying: {(method, backbone): {key: value}}, like `FOR` of a file of configs/; it overrides `base`.
    """

    name: str
    base: Mapping[str, Any]
    grids: Sequence[Axes]
    varying: Mapping[tuple[str, ...], Mapping[str, Any]] = {}


def known() -> list[str]:
    """The names of the files in configs/sweeps."""
    return sorted(path.stem for path in _folder().glob("[!_]*.py"))


def _folder() -> Path:
    return Path(config_lib.configs_module("sweeps").__path__[0])


def read(name: str) -> Plan:
    """The plan in a file: `GRIDS`, a list of axes, and possibly `BASE` and `FOR`.

    Args:
      name: of a file in configs/sweeps, or the path of your own file.
    Raises:
      InputError: there is no such file, or it is not valid.
    """
    path = Path(name) if name.endswith(".py") else _folder() / f"{name}.py"
    if not path.is_file():
        raise InputError(
            f"--sweep={name}: there is no {path}; expected your own file, or one of {', '.join(known())}"
            f"{did_you_mean(name, known())}"
        )
    try:
        module = config_lib.module_of(path)
        base, grids = dict(getattr(module, "BASE", {})), list(module.GRIDS)
        varying = dict(getattr(module, "FOR", {}))
        grids = [
            {axis: values if isinstance(values, Mapping) else list(values) for axis, values in g.items()} for g in grids
        ]
    except Exception as error:  # a user's file may raise anything
        raise InputError(
            f"{path}: {type(error).__name__}: {error}; expected GRIDS, a list of {{setting: values}}, and optionally "
            "BASE, {setting: value}; see configs/sweeps/ablations.py"
        ) from error
    if not grids or not all(axes and all(len(values) for values in axes.values()) for axes in grids):
        raise InputError(f"{path}: a grid or an axis is empty; expected at least one value of at least one setting")
    for one in (base, *varying.values()):
        schema.checked(one, str(path))
    for axes in grids:
        for axis, values in axes.items():
            sets = list(values.values()) if isinstance(values, Mapping) else [{axis: value} for value in values]
            if odd := [one for one in sets if not isinstance(one, Mapping)]:
                raise InputError(
                    f"{path}: {axis} names {odd[0]!r}; expected settings, as in {{'wo-SD': {{'llmesr.alpha': 0.0}}}}"
                )
            for one in sets:
                schema.checked(one, str(path))
    return Plan(path.stem, base, grids, varying)


def from_flags(texts: Sequence[str]) -> Plan:
    """The plan of flags such as `--grid=llmesr.alpha=0.1,0.5 --grid=method=none,llmesr`: one grid, an axis per flag.

    Raises:
      InputError: a flag is not key=value,value; its key is not a setting; or a setting has two flags.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise InputError(
                f"--grid={text}: is not an axis; expected setting=value,value, as in --grid=llmesr.alpha=0.1,0.5"
            )
        schema.check_keys([key], "command line", prefix="--grid=")
        if key in axes:
            raise InputError(f"--grid={text}: {key} already has an axis; put all its values into one flag")
        axes[key] = [schema.parsed(key, value.strip(), f"--grid={text}") for value in values.split(",")]
    return Plan(",".join(axes), {}, [axes])


def over_data_sets(plan: Plan, datasets: str, folders: str = "") -> tuple[Plan, tuple[str, ...]]:
    """The plan with an outermost axis over several data sets; and the names of the flags that this axis varies.

    Args:
      plan: of the other axes.
      datasets: comma-separated names, the value of `--dataset`; with one name, or none, the plan does not change.
      folders: their folders, the value of `--data_dir`: one for each, or "" for data/<name>.
    Raises:
      InputError: a name appears twice, the number of folders is wrong, or the plan varies the data set itself.
    """
    names = [name.strip() for name in datasets.split(",")]
    if len(names) < 2:
        return plan, ()
    given = [folder.strip() for folder in folders.split(",")] if folders else [""] * len(names)
    if len(set(names)) < len(names) or "" in names:
        raise InputError(f"--dataset={datasets}: a name is empty or appears twice; expected each data set once")
    if len(given) != len(names):
        raise InputError(
            f"--data_dir={folders}: {len(given)} folder{'s' * (len(given) > 1)} for {len(names)} data sets; expected "
            "one for each, in their order, separated by commas, or no --data_dir"
        )
    if any("dataset" in axes for axes in plan.grids):
        raise InputError("--dataset: is set on the command line and varied by the sweep; expected one of the two")
    axis = {name: {"dataset": name, **({"data_dir": folder} if folder else {})} for name, folder in zip(names, given)}
    return plan._replace(grids=[{"dataset": axis, **axes} for axes in plan.grids]), ("dataset", "data_dir")


def cells(plan: Plan, build: Callable[[Mapping[str, Any]], ConfigDict]) -> dict[str, ConfigDict]:
    """{name: configuration} in the order of the grids; a cell that equals an earlier one is left out.

    If the `start` of a cell is "@none", it becomes "@<name>", the name of the cell with method none that otherwise has
    the same settings, except those of the two methods' sections; `placed` replaces it by that cell's folder. Any method
    may be named in this way.

    Args:
      plan: of the sweep.
      build: settings that vary -> the whole configuration, without a workdir.
    Raises:
      InputError: raised by `build`; or two different cells would have the same name; or there is no cell to start from.
    """
    found: dict[str, ConfigDict] = {}
    seen: dict[str, str] = {}
    varied: dict[str, Mapping[str, Any]] = {}
    fields = [axis.rpartition(".")[2] for axis in {axis for axes in plan.grids for axis in axes}]
    for axes in plan.grids:
        for point in _product(axes):
            settings = {key: value for _, chosen in point.values() for key, value in chosen.items()}
            config = build(settings)
            if config.start == HERE + config.method:  # this is the cell that others start from
                config.start = ""
            used = config_lib.used(config)
            identity = json.dumps({key: value for key, value in used.items() if key != "workdir"}, sort_keys=True)
            if identity in seen:
                continue
            name = _name(point, used, fields)
            if not name.strip("."):
                raise InputError(
                    f"the grid has a cell {name!r}, which cannot be a folder's name; name the value differently"
                )
            if name in found:
                raise InputError(f"the grid has two different cells {name!r}; name their values differently")
            seen[identity] = name
            found[name], varied[name] = config, settings
    for name, config in found.items():
        if config.start.startswith(HERE):
            config.start = HERE + _source(name, config.start.removeprefix(HERE), found, varied)
    return found


def placed(cells: Mapping[str, ConfigDict], folder: Callable[[str, ConfigDict], str]) -> dict[str, ConfigDict]:
    """The cells with `workdir` set to `folder(name, config)`, and `start` to the folder of the cell it names."""
    for name, config in cells.items():
        config.workdir = folder(name, config)
    for config in cells.values():
        if config.start.startswith(HERE):
            config.start = cells[config.start.removeprefix(HERE)].workdir
    return dict(cells)


def _source(name: str, method: str, cells: Mapping[str, ConfigDict], varied: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the cell that differs from cell `name` only in its method and in the sections of the two methods."""
    own = {"method", "start", method, cells[name].method}
    common = lambda settings: {k: v for k, v in settings.items() if k.partition(".")[0] not in own}  # noqa: E731
    sources = [
        other
        for other, config in cells.items()
        if config.method == method
        and config.dataset == cells[name].dataset
        and common(varied[other]) == common(varied[name])
    ]
    if len(sources) == 1:
        return sources[0]
    which = (
        f"{len(sources)} of them, {', '.join(sources)}" if sources else f"no such cell; the cells: {', '.join(cells)}"
    )
    raise InputError(
        f"{name}: start={HERE}{method} needs one cell of method {method} that is equal in all else, but there "
        f"{'are ' if sources else 'is '}{which}"
    )


def _product(axes: Axes) -> Iterator[dict[str, tuple[Any, Mapping[str, Any]]]]:
    """{axis: (label, settings)} of each cell; the label of a setting's value is the value."""
    choices = [
        values.items() if isinstance(values, Mapping) else [(value, {axis: value}) for value in values]
        for axis, values in axes.items()
    ]
    for chosen in itertools.product(*choices):
        yield dict(zip(axes, chosen))


def _name(point: Mapping[str, tuple[Any, Mapping[str, Any]]], used: Mapping[str, Any], fields: Sequence[str]) -> str:
    """`sasrec,llmesr,alpha=0.1`: the settings that vary and are used, as the name of a folder."""
    parts = []
    for axis, (label, settings) in point.items():
        if axis == "start":
            parts += [f"from-{Path(used[axis]).name.removeprefix(HERE)}"] if used[axis] else []
        elif axis not in settings or axis in _SPEAK_FOR_THEMSELVES:
            parts.append(str(label))
        elif axis in used:
            field = axis.rpartition(".")[2]
            parts.append(f"{axis if fields.count(field) > 1 else field}={label}")
    name = re.sub(r"[^\w.,=+-]+", "-", ",".join(parts)) or "run"
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}~{len(name)}"

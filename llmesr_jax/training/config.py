"""The configuration of a run: every setting, layered from files and flags, checked, compared and stored.

A `ConfigDict` holds the values, so that ml_collections flags work. `section` turns one part of it into the frozen
dataclass of the code that reads it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import json
import pkgutil
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections.config_dict import placeholder

from llmesr_jax.core import commands
from llmesr_jax.core.config_dict import ConfigDict, Recorded
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean, not_known
from llmesr_jax.models import backbones, methods
from llmesr_jax.training import loggers, schema, surgeries

PRESETS = ("paper", "release", "best")
# A run may be continued with other values of these: they decide where, how long and what is shown, not the results.
RESUMABLE = frozenset(
    "workdir data_dir loggers semantic.cache_dir train.epochs train.patience train.validate_unmonitored train.progress "
    "train.lanes train.interactions train.blocks train.watch_gradients train.mesh".split()
)
_NOT_DATASETS = {"default", "forkme", "faerec", *PRESETS}
# Settings of stored configurations that have another name now.
_RENAMED = {
    "loss.calibration": "gbce.calibration",
    "loss.log_q": "sampled_softmax.log_q",
    "cities.items": "cities.head_items",
}


def describe() -> str:
    """One line of help for each setting."""
    return "\n".join(f"--config.{key} ({k.default!r}): {k.doc}" for key, k in schema.settings().items())


def default() -> ConfigDict:
    """Every setting at its default; later changes are recorded, see `changes`."""
    return _nested({key: k.default for key, k in schema.settings().items()}, Recorded)


def changes(base: ConfigDict) -> dict[str, Any]:
    """{key: value} of the settings that a user's file sets in the config that it returns.

    If the config was made from `default()`: everything that was set, even to the default. In any other ConfigDict:
    everything that it holds; but if it holds every setting, those that differ from the defaults.
    """
    start, flat = flatten(default()), flatten(base)
    if not any(isinstance(part, Recorded) for part in (base, *base.values())) and not start.keys() <= flat.keys():
        return flat
    found = {}
    for key, value in flat.items():
        name, _, field = key.rpartition(".")
        part, whole = (base[name] if name else base), isinstance(base, Recorded) and name in base.given()
        given = field in part.given() if isinstance(part, Recorded) else key not in start or value != start[key]
        if given or whole:
            found[key] = value
    return found


def datasets() -> list[str]:
    """Names of the data sets that have a file in `configs/`."""
    folder = configs().__path__
    return sorted(m.name for m in pkgutil.iter_modules(folder) if m.name not in _NOT_DATASETS and not m.ispkg)


@functools.cache
def configs() -> types.ModuleType:
    """The package of presets and data sets' settings: `llmesr_jax.configs` in a wheel, `configs` in the repository."""
    installed = importlib.util.find_spec("llmesr_jax.configs") is not None
    return importlib.import_module("llmesr_jax.configs" if installed else "configs")


def configs_module(name: str) -> types.ModuleType:
    """A module of `configs`, such as "best" or "sweeps.ablations"."""
    return importlib.import_module(f"{configs().__name__}.{name}")


def module_of(path: Path) -> types.ModuleType:
    """A configuration or sweep file as a module; a file of `configs` keeps its name there, so it can import others."""
    folder = Path(configs().__path__[0]).resolve()
    if path.resolve().is_relative_to(folder):
        return configs_module(".".join(path.resolve().relative_to(folder).with_suffix("").parts))
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec and spec.loader, path  # any file that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(
    overrides: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    base: ConfigDict | None = None,
    defaults: Mapping[str, Any] | None = None,
    varying: Sequence[Mapping[tuple[str, ...], Mapping[str, Any]]] = (),
) -> ConfigDict:
    """The configuration of one run, complete and checked; later entries override earlier ones:

    every setting's default, the data set's file, the preset's file, what `base` sets (`changes`), `defaults`,
    `varying`, `overrides`, `flags`.

    A file of `configs/` has `OVERRIDES` and possibly `FOR`: {(method, backbone): settings for these two}, "*" for any;
    a key may have the data set as a third part. `FOR` overrides `OVERRIDES` of the same file, and its later entries
    override earlier ones. A preset may choose method and backbone.

    Args:
      overrides: {key: value}, as given by `--config.a.b=value`.
      flags: {key: value}, as given by the short flags (`--epochs` is `train.epochs`).
      base: a whole config, as a user's file given with `--config=` returns it.
      defaults: {key: value}, such as those of a sweep.
      varying: mappings like `FOR`, such as that of a user's file; later ones override earlier ones.

    Raises:
      InputError: an unknown key, a value of the wrong type or out of range, an unknown data set, preset, backbone,
        method or logger, or seeds that are not a list of integers.
    """
    start = flatten(default())
    changed = {**({} if base is None else changes(base)), **(defaults or {})}
    last = {**(overrides or {}), **(flags or {})}
    given = schema.checked({**changed, **last}, "config")
    preset = {**start, **given}["preset"]
    start |= {key: value for key, value in _preset(preset).OVERRIDES.items() if key in ("method", "backbone")}
    values = {**start, **given}
    names = values["method"], values["backbone"], values["dataset"]
    for one in varying:
        changed.update(_chosen(one, names))
    given = schema.checked({**changed, **last}, "config")
    values = {**start, **_dataset_overrides(values["dataset"], values["data_dir"], names), **given}
    config = _nested({**values, **_file_overrides(preset, names), **given})
    for name in schema.sections():
        section(config, name)
    seed_list(config)
    backbones.PLUGINS.load(config.backbone)
    methods.PLUGINS.load(config.method)
    for name in config.loggers.split(",") if config.loggers not in ("auto", "none") else ():
        loggers.PLUGINS.load(name.strip())
    return config


def settings(changes: Mapping[str, Any] | None = None, /, **named: Any) -> ConfigDict:
    """The settings of one run, complete and checked, for Python.

    What is not given here comes from the preset's file (`configs/<preset>.py`), else from the data set's file
    (`configs/<dataset>.py`, if there is one), else from the defaults.

        settings(dataset="fashion", preset="best", method="llmesr", train={"epochs": 3}, llmesr={"alpha": 0.05})
        settings({"train.epochs": 3, "llmesr.alpha": 0.05}, dataset="fashion")

    Args:
      changes: {key: value}, keys as on the command line without `--config.`.
      named: a setting outside of sections, such as `dataset`, `method`, `seeds` and `workdir`; or a section, such as
        `train`, with {field: value}. They override `changes`.

    Raises:
      InputError: an unknown name (the message has the nearest known one), or a value of the wrong type or out of range.
    """
    return build({**(changes or {}), **_flat(named)})


def section(config: ConfigDict, name: str) -> Any:
    """The frozen dataclass of one section ("" for `RunConfig`); that of the loss also holds its plug-in's (`own`).

    Raises:
      InputError: a key that the section does not have, or a value that it refuses.
    """
    flat = schema.checked({k: v for k, v in flatten(config).items() if k.rpartition(".")[0] == name}, "config")
    found = schema.sections()[name](**{key.rpartition(".")[2]: value for key, value in flat.items()})
    return dataclasses.replace(found, own=section(config, found.ranking)) if name == "loss" else found


def seed_list(config: ConfigDict) -> tuple[int, ...]:
    """The seeds as integers.

    Raises:
      InputError: one is not an integer with 0 <= seed < 2**31, or appears twice.
    """
    parts = [part.strip() for part in config.seeds.split(",")]
    if not all(re.fullmatch("[0-9]{1,10}", part) and int(part) < 2**31 for part in parts):
        raise InputError(
            f"seeds {config.seeds!r}: are not valid; expected integers from 0 to {2**31 - 1}, as in --seeds=42,43,44"
        )
    if len({int(part) for part in parts}) < len(parts):
        raise InputError(f"seeds {config.seeds!r}: a seed appears twice; expected each seed once")
    return tuple(int(part) for part in parts)


def to_json(config: ConfigDict) -> str:
    """The whole configuration, keys sorted."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def from_json(text: str, where: str = "config") -> ConfigDict:
    """Inverse of `to_json`; settings that the text lacks get their default. `where` names the file in errors.

    Raises:
      InputError: the text is not a configuration, or names a plug-in that is not installed.
    """
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: is not JSON ({error}); expected a config written by training") from error
    if not isinstance(tree, dict):
        raise InputError(f"{where}: found a {type(tree).__name__}; expected an object of settings")
    stored = _of_this_installation({_RENAMED.get(key, key): value for key, value in _flat(tree).items()}, where)
    return _nested({**flatten(default()), **schema.checked(stored, where)})


def _of_this_installation(flat: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings without sections of plug-ins that are no longer installed and were not used.

    Raises:
      InputError: a plug-in that is not installed was used.
    """
    for key, plugins in schema.chosen().items():
        if key in flat and flat[key] not in (schema.AUTO, surgeries.NONE, *plugins.names()):
            kind = f"{where}: {plugins.kind}"
            raise InputError(
                f"{not_known(kind, flat[key], plugins.names())}; install the package that has this plug-in"
            )
    known = schema.sections()
    return {key: value for key, value in flat.items() if key.rpartition(".")[0] in known}


def digest(config: ConfigDict) -> str:
    """16 hex digits that are equal for two runs with equal results (see `decisive`)."""
    text = json.dumps(decisive(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(old: ConfigDict, new: ConfigDict) -> list[str]:
    """`key: old -> new` for the settings that decide the result and differ; empty if `new` may continue `old`.

    Settings in `RESUMABLE` and sections of plug-ins that neither run uses are left out. If both start from a run, the
    folders of these may differ: the digest in config.json says whether it is the same run.
    """
    a, b = decisive(old), decisive(new)
    if a["start"] and b["start"]:
        b["start"] = a["start"]
    return [f"{key}: {a[key]!r} -> {b[key]!r}" for key in sorted(a) if key in b and a[key] != b[key]]


def flatten(config: ConfigDict) -> dict[str, Any]:
    """{key: value} of a config."""
    return _flat(config.to_dict())


def used(config: ConfigDict) -> dict[str, Any]:
    """{key: value} without the sections of plug-ins (such as backbones and losses) that the run does not use."""
    flat, unused = flatten(config), set()
    for key, plugins in schema.chosen().items():
        name = schema.DEFAULT if flat.get(key) == schema.AUTO else flat.get(key)
        unused |= set(plugins.names()) - {name}
    return {key: value for key, value in flat.items() if key.partition(".")[0] not in unused}


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    out = {}
    for name, value in tree.items():
        out.update(
            {f"{name}.{field}": v for field, v in value.items()} if isinstance(value, Mapping) else {name: value}
        )
    return out


def _nested(flat: Mapping[str, Any], kind: type[ConfigDict] = ConfigDict) -> ConfigDict:
    tree: dict[str, Any] = {name: {} for name in schema.sections() if name}
    known = schema.settings()
    for key, value in flat.items():
        name, _, field = key.rpartition(".")
        if value is None:  # keeps the type, so that a flag can set it
            value = placeholder(next(t for t in typing.get_args(known[key].kind) if t is not types.NoneType))
        (tree[name] if name else tree)[field] = value
    return kind({name: kind(part) if isinstance(part, dict) else part for name, part in tree.items()}).lock()


def decisive(config: ConfigDict) -> dict[str, Any]:
    """{key: value} of the settings that decide the result."""
    return {key: value for key, value in used(config).items() if key not in RESUMABLE}


def _chosen(varying: Mapping[tuple[str, ...], Mapping[str, Any]], names: tuple[str, str, str]) -> dict[str, Any]:
    """The settings of a mapping such as `FOR` for a method, a backbone and a data set."""
    found = {}
    for wanted, more in varying.items():
        if all(want in ("*", is_) for want, is_ in zip(wanted, names)):
            found.update(more)
    return found


def _file_overrides(name: str, names: tuple[str, str, str]) -> dict[str, Any]:
    module = configs_module(name)
    overrides = {**module.OVERRIDES, **_chosen(getattr(module, "FOR", {}), names)}
    return schema.checked(overrides, f"configs/{name}.py")


def _preset(name: str) -> types.ModuleType:
    if name not in PRESETS:
        raise InputError(not_known("preset", name, PRESETS))
    return configs_module(name)


def _dataset_overrides(name: str, data_dir: str, names: tuple[str, str, str]) -> dict[str, Any]:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"data set {name!r}: is not a valid name; expected letters, digits, '_', '-' and '.'")
    if name in datasets():
        return _file_overrides(name, names)
    if data_dir or Path("data", name).is_dir():
        return {}
    known, made = ", ".join(datasets()), sorted(path.name for path in Path("data").glob("*/"))
    raise InputError(
        f"data set {name!r} is not known; expected one of: {known}; or a data set that {commands.line('prepare')} "
        f"made, or any name with --data_dir=<folder>{did_you_mean(name, [*made, *datasets()])}"
    )

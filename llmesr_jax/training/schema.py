"""All settings, found in the `Config` dataclasses, with default, type and help.

A setting is a field made by `knobs.knob`. Its key is `section.field`, or `field` for those of `RunConfig`. The sections
are "" (`RunConfig`), data, semantic, loss, train, and one for each plug-in of `chosen`, by its name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from llmesr_jax.core import knobs
from llmesr_jax.core.config_dict import ConfigDict
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.core.plugins import Plugins
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models import backbones, methods
from llmesr_jax.ranking import metrics
from llmesr_jax.training import optimizers, surgeries

AUTO, DEFAULT = "auto", "adam"  # of train.optimizer


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The settings outside any section: data set, model, seeds and folders."""

    dataset: str = knob("demo", "data set: demo needs no files; with data_dir any name is accepted")
    data_dir: str = knob("", "folder of the data set; empty: data/<dataset>")
    method: str = knob("llmesr", "method; several, separated by commas, are trained in turn, each in its own subfolder")
    backbone: str = knob("sasrec", "sequence encoder")
    preset: str = knob(
        "paper",
        "paper: as in the papers; release: as in the authors' code; best: the strongest settings (docs/best.md)",
    )
    precision: str = knob(
        "float32",
        "precision of activations and matrix products; parameters, softmax and losses stay float32",
        choices=("float32", "bfloat16"),
    )
    seeds: str = knob("42", "comma-separated seeds, trained together")
    start: str = knob(
        "",
        "folder of a run from whose best parameters this run starts, if they match; "
        "@none: the run of method none in the same command",
    )
    loggers: str = knob(
        "auto",
        "loggers of each epoch's numbers besides metrics.jsonl: auto (tensorboard if it is installed), none, or names "
        "separated by commas: tensorboard, wandb, mlflow, or a logger of an installed package",
    )
    workdir: str = knob(
        "",
        "folder of the run (with several methods: each gets a subfolder); "
        "empty: runs/<dataset>/<backbone>-<preset>/<method>",
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length and speed of training, and what is monitored."""

    epochs: int = knob(200, "maximum number of epochs", least=1)
    patience: int = knob(20, "a seed stops after this many epochs without a better validation", least=1)
    monitor: str = knob("N@10", "validation metric that decides which epoch is best", choices=metrics.names)
    monitor_after: int = knob(
        0, "number of epochs before the first monitored one; until then the newest epoch counts as best", least=0
    )
    validate_unmonitored: bool = knob(
        True, "also validate in epochs that are not monitored yet, for the learning curve; False saves the time"
    )
    optimizer: str = knob(
        AUTO,
        "optimiser, with its own section of settings; auto: the method's own if it has one, else adam",
        choices=lambda: (AUTO, *optimizers.PLUGINS.names()),
    )
    surgery: str = knob(
        surgeries.NONE,
        "how the gradients of the loss's terms are combined: none (their sum), or a file of training/surgeries, with "
        "its own section of settings",
        choices=lambda: (surgeries.NONE, *surgeries.PLUGINS.names()),
    )
    learning_rate: float = knob(1e-3, "learning rate of the optimiser", least=1e-12, traced=True)
    average: float = knob(
        0.0,
        "validate and test a running average of the parameters, of which each step keeps this share; 0: no average",
        least=0,
        most=0.99999,
    )
    valid_protocol: str = knob(
        "sampled",
        "protocol of the validation that is monitored for early stopping: sampled or full",
        choices=metrics.PROTOCOLS,
    )
    seen_items: str = knob(
        "hidden",
        "items of the input in the full ranking: hidden; zero: they get the score 0, and the mask token is "
        "ranked (as in FAERec's release); shown: they are ranked like all others, for data where users return to items",
        choices=("hidden", "zero", "shown"),
    )
    table_updates: str = knob(
        "dense",
        "updates of item tables: dense, or touched: only rows of items in the step's sequences, targets and negatives "
        "(lazy Adam)",
        choices=("dense", "touched"),
    )
    eval_users: int = knob(0, "number of users in validation and test, drawn once for all seeds; 0: all", least=0)
    watch_gradients: int = knob(
        0,
        "interval in steps at which norms, cosines and conflicts of the terms' gradients, their noise scale, and the "
        "share of tail items in the update are measured, for metrics.jsonl and the loggers (means of an epoch); 0: "
        "never",
        least=0,
    )
    window: int = knob(50, "training steps between updates of the progress bar and checks for an interrupt", least=1)
    interactions: str = knob(
        "auto",
        "where training interactions are: resident: on the device; streamed: on the host, for data that a device "
        "cannot hold, and those of the next steps are sent ahead; auto: streamed if they would take more than a "
        "quarter of the device's memory",
        choices=("auto", "resident", "streamed"),
    )
    lanes: int = knob(
        0,
        "maximum lanes (seeds, and runs that launch.sweep trains together) under one vmap; 0: one on a CPU, all "
        "elsewhere",
        least=0,
    )
    blocks: str = knob(
        "auto",
        "work whose amount only the device knows, such as that for a step's distinct items: counted: in blocks, as "
        "many as are needed; whole: the largest possible amount, at once; auto: counted on a CPU, whole elsewhere",
        choices=("auto", "counted", "whole"),
    )
    mesh: str = knob(
        "",
        "devices: data:4 divides each batch and all arrays over items or users among four, lane:3 divides seeds among "
        "three, lane:3,data:4 does both on twelve; auto: all devices; empty: one (docs/scale.md)",
    )
    progress: bool = knob(True, "show a progress bar if the output is a terminal")


def of_a_run() -> dict[str, knobs.Setting]:
    """The settings of a run, its data and its training, by key: those that can be read without importing JAX."""
    light = {"": RunConfig, "data": DataConfig, "train": TrainConfig}
    return {
        f"{name}.{field}".lstrip("."): found
        for name, cls in light.items()
        for field, found in knobs.fields(cls).items()
    }


def chosen() -> dict[str, Plugins[Any]]:
    """{setting: the plug-ins among which it chooses}; each plug-in has a section of settings, by its name."""
    from llmesr_jax.models import (
        losses,  # imports jax, which a command's --help does not wait for
    )

    found = (backbones.PLUGINS, methods.PLUGINS, losses.PLUGINS, optimizers.PLUGINS, surgeries.PLUGINS)
    return dict(zip(("backbone", "method", "loss.ranking", "train.optimizer", "train.surgery"), found))


@functools.cache
def sections() -> dict[str, type]:
    """{section: Config dataclass}; the section "" is `RunConfig`.

    Raises:
      InputError: a plug-in is incomplete, has the name of another section, or a name that no setting can have.
    """
    from llmesr_jax.models.losses import LossConfig
    from llmesr_jax.semantic.sources import SemanticConfig

    found = {"": RunConfig, "data": DataConfig, "semantic": SemanticConfig, "loss": LossConfig, "train": TrainConfig}
    for plugins in chosen().values():
        for name, module in plugins.modules().items():
            if name in found or name in RunConfig.__annotations__:
                raise InputError(
                    f"{plugins.kind} {name!r} has the name of another section of settings; rename the {plugins.kind}"
                )
            for taken in [name, *module.Config.__annotations__]:
                if hasattr(ConfigDict, taken):  # config.cities.items would be a method
                    raise InputError(
                        f"{plugins.kind} {name!r}: {taken!r} cannot be the name of a setting or plug-in, because "
                        "configurations have a method of this name; rename it"
                    )
            found[name] = module.Config
    return found


def settings() -> dict[str, knobs.Setting]:
    """All settings by key, in the order of `sections`."""
    return {
        f"{name}.{field}" if name else field: setting
        for name, cls in sections().items()
        for field, setting in knobs.fields(cls).items()
    }


def check_keys(keys: Iterable[str], where: str, prefix: str = "") -> None:
    """Raises InputError for the first key that is not a setting, see `knobs.check_names`."""
    knobs.check_names(keys, settings(), where, prefix)


def checked(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The flat configuration with values of the settings' types; `where` names its source in messages.

    Raises:
      InputError: see `knobs.checked`.
    """
    return knobs.checked(flat, settings(), where)


def parsed(key: str, text: str, where: str) -> Any:
    """The value of a setting, from a text on the command line; `where` names its source in messages.

    Raises:
      InputError: the text is not a value of the setting.
    """
    setting = settings()[key]
    texts = {"true": True, "false": False, "none": None}
    for read in (int, float, lambda t: texts[t.lower()], str):
        try:
            value = knobs.coerced(read(text), setting.kind)
        except (TypeError, ValueError, KeyError):
            continue
        knobs.check_value(where, key, value, setting)
        return value
    raise InputError(
        f"{where}: {key} is {text!r}, expected {getattr(setting.kind, '__name__', setting.kind)}; see --helpfull"
    )

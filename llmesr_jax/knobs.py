"""Every setting there is: found in the `Config` dataclasses, with its default, type and line of help.

A setting is a field made by `contracts.knob`; its key is `section.field`, or `field` for those of `RunConfig`. The
sections are those of `SECTIONS` and one for each backbone and method, by its file name.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from llmesr_jax import contracts
from llmesr_jax.contracts import knob
from llmesr_jax.errors import InputError

SECTIONS = {
    "data": "llmesr_jax.data.batches:DataConfig",
    "semantic": "llmesr_jax.semantic.sources:SemanticConfig",
    "loss": "llmesr_jax.losses:LossConfig",
    "train": "llmesr_jax.train:TrainConfig",
}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The settings outside any section: what is run, on what, where."""

    dataset: str = knob("demo", "data set: demo needs no file; any name is accepted with a data_dir")
    data_dir: str = knob("", "folder of the data set; empty means data/<dataset>")
    method: str = knob("llmesr", "method; a comma-separated list trains each in turn into its own subfolder")
    backbone: str = knob("sasrec", "sequence encoder")
    preset: str = knob(
        "paper", "paper: as the papers say; release: as the authors' code computes; best: the strongest (docs/best.md)"
    )
    precision: str = knob(
        "float32",
        "of activations and matrix products; parameters, softmax and losses stay float32",
        choices=("float32", "bfloat16"),
    )
    seeds: str = knob("42", "comma-separated seeds, trained together")
    loggers: str = knob(
        "auto",
        "where each epoch's numbers go besides metrics.jsonl: auto (tensorboard if it is installed), none, or names "
        "with commas between them (tensorboard, wandb, mlflow)",
    )
    workdir: str = knob(
        "",
        "folder of the run (with several methods: each gets a subfolder); "
        "empty means runs/<dataset>/<backbone>-<preset>/<method>",
    )


class Setting(NamedTuple):
    """A setting: its default, its type as annotated, its line of help, the values it may have (None: any), and
    whether compiled code takes it as an argument (`contracts.knob`)."""

    default: Any
    kind: Any
    doc: str
    choices: Any = None
    least: float | None = None
    most: float | None = None
    traced: bool = False


@functools.cache
def schema() -> dict[str, type]:
    """{section: Config dataclass}; the section "" is `RunConfig`."""
    found = {"": RunConfig}
    for name, path in SECTIONS.items():
        module, _, cls = path.partition(":")
        found[name] = getattr(importlib.import_module(module), cls)
    for kind in ("backbone", "method"):
        for name in contracts.names(kind):
            if name in found or name in RunConfig.__annotations__:
                raise ValueError(f"{kind} {name!r} has the name of another section; rename its file")
            found[name] = contracts.load(kind, name).Config
    return found


def settings() -> dict[str, Setting]:
    """All settings by key, in the order of `schema`."""
    return {
        f"{name}.{field}" if name else field: setting
        for name, cls in schema().items()
        for field, setting in fields(cls).items()
    }


@functools.cache
def fields(cls: type) -> dict[str, Setting]:
    """The settings of one `Config`, by field."""
    hints = typing.get_type_hints(cls)
    return {f.name: Setting(f.default, hints[f.name], **f.metadata) for f in dataclasses.fields(cls)}


def check_keys(keys: Iterable[str], where: str, prefix: str = "") -> None:
    """Raises InputError for the first key that is no setting, naming the closest ones; `prefix` stands before keys."""
    known = list(settings())
    for key in keys:
        if key not in known:
            field = key.rpartition(".")[2]
            near = [k for k in known if k.rpartition(".")[2] == field or k.startswith(f"{key}.")]
            near = near or difflib.get_close_matches(key, known, n=3)
            hint = f"did you mean {', '.join(prefix + k for k in near[:3])}?" if near else "--helpfull lists them all"
            raise InputError(f"{where}: {prefix}{key} is not a setting; {hint}")


def checked(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`flat` with each value as its annotated type (an int may stand for a float, a list for a tuple).

    Raises:
      InputError: an unknown key, a value of another type, or one that is not allowed.
    """
    check_keys(flat, where)
    known, out = settings(), {}
    for key, value in flat.items():
        try:
            out[key] = _coerced(value, known[key].kind)
        except TypeError as error:
            raise InputError(f"{where}: {key} is {value!r}, wanted {error}; see --helpfull") from error
        check_value(where, key, out[key], known[key])
    return out


def parsed(key: str, text: str, where: str) -> Any:
    """The value of a setting that a text on the command line stands for.

    Raises:
      InputError: it stands for none that the setting may have.
    """
    setting = settings()[key]
    texts = {"true": True, "false": False, "none": None}
    for read in (int, float, lambda t: texts[t.lower()], str):
        try:
            value = _coerced(read(text), setting.kind)
        except (TypeError, ValueError, KeyError):
            continue
        check_value(where, key, value, setting)
        return value
    raise InputError(
        f"{where}: {key} is {text!r}, wanted {getattr(setting.kind, '__name__', setting.kind)}; see --helpfull"
    )


def check_value(where: str, key: str, value: Any, setting: Setting) -> None:
    """Raises InputError if the value is none of the choices, or out of bounds."""
    if setting.choices is not None and value not in setting.choices:
        wanted = ", ".join(map(str, setting.choices))
        raise InputError(f"{where}: {key}={value!r} is not known; wanted one of: {wanted}")
    if setting.least is not None and value < setting.least:
        raise InputError(f"{where}: {key}={value}; wanted at least {setting.least}")
    if setting.most is not None and value > setting.most:
        raise InputError(f"{where}: {key}={value}; wanted at most {setting.most}")


def _coerced(value: Any, kind: Any) -> Any:
    """`value` as `kind`; the TypeError's text is what was wanted."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        if value in options:
            return value
        raise TypeError(f"one of {', '.join(map(repr, options))}")
    if origin in (typing.Union, types.UnionType):
        for option in options:
            try:
                return _coerced(value, option)
            except TypeError:
                continue
        raise TypeError(str(kind))
    if origin is tuple:
        variadic = options[-1] is Ellipsis
        if not isinstance(value, (list, tuple)) or not (variadic or len(value) == len(options)):
            raise TypeError(str(kind))
        return tuple(_coerced(v, options[0] if variadic else options[i]) for i, v in enumerate(value))
    if kind is float and type(value) in (int, float):
        if math.isfinite(value):
            return float(value)
        raise TypeError("a finite number")
    if type(value) is kind:
        return value
    raise TypeError(kind.__name__)

"""Settings: fields of `Config` dataclasses that know their line of help and the values that they may have."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llmesr_jax.core.errors import InputError


def knob(
    default: Any,
    doc: str,
    *,
    choices: Sequence[Any] | None = None,
    least: float | None = None,
    most: float | None = None,
    traced: bool = False,
) -> Any:
    """A field of a `Config`: its line of help, which `--helpfull` prints, and the values that it may have.

    `training.schema.checked` refuses others with one clear line, before anything is read or written.

    A `traced` field is a number that only terms of the loss, or the optimiser, calculate with. In training it is an
    array, so one compiled program serves all its values (`training.traced`): no `if` may ask for it. 0 may mean that
    something is switched off, and stays a plain 0.
    """
    limits = {"choices": choices, "least": least, "most": most}
    return dataclasses.field(default=default, metadata={"doc": doc, **limits, "traced": traced})


class Setting(NamedTuple):
    """A setting: its default, its type as annotated, its line of help, the values it may have (None: any), and
    whether compiled code takes it as an argument (`knobs.knob`)."""

    default: Any
    kind: Any
    doc: str
    choices: Any = None
    least: float | None = None
    most: float | None = None
    traced: bool = False


@functools.cache
def fields(cls: type) -> dict[str, Setting]:
    """The settings of one `Config`, by field."""
    hints = typing.get_type_hints(cls)
    return {f.name: Setting(f.default, hints[f.name], **f.metadata) for f in dataclasses.fields(cls)}


def check_value(where: str, key: str, value: Any, setting: Setting) -> None:
    """Raises InputError if the value is none of the choices, or out of bounds."""
    if setting.choices is not None and value not in setting.choices:
        wanted = ", ".join(map(str, setting.choices))
        raise InputError(f"{where}: {key}={value!r} is not known; wanted one of: {wanted}")
    if setting.least is not None and value < setting.least:
        raise InputError(f"{where}: {key}={value}; wanted at least {setting.least}")
    if setting.most is not None and value > setting.most:
        raise InputError(f"{where}: {key}={value}; wanted at most {setting.most}")


def coerced(value: Any, kind: Any) -> Any:
    """`value` as `kind`; the TypeError's text is what was wanted."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        if value in options:
            return value
        raise TypeError(f"one of {', '.join(map(repr, options))}")
    if origin in (typing.Union, types.UnionType):
        for option in options:
            try:
                return coerced(value, option)
            except TypeError:
                continue
        raise TypeError(str(kind))
    if origin is tuple:
        variadic = options[-1] is Ellipsis
        if not isinstance(value, (list, tuple)) or not (variadic or len(value) == len(options)):
            raise TypeError(str(kind))
        return tuple(coerced(v, options[0] if variadic else options[i]) for i, v in enumerate(value))
    if kind is float and type(value) in (int, float):
        if math.isfinite(value):
            return float(value)
        raise TypeError("a finite number")
    if type(value) is kind:
        return value
    raise TypeError(kind.__name__)


def fixed(section: Any) -> Any:
    """The `Config` of a section with nan for each traced number that is not 0.

    For code that runs outside the loss, where such a number is no argument: what reads it gets nan, and not the number
    of another run of the same program. What is no dataclass, but stands in for one, stays as it is.
    """
    if not dataclasses.is_dataclass(section):
        return section
    traced = [f.name for f in dataclasses.fields(section) if f.metadata.get("traced") and getattr(section, f.name)]
    return dataclasses.replace(section, **dict.fromkeys(traced, math.nan))


def put(section: Any, name: str, values: Mapping[str, Any]) -> Any:
    """The `Config` of a section with its fields among `values`, {key: number or array}, replaced."""
    fields = {field.name for field in dataclasses.fields(section)}
    own = {key.rpartition(".")[2]: value for key, value in values.items() if key.rpartition(".")[0] == name}
    if not own:
        return section
    return dataclasses.replace(section, **{field: value for field, value in own.items() if field in fields})

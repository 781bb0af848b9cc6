"""Settings: fields of `Config` dataclasses, each with a line of help and the allowed values.

`knob` makes one, `fields` reads them, `checked` checks values, `made` builds the dataclass from checked values.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean, nearest

C = TypeVar("C")


def knob(
    default: Any,
    doc: str,
    *,
    choices: Sequence[Any] | Callable[[], Sequence[Any]] | None = None,
    least: float | None = None,
    most: float | None = None,
    traced: bool = False,
) -> Any:
    """A field of a `Config`: a setting with its default, a line of help, and the allowed values.

    `checked` refuses other values with one line, before anything is read or written.

    Args:
      default: of the type that the field is annotated with.
      doc: the line of help, which `--helpfull` prints.
      choices: the allowed values; or a function that returns them, as the names of plug-ins are looked up at their
        first use. None: any value.
      least, most: the bounds of a number, both included; None: no bound.
      traced: for a number that only the terms of the loss, or the optimiser, compute with. In training it is an array,
        so one compiled program serves all its values (`training.traced`), and no `if` may depend on it. The value 0
        stays a plain 0, so an `if` may test for it where 0 switches a part off.
    """
    limits = {"choices": choices, "least": least, "most": most}
    return dataclasses.field(default=default, metadata={"doc": doc, **limits, "traced": traced})


class Setting(NamedTuple):
    """A setting: its default, its type as annotated, its line of help, the allowed values (None: any), and
    whether compiled code takes it as an argument (`knobs.knob`)."""

    default: Any
    kind: Any
    doc: str
    choices: Any = None
    least: float | None = None
    most: float | None = None
    traced: bool = False

    @property
    def allowed(self) -> Sequence[Any] | None:
        """The choices; None for any value."""
        found: Any = self.choices() if callable(self.choices) else self.choices
        return found


@functools.cache
def fields(cls: type) -> dict[str, Setting]:
    """{field: setting} of one `Config`; fields that were not made by `knob` are left out."""
    hints = typing.get_type_hints(cls)
    known = [field for field in dataclasses.fields(cls) if "doc" in field.metadata]
    return {field.name: Setting(field.default, hints[field.name], **field.metadata) for field in known}


def problem(cls: Any) -> str:
    """Why a class cannot be a `Config`: the end of a message that begins with its name; "" if it can."""
    if not dataclasses.is_dataclass(cls) or not getattr(cls, "__dataclass_params__").frozen:
        return "is not a frozen dataclass; expected @dataclasses.dataclass(frozen=True)"
    plain = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
    return f"has a field without default, {plain[0]}; expected knob(default, help)" if plain else ""


def checked(values: Mapping[str, Any], known: Mapping[str, Setting], where: str) -> dict[str, Any]:
    """The values, converted to the types of their settings.

    Args:
      values: {name: value}.
      known: {name: setting}.
      where: what messages begin with, such as the file's name.
    Raises:
      InputError: an unknown name, a value of another type, or one that is not allowed.
    """
    check_names(values, known, where)
    found = {}
    for name, value in values.items():
        try:
            found[name] = coerced(value, known[name].kind)
        except TypeError as error:
            raise InputError(f"{where}: {name} is {value!r}, expected {error}; see --helpfull") from error
        check_value(where, name, found[name], known[name])
    return found


def made(cls: type[C], values: Mapping[str, Any], where: str) -> C:
    """A `Config` from {field: value}; other fields have their defaults.

    Raises:
      InputError: see `checked`.
    """
    return cls(**checked(values, fields(cls), where))


def check_names(names: Iterable[str], known: Iterable[str], where: str, prefix: str = "") -> None:
    """Raises InputError for the first name that is not a setting, with the nearest names; `prefix` comes before each.

    Names may have a section, as in `train.epochs`; then the nearest field of any section is also suggested.
    """
    known = list(known)
    for name in names:
        if name not in known:
            field = name.rpartition(".")[2]
            inside = [k for k in known if k.startswith(f"{name}.")]
            same = [k for k in known if k.rpartition(".")[2] == field]
            near = inside or nearest(name, same) or same or _within(name, known) or nearest(name, known)
            hint = f"did you mean {', '.join(prefix + k for k in near[:3])}?" if near else "--helpfull lists them all"
            raise InputError(f"{where}: {prefix}{name} is not a setting; {hint}")


def _within(name: str, known: Iterable[str]) -> list[str]:
    """The setting most similar to `name` in the section of `name`."""
    section, dot, field = name.rpartition(".")
    fields = [key.rpartition(".")[2] for key in known if dot and key.rpartition(".")[0] == section]
    return [f"{section}.{one}" for one in nearest(field, fields)]


def check_value(where: str, key: str, value: Any, setting: Setting) -> None:
    """Raises InputError if the value is not one of the choices, or out of bounds."""
    allowed = setting.allowed
    if allowed is not None and value not in allowed:
        wanted = ", ".join(map(str, allowed))
        near = did_you_mean(str(value), map(str, allowed))
        raise InputError(f"{where}: {key}={value!r} is not known; expected one of: {wanted}{near}")
    if setting.least is not None and value < setting.least:
        raise InputError(f"{where}: {key}={value}; expected at least {setting.least}")
    if setting.most is not None and value > setting.most:
        raise InputError(f"{where}: {key}={value}; expected at most {setting.most}")


def coerced(value: Any, kind: Any) -> Any:
    """The value in the annotated type `kind`: an int becomes a float, a list a tuple.

    Raises:
      TypeError: it has another type; the text says what was expected.
    """
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


class Unread:
    """Replaces a traced number where compiled code has no argument for the number; computing with it raises."""

    def __init__(self, name: str):
        self._name = name

    def _refuse(self, *_: Any) -> Any:
        raise InputError(
            f"setting {self._name} is traced, so only the terms of the loss and the optimiser know its number, and "
            "other code computed with it; declare the setting without traced=True"
        )

    __float__ = __int__ = __index__ = __array__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __pow__ = __rpow__ = __neg__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse

    def __bool__(self) -> bool:
        return True  # `fixed` replaces only numbers that are not 0

    def __repr__(self) -> str:
        return "traced"


def fixed(section: Any) -> Any:
    """The `Config` of a section with an `Unread` for each traced number that is not 0.

    For code that runs outside the loss, where such a number is not an argument: computing with it raises an error.
    Otherwise the code would use the number of whichever run compiled the program. A section that is not a dataclass (a
    test's stand-in) is returned as it is.
    """
    if not dataclasses.is_dataclass(type(section)):
        return section
    traced = [name for name, one in fields(type(section)).items() if one.traced and getattr(section, name)]
    return dataclasses.replace(section, **{name: Unread(name) for name in traced})


def put(section: Any, name: str, values: Mapping[str, Any]) -> Any:
    """The `Config` of a section, with other values for some of its fields.

    Args:
      section: the `Config`.
      name: of the section, such as "llmesr".
      values: {"section.field": number or array}, of any section; those of other sections are ignored.
    """
    fields = {field.name for field in dataclasses.fields(section)}
    own = {key.rpartition(".")[2]: value for key, value in values.items() if key.rpartition(".")[0] == name}
    if not own:
        return section
    return dataclasses.replace(section, **{field: value for field, value in own.items() if field in fields})

"""Makes flags of settings, for every command, and reads the settings from the flags."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from absl import flags

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean

flags.disclaim_key_flags()  # so that `--help` of a command lists these flags as its own
FLAGS = flags.FLAGS
C = TypeVar("C")
Settings = type | Mapping[str, knobs.Setting]


def define(settings: Settings, *, optional: bool = False, repeated: Collection[str] = ()) -> None:
    """Defines a flag for each setting, by its name, with its help, default, choices and bounds.

    Args:
      settings: a `Config` dataclass, or {name: setting}.
      optional: every flag defaults to None, which means "not set".
      repeated: settings with several values, set by repeating the flag, not by commas.
    """
    for name, setting in _of(settings).items():
        default = None if optional else setting.default
        (kind,) = [k for k in _kinds(setting.kind) if k is not types.NoneType]
        bounds: dict[str, Any] = {"lower_bound": setting.least, "upper_bound": setting.most}
        if setting.allowed is not None:
            flags.DEFINE(_Choice(setting.allowed), name, default, setting.doc)
        elif kind is bool:
            flags.DEFINE_boolean(name, default, setting.doc)
        elif kind is int:
            flags.DEFINE_integer(name, default, setting.doc, **bounds)
        elif kind is float:
            flags.DEFINE_float(name, default, setting.doc, **bounds)
        elif kind is str:
            flags.DEFINE_string(name, default, setting.doc)
        elif name in repeated:
            flags.DEFINE_multi_string(name, None if optional else list(setting.default), setting.doc)
        else:
            flags.DEFINE_list(name, None if optional else [str(one) for one in setting.default], setting.doc)


def given(settings: Settings) -> dict[str, Any]:
    """{name: value} of the settings whose flags are not None.

    Raises:
      InputError: a list of whole numbers has another value.
    """
    found = {}
    for name, setting in _of(settings).items():
        if (value := FLAGS[name].value) is not None:
            found[name] = _numbers(name, value, setting) if setting.kind == tuple[int, ...] else value
    return found


def made(cls: type[C]) -> C:
    """The `Config` from the command line.

    Raises:
      InputError: see `given` and `knobs.made`.
    """
    return knobs.made(cls, given(cls), "command line")


def shared(configs: Mapping[str, type], taken: Collection[str] = ()) -> dict[str, knobs.Setting]:
    """{name: setting} of several plug-ins' settings: equal names share a flag, whose help shows every default.

    Args:
      configs: {plug-in: its dataclass}.
      taken: names of the command's own flags.
    Raises:
      InputError: a name is taken, or is a number in one plug-in and a text in another.
    """
    users: dict[str, dict[str, knobs.Setting]] = {}
    for plugin, cls in configs.items():
        for name, setting in knobs.fields(cls).items():
            if name in taken:
                raise InputError(
                    f"{plugin}: the setting {name} has the name of a flag of the command; rename the setting"
                )
            users.setdefault(name, {})[plugin] = setting
    found = {}
    for name, of in users.items():
        first = next(iter(of))
        if other := next((plugin for plugin in of if of[plugin].kind != of[first].kind), None):
            raise InputError(f"{other}: the setting {name} has another type than in {first}; rename the setting")
        choices = {setting.allowed and tuple(setting.allowed) for setting in of.values()}
        # If choices differ, or there are bounds, the plug-in that is chosen checks the value.
        found[name] = knobs.Setting(
            None, of[first].kind, _docs(of) + _defaults(of), choices.pop() if len(choices) == 1 else None
        )
    return found


def _docs(of: Mapping[str, knobs.Setting]) -> str:
    """The help of one setting of several plug-ins: where it differs, each text with the names of its plug-ins."""
    plugins: dict[str, list[str]] = {}
    for plugin, setting in of.items():
        plugins.setdefault(setting.doc, []).append(plugin)
    if len(plugins) == 1:
        return next(iter(plugins))
    return "; ".join(f"{', '.join(names)}: {doc}" for doc, names in plugins.items())


def _defaults(of: Mapping[str, knobs.Setting]) -> str:
    """The help's text on the defaults of one setting of several plug-ins."""
    found = {plugin: setting.default for plugin, setting in of.items() if setting.default not in ("", None, False)}
    if not found:
        return ""
    if len(found) == len(of) and len(set(found.values())) == 1:
        return f" (default: {next(iter(found.values()))!r})"
    return f" (default, {'; '.join(f'{plugin}: {default!r}' for plugin, default in found.items())})"


def _of(settings: Settings) -> Mapping[str, knobs.Setting]:
    if not isinstance(settings, type):
        return settings
    own = settings.__dict__.get("__annotations__", {})  # a subclass's own settings come before those it inherits
    return dict(sorted(knobs.fields(settings).items(), key=lambda pair: pair[0] not in own))


def _kinds(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _numbers(name: str, texts: list[str], setting: knobs.Setting) -> list[int]:
    if not all(text.strip().isdigit() for text in texts):
        example = ",".join(map(str, setting.default)) or "0,1,2"
        raise InputError(f"--{name}={','.join(texts)}: is not valid; expected whole numbers, as in --{name}={example}")
    return [int(text) for text in texts]


class _Choice(flags.EnumParser):
    """Parses one of several values, texts or numbers; the error for a wrong one suggests the nearest right one."""

    def __init__(self, allowed: Collection[Any]):
        super().__init__([str(one) for one in allowed])
        self._allowed = {str(one): one for one in allowed}

    def parse(self, argument: Any) -> Any:
        if str(argument) not in self._allowed:
            listed = ", ".join(self._allowed)
            raise ValueError(f"expected one of: {listed}{did_you_mean(str(argument), self._allowed)}")
        return self._allowed[str(argument)]

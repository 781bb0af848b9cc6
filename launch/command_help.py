"""Prints the page of `--help` without the imports that only the command itself needs."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from llmesr_jax.core import commands, knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean
from llmesr_jax.training import schema

FLAGS = flags.FLAGS
_ASKED = re.compile(r"--?(h|help|helpshort|helpfull)(?:=(.*))?")
_COLUMN = 24  # where the text of a flag starts


def wanted(argv: Sequence[str], main: Callable[..., Any], with_config: bool, aliases: Mapping[str, str]) -> str:
    """The page of help that the command line asks for; "" if it asks for none.

    Args:
      argv: the command line.
      main: of the command; the page begins with the docstring of its module.
      with_config: whether the command takes `--config` and `--config.section.name`.
      aliases: {second name: flag}.
    Raises:
      InputError: `--help=name` names no section of the settings.
    """
    asked = next((match for arg in argv[1:] if (match := _ASKED.fullmatch(arg))), None)
    if asked is None:
        return ""
    section = asked[2] if asked[2] not in (None, "true", "True") else ""
    if section:
        return _section(section)
    doc = (sys.modules[main.__module__].__doc__ or "").strip().replace("python -m launch.", commands.line(""))
    paragraphs = [p if "\n    " in f"\n{p}" or "--" in p else textwrap.fill(p, _width()) for p in doc.split("\n\n")]
    parts = ["\n\n".join(paragraphs), "\n".join(_flags(aliases))]
    if with_config and asked[1] != "helpfull":
        parts.append(
            textwrap.fill(
                "Set all other settings as --config.SECTION.NAME=VALUE. --helpfull lists them; --help=SECTION "
                "lists one section: data, semantic, loss, train, or a method's or backbone's name, as in "
                "--help=sasrec.",
                _width(),
            )
        )
    elif with_config:
        parts += [_section(name) for name in schema.sections()]
    return "\n\n".join(parts)


def _width() -> int:
    return min(shutil.get_terminal_size((80, 24)).columns, 120)


def _flags(aliases: Mapping[str, str]) -> Iterable[str]:
    """An entry for each of the command's own flags, in the order of their definition."""
    for module, found in FLAGS.flags_by_module_dict().items():
        if not module.startswith(("absl", "ml_collections")):
            for flag in found:
                second_name = aliases.get(flag.name, "") in FLAGS
                if not isinstance(flag, flags.Flag) or second_name:
                    continue
                choices = getattr(flag.parser, "enum_values", None)
                yield _entry(_usage(flag, aliases), _text(flag, choices))


def _usage(flag: Any, aliases: Mapping[str, str]) -> str:
    if flag.boolean:
        return f"--[no]{flag.name}"
    names = [f"--{flag.name}", *(f"--{alias}" for alias, name in aliases.items() if name == flag.name)]
    return ", ".join(names)


def _text(flag: Any, choices: Sequence[str] | None) -> str:
    listed = f"; one of: {', '.join(str(one) for one in choices if one != '')}" if choices else ""
    text = " ".join((flag.help or "").split())  # absl adds a line break and blanks to that of a repeated flag
    return text + listed + _default(flag)


def _default(flag: Any) -> str:
    if flag.default in (None, "", [], False) or "default" in (flag.help or ""):
        return ""
    shown = ",".join(map(str, flag.default)) if isinstance(flag.default, list) else flag.default
    return f" (default: {shown})"


def _entry(name: str, text: str) -> str:
    indent = " " * _COLUMN
    lines = textwrap.wrap(text, _width() - _COLUMN) or [""]
    head = f"  {name}"
    start = [f"{head:<{_COLUMN}}{lines[0]}"] if len(head) < _COLUMN - 1 else [head, indent + lines[0]]
    return "\n".join(start + [indent + line for line in lines[1:]])


def _section(name: str) -> str:
    """The settings of a section, one per line."""
    sections = schema.sections()
    if name not in sections:
        named = [section for section in sections if section]
        raise InputError(
            f"--help={name}: there is no such section; expected one of: {', '.join(named)}{did_you_mean(name, named)}"
        )
    about = _about(name, sections[name])
    lines = [*textwrap.wrap(about, 80), ""] if about else []
    lines.append(f"settings of {name}:" if name else "settings of a run:")
    for field, setting in knobs.fields(sections[name]).items():
        named = [str(one) for one in setting.allowed or () if one != ""]  # the empty one is explained by the help
        choices = f"; one of: {', '.join(named)}" if named else ""
        key = f"{name}.{field}" if name else field
        lines.append(_entry(f"--config.{key}", f"{setting.doc}{choices} (default: {setting.default!r})"))
    return "\n".join(lines)


def _about(name: str, section: type) -> str:
    """The first line of the docstring of a plug-in's file, or of another section's class; "" without one."""
    of_file = section.__module__.rpartition(".")[2] == name
    text = sys.modules[section.__module__].__doc__ if of_file else section.__doc__
    first = (text or "").strip().split("\n")[0]
    return "" if first.startswith(f"{section.__name__}(") else first  # what `dataclass` writes where there is none

"""Pages that are made from the code: public names, what plug-ins import, commands with their flags, all settings."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmesr_jax.core.knobs import Setting
from llmesr_jax.training import schema

PROJECT = Path(__file__).parents[2]


def help_of(command: str) -> str:
    """What `python -m launch.<command> --help` prints."""
    env = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(PROJECT)}
    asked = [sys.executable, "-m", f"launch.{command}", "--help"]
    return subprocess.run(asked, cwd=PROJECT, env=env, capture_output=True, text=True, check=True).stdout.rstrip()


def commands() -> str:
    """The page of all commands."""
    from launch.__main__ import COMMANDS

    with ThreadPoolExecutor() as pool:
        texts = dict(zip(COMMANDS, pool.map(help_of, COMMANDS)))
    parts = [
        "# Commands",
        "This page shows what `--help` prints. With an installed wheel, type `llmesr train` for `python -m launch.train`.",
    ]
    for name, text in texts.items():
        parts += [f"## launch.{name}", f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def settings() -> str:
    """The page of all settings, a table for each section."""
    parts = [
        "# Settings",
        "Every setting of a run, set by `--config.<section>.<name>=<value>`, or in Python by "
        '`llmesr_jax.settings(dataset=..., method=..., train={"epochs": 3})`. A data set, a preset or a method may have '
        "other values than these defaults; `results.json` of a run says what it used.",
    ]
    sections: dict[str, dict[str, Setting]] = {}
    for key, setting in schema.settings().items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, {})[name] = setting
    for section, found in sections.items():
        rows = [f"| `{name}` | {_code(s.default)} | {_values(s)} | {_cell(s.doc)} |" for name, s in found.items()]
        head = "| name | default | values | meaning |\n| --- | --- | --- | --- |"
        parts += [f"## {section or 'Without a section'}", "\n".join([head, *rows])]
    return "\n\n".join(parts) + "\n"


def names(module: str, title: str, text: str, but: tuple[str, ...] = ()) -> str:
    """The page of the public names of a module, each with its docstring, in the order of `__all__`, without some."""
    found = importlib.import_module(module)
    lines = []
    for name in found.__all__:
        value = getattr(found, name)
        if name in but or name.startswith("_"):
            continue
        if inspect.isclass(value):
            lines += [f".. autoclass:: {module}.{name}", "   :members:", ""]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {module}.{name}", ""]
        else:  # a constant has no docstring
            kind = f"keys {', '.join(value)}" if isinstance(value, Mapping) else f"``{value!r}``"
            lines += [f".. py:data:: {module}.{name}", "", f"   {kind}", ""]
    return "\n".join([f"# {title}", "", text, "", "```{eval-rst}", *lines, "```", ""])


def python() -> str:
    """The page of the public API."""
    text = "The public API, `import llmesr_jax`. A name is imported when you first use it."
    return names("llmesr_jax", "Python", text)


def extend() -> str:
    """The page of the names that plug-ins import."""
    text = "The names that a plug-in's file imports: `from llmesr_jax.extend import ...`. See [forking](../forking.md)."
    return names("llmesr_jax.extend", "For plug-ins", text, but=("InputError",))


def gradients() -> str:
    """The page of the functions that analyse the loss."""
    text = "Pure functions of (params, tables, batch, key): `from llmesr_jax import gradients`. See [gradients](../gradients.md)."
    return names("llmesr_jax.gradients", "Gradients", text)


def _values(setting: Setting) -> str:
    if setting.allowed is not None:
        return ", ".join(_code(value) for value in setting.allowed)
    bounds = [f"{sign} {bound:g}" for sign, bound in (("≥", setting.least), ("≤", setting.most)) if bound is not None]
    return ", ".join([getattr(setting.kind, "__name__", str(setting.kind)), *bounds])


def _code(value: object) -> str:
    return f"`{_cell(value)}`" if str(value) else "(empty)"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") if text != "" else ""


def write(app) -> None:
    """Writes the pages; untouched where nothing changed, so that Sphinx does not read them again."""
    folder = Path(app.srcdir, "reference")
    folder.mkdir(exist_ok=True)
    made = {"python": python, "extend": extend, "gradients": gradients, "commands": commands, "settings": settings}
    for name, make in made.items():
        path, text = folder / f"{name}.md", make()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _escaped(line: str) -> str:
    """Absolute values and `*arguments` are no markup; what stands between backquotes and emphasis stay as they are."""
    parts = re.split(r"(`[^`]*`)", line)
    plain = [part if part.startswith("`") else part.replace("|", "\\|") for part in parts]
    text = "".join(plain)
    return text if len(re.findall(r"\*(?=\w)|(?<=\w)\*", text)) != 1 else re.sub(r"\*(?=\w)", r"\\*", text)


def with_code(app, what, name, obj, options, lines: list[str]) -> None:
    """An indented paragraph of a docstring is code; reStructuredText would take it for a quotation."""
    found: list[str] = []
    for line in lines:
        before = [one for one in found if one.strip()]
        after_text = before and not before[-1].startswith(" ") and not found[-1].strip()
        if line.startswith("    ") and after_text:
            found += ["::", ""]
        found.append(line)
    lines[:] = [line if line.startswith("    ") else _escaped(line) for line in found]


def setup(app):
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", with_code, priority=400)  # before napoleon, which indents sections
    return {"parallel_read_safe": True}

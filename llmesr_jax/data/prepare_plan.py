"""Plans `launch.prepare`: checks its settings, finds the raw files, and decides whether the folder may be written.

Importing this module imports no reader of raw data, so a command's `--help` is fast.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.files import sha256
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import importers, known, manifest, splits
from llmesr_jax.data.raw_files import Files
from llmesr_jax.data.rules import Rule


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to prepare, from where, to where; the rule and the importer's options are separate."""

    dataset: str = knob("", f"data set: one of {', '.join(known.DATASETS)}, or a name of your own with --importer")
    raw_dir: str = knob("", "folder of the raw files; empty: data/raw/<dataset>")
    out: str = knob("", "folder to write; empty: data/<dataset>")
    importer: str = knob("", "reader of the raw files; empty: that of the data set; --importer=help lists all")
    download: bool = knob(False, "first download the public files into --raw_dir; existing files are kept")
    base_url: str = knob("", "base address of the public files; empty: their publisher's")
    train: str = knob("", "file of the training interactions below --raw_dir; with --valid and --test: your own split")
    valid: str = knob("", "file of the validation interactions, see --train")
    test: str = knob("", "file of the test interactions, see --train")
    audit: bool = knob(True, "print the data audit at the end; python -m launch.inspect repeats it at any time")
    max_bad_lines: int = knob(100, "number of malformed lines to leave out; one more is an error", least=0)
    most_in_memory: int = knob(
        30_000_000,
        "largest number of raw interactions to prepare in memory (100 bytes each); more are sorted in files beside "
        "--out, and the result has items.npy and offsets.npy, which need not fit in memory, in place of inter.txt",
        least=0,
    )
    overwrite: bool = knob(
        False, "prepare again even if the folder has other content, which is kept under another name"
    )
    append: bool = knob(
        False,
        "prepare again after the raw data grew: users and items of the folder keep their ids, new ones follow; "
        "settings that you do not set are those of the folder's manifest",
    )


class Plan(NamedTuple):
    """Consistent settings.

    Attributes:
      settings: what to prepare.
      name: of the importer.
      importer: its module (`importers.Importer`).
      options: its `Options`.
      rule: which interactions are kept.
      raw: folder of the raw files.
      out: folder to write.
    """

    settings: Settings
    name: str
    importer: ModuleType
    options: Any
    rule: Rule
    raw: Path
    out: Path

    @property
    def parts(self) -> dict[str, Any]:
        """{part: options of the importer} of the user's own split; otherwise {"": options} for all interactions."""
        named = {part: getattr(self.settings, part) for part in splits.PARTS}
        if not any(named.values()):
            return {"": self.options}
        return {part: dataclasses.replace(self.options, file=name) for part, name in named.items()}

    def locate(self) -> dict[str, Files]:
        """The raw files of each part.

        Raises:
          InputError: a file is missing.
        """
        found = {}
        for part, options in self.parts.items():
            try:
                found[part] = self.importer.locate(self.raw, options)
            except InputError as error:
                raise InputError(str(error).replace("--file=", f"--{part or 'file'}=")) from error
        return found

    def recipe(self, files: Mapping[str, Files]) -> dict[str, Any]:
        """What the result depends on, for the manifest: data set, importer, options, rule, and each file's digest.

        Files are named relative to the folder of the raw files.

        Raises:
          InputError: a file cannot be read, or its name is not UTF-8.
        """
        paths = [
            {
                "name": _text(p.relative_to(self.raw) if p.is_relative_to(self.raw) else Path(p.name)),
                "size": p.stat().st_size,
                "sha256": _digest(p),
            }
            for p in dict.fromkeys(path for of_part in files.values() for path in of_part.paths())
        ]
        options = dataclasses.asdict(self.options)
        source = {"importer": self.name, "options": options, "files": paths}
        if "" not in self.parts:
            source["split"] = {part: options.file for part, options in self.parts.items()}
        return {"dataset": self.settings.dataset, "source": source, "rule": dataclasses.asdict(self.rule)}


def plan(settings: Settings, changes: Mapping[str, Any]) -> Plan:
    """Checks the settings.

    Args:
      settings: what to prepare.
      changes: settings of the rule and options of the importer, by name, that differ from their defaults.

    Raises:
      InputError: an unknown name, or inconsistent settings.
    """
    dataset, name = settings.dataset, settings.importer
    names = ", ".join(importers.PLUGINS.names())
    if not re.fullmatch(r"\w[\w.-]*", dataset):
        raise InputError(
            f"--dataset={dataset}: is not a valid name; expected one of {', '.join(known.DATASETS)}, or a name of your "
            "own of letters, digits, '_', '-' and '.' that begins with a letter, a digit or '_'"
        )
    if dataset == known.IN_MEMORY and not settings.out:
        raise InputError(f"--dataset={dataset}: is the name of the built-in data set; choose another name")
    if settings.append and settings.overwrite:
        raise InputError(
            "--append and --overwrite: both are set; expected one: --append keeps ids, --overwrite assigns new ones"
        )
    raw, out = Path(settings.raw_dir or Path("data", "raw", dataset)), Path(settings.out or Path("data", dataset))
    if out.name in ("", ".."):
        raise InputError(
            f"--out={out}: does not end with a folder's name, and the folder is built beside its place and then moved "
            "there; expected a name; set --out to one, such as --out=prepared"
        )
    _text(out)
    if settings.append:
        settings, name, changes = _as_before(settings, out, name, changes)
    if not name and dataset not in known.DATASETS:
        raise InputError(
            f"--dataset={dataset}: is not one of {', '.join(known.DATASETS)}; set --importer for it ({names}; "
            "--importer=help says more)"
        )
    name = name or known.DATASETS[dataset].importer
    importer = importers.PLUGINS.load(name)
    rule_fields = {field.name for field in dataclasses.fields(Rule)}
    option_fields = {field.name for field in dataclasses.fields(importer.Options)}
    for key in changes:
        if key not in rule_fields | option_fields:
            raise InputError(
                f"--{key}: is not an option of importer {name}; its options: {', '.join(option_fields) or 'none'}"
            )
    is_its_own = dataset in known.DATASETS and known.DATASETS[dataset].importer == name
    options = dict(known.DATASETS[dataset].options) if is_its_own else {}
    options = importer.Options(**options | {k: v for k, v in changes.items() if k in option_fields})
    own_split = [part for part in splits.PARTS if getattr(settings, part)]
    if own_split and len(own_split) < len(splits.PARTS):
        absent = next(part for part in splits.PARTS if part not in own_split)
        raise InputError(
            f"--{own_split[0]} is set without --{absent}; your own split needs --train, --valid and --test"
        )
    if own_split and "file" not in option_fields:
        raise InputError(
            f"--{own_split[0]}: importer {name} reads files with fixed names; your own split needs "
            "--importer=table, recbole or sequences"
        )
    rule = known.rule_of(dataset, importer.PREPARED or bool(own_split))
    rule = dataclasses.replace(rule, **{k: v for k, v in changes.items() if k in rule_fields})
    if raw.resolve() == out.resolve():
        raise InputError(f"{out}: is the folder of the raw files; expected another folder for the result; set --out")
    return Plan(settings, name, importer, options, rule, raw, out)


def _as_before(
    settings: Settings, out: Path, name: str, changes: Mapping[str, Any]
) -> tuple[Settings, str, dict[str, Any]]:
    """The split, importer, rule and options that the folder was prepared with, unless others are set."""
    old = manifest.read(out)
    if old is None:
        raise InputError(nothing_there(out))
    source = old["source"]
    name = name or str(source.get("importer", ""))
    same = name == source.get("importer") and isinstance(source.get("options"), dict)
    split = {part: file for part, file in source.get("split", {}).items() if not getattr(settings, part)}
    settings = dataclasses.replace(settings, **split)
    return settings, name, {**old["rule"], **(source["options"] if same else {}), **changes}


def nothing_there(out: Path) -> str:
    """The message if --append names a folder that launch.prepare did not make."""
    return (
        f"{out} was not made by launch.prepare, so --append cannot extend it; name a prepared folder, or run without "
        "--append"
    )


def check_target(p: Plan, old: dict[str, Any] | None, recipe: dict[str, Any]) -> None:
    """Raises InputError if the folder may not be written."""
    if p.out.exists() and not p.out.is_dir():
        raise InputError(f"{p.out}: is a file; expected a folder to write; choose another --out")
    if p.settings.append:
        if old is None:
            raise InputError(nothing_there(p.out))
        manifest.check_files(p.out, old)
        others = [change for change in manifest.changes(old, recipe) if not change.startswith("source.files")]
        if others:
            raise InputError(
                f"{p.out}: was prepared with other settings ({manifest.first(others)}); expected the same settings "
                "with --append; use --overwrite to assign new ids"
            )
        return
    if p.settings.overwrite or not p.out.exists() or not any(p.out.iterdir()):
        return
    if old is None:
        raise InputError(
            f"{p.out}: has files that prepare did not make; choose another --out, or use --overwrite, which keeps "
            "them under another name"
        )
    changes = manifest.changes(old, recipe)
    grew = ", or --append if the raw data grew" if all(c.startswith("source.files") for c in changes) else ""
    raise InputError(
        f"{p.out}: was prepared with other settings ({manifest.first(changes)}); choose another --out, or use "
        f"--overwrite to prepare again{grew}"
    )


def _text(path: Path) -> str:
    """The path as text that a file can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        told = str(path).encode(errors="backslashreplace").decode()
        raise InputError(f"{told}: its name is not UTF-8; expected a name in UTF-8; rename it") from error
    return str(path)


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a readable file") from error

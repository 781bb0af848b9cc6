"""What `launch.prepare` is asked for: settings that go together, the raw files, and whether the folder may be written.

Importing this reads no raw data, so a command's `--help` does not wait for what does.
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
    """What to prepare, from where, to where; the rule and the importer's options come beside it."""

    dataset: str = knob("", f"data set: one of {', '.join(known.DATASETS)}, or a name of your own with --importer")
    raw_dir: str = knob("", "folder of the raw files; empty: data/raw/<dataset>")
    out: str = knob("", "folder to write; empty: data/<dataset>")
    importer: str = knob("", "how the raw files are read; empty: as the data set's are; --importer=help lists them")
    download: bool = knob(False, "fetch the public files into --raw_dir first; what is there is kept")
    base_url: str = knob("", "address that the public files are below; empty: their publisher's")
    train: str = knob(
        "", "file of the training interactions below --raw_dir, with --valid and --test: a split of your own"
    )
    valid: str = knob("", "file of the validation interactions, see --train")
    test: str = knob("", "file of the test interactions, see --train")
    audit: bool = knob(True, "end with the data audit; python -m launch.inspect repeats it at any time")
    max_bad_lines: int = knob(100, "malformed lines that are left out; one more is an error", least=0)
    overwrite: bool = knob(
        False, "prepare anew where the folder holds something else, which is kept under another name"
    )
    append: bool = knob(
        False,
        "the raw data grew: users and items of the folder keep their ids, new ones come after; settings not given are "
        "those of its manifest",
    )


class Plan(NamedTuple):
    """Settings that were seen to go together."""

    settings: Settings
    name: str
    importer: ModuleType
    options: Any
    rule: Rule
    raw: Path
    out: Path

    @property
    def parts(self) -> dict[str, Any]:
        """{part: options of the importer} of a split of the user's own; of all interactions else, by the name ""."""
        named = {part: getattr(self.settings, part) for part in splits.PARTS}
        if not any(named.values()):
            return {"": self.options}
        return {part: dataclasses.replace(self.options, file=name) for part, name in named.items()}

    def locate(self) -> dict[str, Files]:
        """The raw files of each part.

        Raises:
          InputError: one is not there.
        """
        found = {}
        for part, options in self.parts.items():
            try:
                found[part] = self.importer.locate(self.raw, options)
            except InputError as error:
                raise InputError(str(error).replace("--file=", f"--{part or 'file'}=")) from error
        return found

    def recipe(self, files: Mapping[str, Files]) -> dict[str, Any]:
        """What the result depends on; it names files, never folders."""
        paths = [
            {
                "name": str(p.relative_to(self.raw)) if p.is_relative_to(self.raw) else p.name,
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
      changes: settings of the rule and options of the importer, by name, that are not to have their defaults.

    Raises:
      InputError: an unknown name, or settings that do not go together.
    """
    dataset, name = settings.dataset, settings.importer
    names = ", ".join(importers.PLUGINS.names())
    if not re.fullmatch(r"\w[\w.-]*", dataset):
        raise InputError(f"--dataset={dataset}: expected one of {', '.join(known.DATASETS)}, or a name of your own")
    if settings.append and settings.overwrite:
        raise InputError("--append keeps ids and --overwrite numbers anew; expected one of the two")
    raw, out = Path(settings.raw_dir or Path("data", "raw", dataset)), Path(settings.out or Path("data", dataset))
    if settings.append:
        settings, name, changes = _as_before(settings, out, name, changes)
    if not name and dataset not in known.DATASETS:
        raise InputError(
            f"--dataset={dataset}: is none of {', '.join(known.DATASETS)}; name its --importer ({names}; "
            "--importer=help says more)"
        )
    name = name or known.DATASETS[dataset].importer
    importer = importers.PLUGINS.load(name)
    rule_fields = {field.name for field in dataclasses.fields(Rule)}
    option_fields = {field.name for field in dataclasses.fields(importer.Options)}
    for key in changes:
        if key not in rule_fields | option_fields:
            raise InputError(f"--{key}: is no option of importer {name}; it has: {', '.join(option_fields) or 'none'}")
    is_its_own = dataset in known.DATASETS and known.DATASETS[dataset].importer == name
    options = dict(known.DATASETS[dataset].options) if is_its_own else {}
    options = importer.Options(**options | {k: v for k, v in changes.items() if k in option_fields})
    own_split = [part for part in splits.PARTS if getattr(settings, part)]
    if own_split and len(own_split) < len(splits.PARTS):
        absent = next(part for part in splits.PARTS if part not in own_split)
        raise InputError(
            f"--{own_split[0]} is given without --{absent}; a split of your own wants --train, --valid and --test"
        )
    if own_split and "file" not in option_fields:
        raise InputError(
            f"--{own_split[0]}: importer {name} reads files of fixed names; a split of your own wants "
            "--importer=table, recbole, sequences or handled"
        )
    rule = known.rule_of(dataset, importer.PREPARED or bool(own_split))
    rule = dataclasses.replace(rule, **{k: v for k, v in changes.items() if k in rule_fields})
    if raw.resolve() == out.resolve():
        raise InputError(
            f"{out}: is the folder of the raw files; expected another one for the result; name it with --out"
        )
    return Plan(settings, name, importer, options, rule, raw, out)


def _as_before(
    settings: Settings, out: Path, name: str, changes: Mapping[str, Any]
) -> tuple[Settings, str, dict[str, Any]]:
    """The split, importer, rule and options that the folder was prepared with, where no others are given."""
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
    return (
        f"{out} was not made by launch.prepare, so --append cannot extend it; name a prepared folder, or run without "
        "--append"
    )


def check_target(p: Plan, old: dict[str, Any] | None, recipe: dict[str, Any]) -> None:
    """Raises InputError if the folder may not be written."""
    if p.out.exists() and not p.out.is_dir():
        raise InputError(f"{p.out}: is a file; expected a folder to write; name another --out")
    if p.settings.append:
        if old is None:
            raise InputError(nothing_there(p.out))
        manifest.check_files(p.out, old)
        others = [change for change in manifest.changes(old, recipe) if not change.startswith("source.files")]
        if others:
            raise InputError(
                f"{p.out}: was prepared otherwise ({manifest.first(others)}); expected the same settings with "
                "--append; use --overwrite to number all anew"
            )
        return
    if p.settings.overwrite or not p.out.exists() or not any(p.out.iterdir()):
        return
    if old is None:
        raise InputError(
            f"{p.out}: holds files that prepare did not make; name another --out, or use --overwrite, which keeps "
            "them under another name"
        )
    changes = manifest.changes(old, recipe)
    grew = ", or --append where the raw data grew" if all(c.startswith("source.files") for c in changes) else ""
    raise InputError(
        f"{p.out}: was prepared otherwise ({manifest.first(changes)}); name another --out, or use --overwrite to "
        f"prepare anew{grew}"
    )


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a readable file") from error

"""The manifest of a prepared folder: reading, comparing and printing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError

FILE = "manifest.json"
_DECISIVE = ("dataset", "source", "rule")
_SHOWN = 4


def version() -> dict[str, Any]:
    """Versions of the format, and of the package that wrote it ("" from a checkout that is not installed)."""
    return {"format": 1, "llmesr_jax": _package_version()}


def _package_version() -> str:
    try:
        return metadata.version("llmesr-jax")
    except metadata.PackageNotFoundError:
        return ""


def entry(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    return {"size": path.stat().st_size, "sha256": files.sha256(path)}


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of an existing folder; None if `launch.prepare` wrote none."""
    try:
        found = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    wanted = {"source": dict, "rule": dict, "files": dict, "counts": dict, "steps": list, "malformed_lines": dict}
    whole = isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in wanted.items())
    if whole:
        found["rule"].setdefault("exact_duplicates", "keep")  # older versions kept them without recording it
    return found if whole else None


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`name: old -> new` for each setting and raw file that differ between two manifests and decide the result."""
    flat = [_flat({key: tree.get(key) for key in _DECISIVE}) for tree in (old, new)]
    keys = sorted(flat[0].keys() | flat[1].keys())
    return [
        f"{k}: {_short(flat[0].get(k))} -> {_short(flat[1].get(k))}" for k in keys if flat[0].get(k) != flat[1].get(k)
    ]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, list):
        tree = {part["name"]: {k: v for k, v in part.items() if k != "name"} for part in tree}
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for name, part in tree.items() for k, v in _flat(part, f"{prefix}.{name}".lstrip(".")).items()}


def _short(value: Any) -> str:
    return value[:8] if isinstance(value, str) and len(value) == 64 else repr(value)


def first(changes: list[str]) -> str:
    """The first few of the lines of `changes`, on one line, with the settings' flags."""
    shown = list(dict.fromkeys(_by_flag(change) for change in changes))
    more = f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return "; ".join(shown[:_SHOWN]) + more


def _by_flag(change: str) -> str:
    name, _, values = change.partition(": ")
    for prefix in ("source.options.", "source.split.", "source.", "rule.", ""):
        if name.startswith(prefix):
            break
    if prefix == "source." and name.startswith("source.files."):
        return f"{name.removeprefix('source.files.').rpartition('.')[0]} is another file"
    return f"--{name.removeprefix(prefix)}: {values}"


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Checks that the folder's files are as they were written.

    Args:
      manifest: of the folder; its entry "files" is {name: `entry`}.

    Raises:
      InputError: a file is missing or was changed.
    """
    for name, recorded in manifest["files"].items():
        path = folder / name
        if not path.is_file() or entry(path) != recorded:
            what = "was changed after it was written" if path.is_file() else "is missing"
            raise InputError(f"{path}: {what} (see {FILE}); use --overwrite to prepare the data again")

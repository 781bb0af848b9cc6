"""Raw files to a folder that training reads: interactions, `items.jsonl`, times, the raw ids, and a manifest.

The manifest records the source (importer, options, each file's size and sha256), the rule, the counts after each of its
steps, and how they compare with the papers'. Equal inputs and settings give equal bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.data import (
    download,
    folders,
    interaction_files,
    item_records,
    known,
    manifest,
    out_of_core,
    preprocess,
    raw_ids,
    splits,
)
from llmesr_jax.data.prepare_plan import Plan, check_target
from llmesr_jax.data.raw_files import BadLines, Files
from llmesr_jax.data.staging import Reader

_OWN = (*interaction_files.FILES, "items.jsonl", *raw_ids.FILES.values(), manifest.FILE)


class Outcome(NamedTuple):
    """The result of `prepare`.

    Attributes:
      plan: what was prepared.
      manifest: as it is in the folder.
      fresh: False if the folder was up to date and nothing was written.
      kept: the path of the folder's former content, if it was kept.
      before: the counts of the folder that was appended to.
    """

    plan: Plan
    manifest: dict[str, Any]
    fresh: bool
    kept: Path | None
    before: dict[str, int] | None = None


def prepare(p: Plan, *, stop: Stop | None = None) -> Outcome:
    """Reads, filters, numbers and writes the data; or finds that the folder is up to date.

    Args:
      p: what to prepare.
      stop: a request for it while the new folder is moved into place takes effect when that is done.
    Raises:
      InputError: a raw file, the rule, or the folder to write is not valid, or a download failed.
      KeyboardInterrupt: `stop` was requested while the new folder was moved into place.
    """
    if p.settings.download:
        files = p.importer.downloads(p.options)
        base = p.settings.base_url or files.base_url
        if not base:
            raise InputError(f"--download: {files.terms}; put the files into {p.raw}, or set --base_url to a mirror")
        download.fetch_all(base, files.paths, p.raw, files.sha256)
    try:
        files = p.locate()
    except InputError as error:
        if p.raw.exists() or not p.importer.downloads(p.options).base_url:
            raise
        raise InputError(f"{error}, or download the public files with --download") from error
    with folders.workplace(p.out) as work:
        old = _completed(manifest.read(p.out), p)
        recipe = p.recipe(files)
        if old is not None and not manifest.changes(old, recipe):
            try:
                manifest.check_files(p.out, old)
                return Outcome(p, old, False, None)
            except InputError:
                if not p.settings.overwrite:
                    raise
        check_target(p, old, recipe)
        built = work / "built"
        built.mkdir()
        with _readable(p):
            reader = Reader(work / "parts", BadLines(p.settings.max_bad_lines), p.rule.min_rating is not None)
            written = _build(p, files, recipe, built, reader, old)
        with (stop or Stop()).gracefully("moving the folder into place"):
            kept = folders.replace(p.out, built, carry=p.settings.append, own=set(_OWN))
        return Outcome(p, written, True, kept, old["counts"] if p.settings.append and old else None)


def _completed(old: dict[str, Any] | None, p: Plan) -> dict[str, Any] | None:
    """A manifest of an older version, with options added since then at their defaults."""
    if old is not None and old["source"].get("importer") == p.name and isinstance(old["source"].get("options"), dict):
        known_by_now = dataclasses.asdict(p.importer.Options())
        old["source"]["options"] = {**known_by_now, **old["source"]["options"]}
    return old


def _build(
    p: Plan,
    files: Mapping[str, Files],
    recipe: dict[str, Any],
    built: Path,
    reader: Reader,
    old: dict[str, Any] | None,
) -> dict[str, Any]:
    """Writes all files of the folder; returns the manifest."""
    result = _applied(p, _rows(p, files, reader), built.with_name("files"))
    shutil.rmtree(reader.folder, ignore_errors=True)
    counts = {"users": len(result.users), "items": len(result.items), "interactions": result.steps[-1].interactions}
    counts["mean_length"] = round(counts["interactions"] / counts["users"], 2)
    for kind, ids in (("user", result.users), ("item", result.items)):
        pl.DataFrame([ids]).write_csv(built / raw_ids.FILES[kind], include_header=False, quote_style="never")
    as_arrays = isinstance(result, out_of_core.Stored)
    facts = interaction_files.write(built, result.blocks(), counts["users"], counts["interactions"], as_arrays)
    if facts.of_parts is not None:
        _check_parts(p, facts, result.across, reader)
    elif facts.longest < 3:
        raise InputError(
            f"no user is left with 3 interactions (the most is {facts.longest}); expected at least 3 of a user: one "
            "each for training, validation and test; loosen the rule (see --help)"
        )
    found = None
    with_items = next((of_part for of_part in files.values() if of_part.items), None)
    if with_items:
        numbers = {raw: n for n, raw in enumerate(result.items, 1)}
        records = p.importer.items(with_items, p.options, reader, numbers)
        found = item_records.write(built / "items.jsonl", records, numbers, p.importer.ITEM_ID)
    elif old is not None and p.settings.append and "items.jsonl" in old["files"]:
        raise InputError(
            f"{p.raw}: has no item records, but {p.out} has some; --append expected them; add the items' file, or use "
            "--overwrite"
        )
    written = {
        **recipe,
        "steps": [step._asdict() for step in result.steps],
        "counts": counts,
        "times": _span(facts),
        "exact_duplicates": result.duplicates,
        "papers": known.compare(p.settings.dataset, counts),
        "item_records": found._asdict() if found else None,
        "absent": "" if with_items else next(iter(files.values())).absent,
        "notes": reader.notes,
        "dropped": dict(reader.dropped),
        "malformed_lines": {
            "count": reader.bad.found,
            "first": [_without_folder(line, p.raw) for line in reader.bad.first],
        },
        "files": {name: manifest.entry(built / name) for name in _OWN if (built / name).exists()},
        "version": manifest.version(),
    }
    (built / manifest.FILE).write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return written


def _rows(p: Plan, files: Mapping[str, Files], reader: Reader) -> pl.LazyFrame:
    """All interactions in file order; with a split of the user's own, "part" is the index of each in `splits.PARTS`."""
    if "" in files:
        return p.importer.interactions(files[""], p.options, reader)
    frames = []
    for number, part in enumerate(splits.PARTS):
        of_part = dataclasses.replace(reader, folder=reader.folder / part)
        frame = p.importer.interactions(files[part], p.parts[part], of_part)
        frames.append(frame.with_columns(part=pl.lit(number, pl.UInt8)))
    columns = [frame.collect_schema().names() for frame in frames]
    shared = [name for name in columns[0] if all(name in others for others in columns)]
    if lost := sorted({name for names in columns for name in names} - set(shared)):
        raise InputError(
            f"{p.raw}: not all of --train, --valid and --test have a {lost[0]}; expected the same columns in all "
            f"three; add it, or ignore it in all three with --{lost[0]}_column=none"
        )
    if len(set(reader.listed.columns)) > 1:
        column = next(filter(None, reader.listed.columns))
        raise InputError(
            f"{p.raw}: not all of --train, --valid and --test have a column {column!r} of a user's earlier items; "
            "expected the same columns in all three; add it, or delete it in all three"
        )
    if reader.listed.rows:
        earlier = pl.LazyFrame(reader.listed.rows, {"user": pl.String, "item": pl.String}, orient="row")
        unknown = {"rating": pl.lit(None, pl.Float64), "time": pl.lit(None, pl.Int64), "part": pl.lit(0, pl.UInt8)}
        frames.insert(1, earlier.with_columns(**unknown))
    return pl.concat([frame.select(shared) for frame in frames])


def _applied(p: Plan, rows: pl.LazyFrame, folder: Path) -> preprocess.Prepared | out_of_core.Stored:
    """The numbered interactions that the rule keeps; more than `most_in_memory` rows go through files in `folder`."""
    known = [_read_ids(p.out, kind) if p.settings.append else [] for kind in ("user", "item")]
    names = {"known_users": known[0], "known_items": known[1], "numbered": p.importer.PREPARED}
    count = rows.select(pl.len()).collect(engine="streaming").item()
    if count > p.settings.most_in_memory:
        return out_of_core.apply(rows, p.rule, folder, **names)
    return preprocess.apply(rows, p.rule, **names)


def _check_parts(p: Plan, facts: interaction_files.Facts, across: int, reader: Reader) -> None:
    """Raises InputError if a part is empty; adds notes on what is unusual about the split."""
    if not facts.of_parts.all():
        part = splits.PARTS[int(np.argmin(facts.of_parts))]
        raise InputError(
            f"{p.raw / getattr(p.settings, part)}: the rule leaves no interaction of --{part}; expected at least one; "
            "loosen the rule"
        )
    counts = ", ".join(f"{count:,} {part}" for part, count in zip(splits.PARTS, facts.of_parts))
    reader.note(f"your own split: {counts} interactions; launch.train uses it (data.split=files)")
    if across:
        are = "interaction of --valid or --test is" if across == 1 else "interactions of --valid or --test are"
        reader.note(
            f"warning: {across:,} {are} also in an earlier file (same user, "
            "item and time); only the earlier file keeps them"
        )
    if facts.users_back:
        have = "user has" if facts.users_back == 1 else "users have"
        reader.note(
            f"warning: {facts.users_back:,} {have} interactions in an earlier part (--train, --valid) that "
            "are later than some in a later part (--valid, --test), so the past is predicted from the future"
        )


def _span(facts: interaction_files.Facts) -> dict[str, str] | None:
    """First and last day."""
    if facts.first is None:
        return None
    return {name: str(np.datetime64(t, "s"))[:10] for name, t in (("first", facts.first), ("last", facts.last))}


def _without_folder(line: str, folder: Path) -> str:
    return line.removeprefix(f"{folder}/")


def _read_ids(folder: Path, kind: str) -> list[str]:
    return (folder / raw_ids.FILES[kind]).read_text(encoding="utf-8").split("\n")[:-1]


@contextlib.contextmanager
def _readable(p: Plan) -> Iterator[None]:
    """Turns polars' errors into one clear line, or into the OSError of a full disk."""
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if isinstance(error, SystemError) and isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error  # Ctrl-C within a native call
        panicked = isinstance(error, pl.exceptions.PanicException)
        by_polars = isinstance(error, (pl.exceptions.PolarsError, OSError)) or panicked
        if not by_polars or getattr(error, "errno", None):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        reason = "the file is damaged" if panicked else reason
        if code := re.search(r"os error (\d+)", str(error)):  # polars gives its OSErrors no errno
            raise OSError(int(code[1]), reason, str(p.out)) from error
        raise InputError(
            f"{p.raw}: cannot be read ({repr(reason)[1:-1][:160]}); expected whole files of --importer={p.name}"
        ) from error

"""Recommendations for many users as one file: CSV, JSON lines or Parquet, written in parts, so that it can resume."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.core.wording import counted
from llmesr_jax.serving.catalogue import Catalogue, encodable
from llmesr_jax.serving.model import Ranked, ServedModel
from llmesr_jax.serving.options import Allowed, Options
from llmesr_jax.serving.sources import Batch, Source

KINDS = (".parquet", ".csv", ".jsonl")
PART = 4096  # users per part
_WHOLE, _JOINED = "whole", "joined"  # all parts in one file, before it is moved to `out`; a mark that it is complete
_REQUEST = "request.json"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `write` counted.

    Attributes:
      users: number of users.
      popular: number of users who got popular items.
      unknown: items of histories that are not in the catalogue.
      short: lists of fewer than k items.
    """

    users: int = 0
    popular: int = 0
    unknown: int = 0
    short: int = 0

    def __add__(self, other: Summary) -> Summary:
        both = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Summary(*(one + another for one, another in both))

    def remarks(self, k: int) -> list[str]:
        """Sentences for the user about anything unusual in lists of k items."""
        said = []
        if self.popular:
            said.append(f"{counted(self.popular, 'user')} without a known item in the history got popular items")
        if self.unknown:
            what = "is not in the catalogue, and was" if self.unknown == 1 else "are not in the catalogue, and were"
            said.append(f"{counted(self.unknown, 'item')} of the histories {what} left out")
        if self.short:
            have = "list has" if self.short == 1 else "lists have"
            said.append(
                f"{self.short:,} {have} fewer than {counted(k, 'item')}: conditions and histories leave no more"
            )
        return said


def kind_of(out: Path) -> str:
    """The ending of the file to write.

    Raises:
      InputError: an ending that is not in `KINDS`, or a folder that does not exist.
    """
    if out.suffix not in KINDS:
        raise InputError(
            f"--out={out}: the ending {out.suffix!r} is not supported; expected a file that ends in {', '.join(KINDS)}"
        )
    if not out.absolute().parent.is_dir():
        raise InputError(
            f"--out={out}: the folder {out.absolute().parent} does not exist; make the folder, or choose another file"
        )
    return out.suffix


def already_there(out: Path) -> InputError:
    """The error of a file that must not be replaced."""
    return InputError(f"--out={out}: already exists; choose another file, or replace this one with --overwrite")


def workplace(out: Path, request: Mapping[str, Any], overwrite: bool) -> Path:
    """The folder beside `out` in which `out` is made; parts of the same request that are there are used again.

    Args:
      out: the file to write.
      request: JSON values that identify the request.
      overwrite: whether `out` may exist.
    Raises:
      InputError: `out` already exists, or the folder belongs to another request.
    """
    kind_of(out)
    if out.exists() and not overwrite:
        raise already_there(out)
    work = _work(out)
    stored = json.loads(json.dumps(request))
    if work.exists():
        before = _request(work)
        if before != stored:
            changed = [key for key in stored if before is None or before.get(key) != stored[key]]
            raise InputError(
                f"{work}: has the parts of another request ({', '.join(changed) or 'options'} changed); run the "
                "former command to finish it, delete the folder, or choose another --out"
            )
    else:
        work.mkdir()
        files.write_text(work / _REQUEST, json.dumps(stored, indent=1) + "\n")
    return work


def write(
    model: ServedModel,
    source: Source,
    out: Path,
    work: Path,
    options: Options,
    allowed: Allowed,
    *,
    stop: Stop | None = None,
) -> Summary:
    """Ranks for all users of a source and writes `out`, in parts of `PART` users; finished parts are not made again.

    Memory depends on the size of a part, not on the number of users.

    Args:
      model: ranks the items.
      source: the users and their histories.
      out: the file to write, with an ending of `KINDS`.
      work: of `workplace`.
      options, allowed: of `ServedModel.check`.
      stop: a request ends the work after the current part.
    Raises:
      KeyboardInterrupt: `stop` was requested; the same call continues.
    """
    total, stop = Summary(), stop or Stop()
    hide = None if source.count > PART else True
    with (
        stop.gracefully("stopping after the current users"),
        tqdm(total=source.count, desc="recommending", unit="user", disable=hide) as bar,
    ):
        for number, start in enumerate(range(0, source.count, PART)):
            if stop.requested:
                return total
            done, part = work / f"{number:06d}.json", work / f"{number:06d}{out.suffix}"
            if not done.exists():
                batch = source.batch(start, start + PART)
                ranked = model.rank(batch.histories, options, allowed)
                with files.replacing(part) as file:
                    file.write(_WRITERS[out.suffix](batch, ranked, model.catalogue))
                short = int((ranked.rows_BxK < 0).any(axis=1).sum())
                made = Summary(len(batch.users), int(ranked.popular_B.sum()), int(sum(batch.unknown)), short)
                files.write_text(done, json.dumps(dataclasses.asdict(made)))
            total += Summary(**json.loads(done.read_text()))
            bar.update(min(PART, source.count - start))
    _join(sorted(work.glob(f"[0-9]*{out.suffix}")), out)
    _clean_up(out, work)
    return total


def parts_left(out: Path) -> bool:
    """Whether `write` had completed `out`, but was killed while it deleted its parts."""
    work = _work(out)
    if work.exists():
        return (work / _JOINED).exists() and not (work / _WHOLE).exists()
    return _finished(out).exists()


def cleaned_up(out: Path, request: Mapping[str, Any]) -> bool:
    """Deletes the parts that `parts_left` found; whether `out` is the answer to this request.

    Args:
      out, request: as for `workplace`.
    """
    work = _work(out)
    same = _request(work if work.exists() else _finished(out)) == json.loads(json.dumps(request))
    _clean_up(out, work)
    return same


def _request(work: Path) -> dict[str, Any] | None:
    """The request that the parts in a folder belong to; None if the folder does not say."""
    try:
        return json.loads((work / _REQUEST).read_text())
    except (OSError, ValueError):
        return None


def _clean_up(out: Path, work: Path) -> None:
    """Deletes the parts; renames their folder first, so that a partly deleted folder is never continued.

    The request is deleted last, so that the rest of a folder says whose it is.
    """
    finished = _finished(out)
    if work.exists():
        shutil.rmtree(finished, ignore_errors=True)
        work.rename(finished)
    for path in finished.iterdir() if finished.exists() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _REQUEST:
            path.unlink(missing_ok=True)
    shutil.rmtree(finished, ignore_errors=True)


def _work(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _finished(out: Path) -> Path:
    return out.with_name(out.name + ".finished")


def discard(work: Path) -> None:
    """Deletes the folder of a request that has no part yet."""
    shutil.rmtree(work, ignore_errors=True)


def _frame(batch: Batch, ranked: Ranked, catalogue: Catalogue) -> pl.DataFrame:
    """One row per recommendation: user, rank, item, score, title (if there are texts), source."""
    users, places = np.nonzero(ranked.rows_BxK >= 0)
    rows = ranked.rows_BxK[users, places]
    columns: dict[str, Any] = {
        "user": pl.Series(batch.users, dtype=pl.String).gather(users),
        "rank": (places + 1).astype(np.int32),
        "item": pl.Series([catalogue.ids[row] for row in rows], dtype=pl.String),
        "score": ranked.scores_BxK[users, places],
    }
    if catalogue.titles is not None:
        columns["title"] = pl.Series([encodable(catalogue.title(row)) for row in rows], dtype=pl.String)
    columns["source"] = np.where(ranked.popular_B[users], "popular", "model")
    return pl.DataFrame(columns)


def _parquet(batch: Batch, ranked: Ranked, catalogue: Catalogue) -> bytes:
    import io

    buffer = io.BytesIO()
    _frame(batch, ranked, catalogue).write_parquet(buffer)
    return buffer.getvalue()


def _csv(batch: Batch, ranked: Ranked, catalogue: Catalogue) -> bytes:
    return _frame(batch, ranked, catalogue).write_csv().encode()


def _json_lines(batch: Batch, ranked: Ranked, catalogue: Catalogue) -> bytes:
    lines = []
    arrays = (x.tolist() for x in ranked)
    for user, unknown, rows, scores, popular in zip(batch.users, batch.unknown, *arrays, strict=True):
        found: list[dict[str, Any]] = []
        for row, score in zip(rows, scores):
            if row < 0:
                break
            one = {"item": catalogue.ids[row], "score": round(score, 6)}
            found.append(one | ({"title": catalogue.title(row)} if catalogue.titles is not None else {}))
        answer = {"user": user, "recommendations": found, "source": "popular" if popular else "model"}
        lines.append(json.dumps(answer | ({"unknown": unknown} if unknown else {}), ensure_ascii=False) + "\n")
    return "".join(lines).encode("utf-8", "replace")


_WRITERS = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines}


def _join(parts: list[Path], out: Path) -> None:
    """Joins the parts, in order, to one file, which is moved to `out` when it is complete."""
    whole, joined = _work(out) / _WHOLE, _work(out) / _JOINED
    joined.unlink(missing_ok=True)
    if out.suffix == ".parquet":
        pl.scan_parquet(parts, glob=False).sink_parquet(whole)
        joined.touch()
        whole.replace(out)
        return
    with files.replacing(out, whole) as file:
        for place, part in enumerate(parts):
            with part.open("rb") as source:
                if place and out.suffix == ".csv":
                    source.readline()
                shutil.copyfileobj(source, file)
        joined.touch()

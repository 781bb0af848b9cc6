"""Raw files as they were downloaded: plain, gzipped, or inside a zip or tar archive; read line by line.

The first bytes decide a file's type, as browsers and mirrors rename files. Nothing is unpacked to disk. A file that is
damaged or cut short raises one clear error; a malformed line is counted and left out, up to a limit.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from absl import logging
from tqdm import tqdm

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import archives
from llmesr_jax.data.values import Malformed

MAX_LINE = 16 * 2**20  # bytes; the longest line of the known sources has less than a tenth of it
_SHOWN = 3  # malformed lines that are shown


class RawFile(NamedTuple):
    """A file on disk; or the file `member` of the archive at `path`; or, if that member is a tar, its file `inner`."""

    path: Path
    member: str = ""
    inner: str = ""

    def __str__(self) -> str:
        return ":".join(filter(None, (str(self.path), self.member, self.inner)))


class Files(NamedTuple):
    """Files of interactions, in order, and of item records; `absent` names the file of records if it is missing."""

    interactions: tuple[RawFile, ...]
    items: tuple[RawFile, ...] = ()
    absent: str = ""

    def paths(self) -> list[Path]:
        """Each file on disk once."""
        return list(dict.fromkeys(raw.path for raw in (*self.interactions, *self.items)))


@dataclass
class BadLines:
    """Counts malformed lines.

    Attributes:
      limit: more malformed lines than this are an error.
      flag: the flag that sets the limit; "" if there is none.
      found: the number of malformed lines.
      first: the first few, as "file, line n: what".
      read: number of rows that were read.
    """

    limit: int
    flag: str = "--max_bad_lines"
    found: int = 0
    first: list[str] = field(default_factory=list)
    read: int = 0

    def add(self, raw: RawFile | Path, number: int, what: str, last: int | None = None) -> None:
        """Counts a line, or those from `number` to `last` that were read as one.

        Raises:
          InputError: the limit is exceeded.
        """
        last = max(last or number, number)
        self.found += last - number + 1
        line = f"{raw}, line {number}: {what}"
        if len(self.first) < _SHOWN:
            self.first.append(line)
            if self.found <= self.limit:
                logging.warning("%s; left out", line)
        if self.found > max(self.limit, _SHOWN) and not self.read:
            raise InputError(
                f"{self.first[0]}; no line up to line {last} can be read either; check the file and the flags that "
                "say how to read it"
            )
        if self.found > self.limit:
            count = f"malformed lines up to {raw}, line {last}: {self.found}; expected at most {self.limit}; "
            raise InputError(f"{self.first[0]}; {count if self.limit else ''}{self._todo}")

    @property
    def _todo(self) -> str:
        return "check the file" + (f", or raise {self.flag}" if self.flag else "")

    def add_rows(self, path: Path, count: int, of: int, what: str) -> None:
        """Counts malformed rows of a binary table, whose rows have no line numbers.

        Args:
          path: the file, or the folder of files.
          count: number of malformed rows.
          of: number of all rows.
          what: is wrong with them; the message says "3 rows <what>".

        Raises:
          InputError: the limit is exceeded, or all rows are malformed.
        """
        self.read += of - count
        if not count:
            return
        self.found += count
        rows = "1 row" if count == 1 else f"{count} rows"
        self.first = [*self.first, f"{path}: {rows} {what}"][:_SHOWN]
        if count == of:
            raise InputError(f"{path}: all {rows} are {what}; check the file and the flags that say how to read it")
        if self.found > self.limit:
            most = f"at most {self.limit}" if self.limit else "none"
            raise InputError(f"{path}: {rows} {what}; expected {most}; {self._todo}")
        logging.warning("%s: %s %s; left out", path, rows, what)


def lines(raw: RawFile, quiet: bool = False, encoding: str = "") -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of every line that is not blank; a progress bar on a terminal.

    LF, CR LF and CR alone end a line. Another `encoding`, or UTF-16 by the first bytes, is converted to UTF-8.

    Raises:
      InputError: the file cannot be read, is damaged or cut short, or has a line longer than `MAX_LINE`.
    """
    at = [0]
    with _reading(raw, quiet, encoding, at) as (buffered, progress):
        number, rest = 0, b""
        while (line := buffered.readline(MAX_LINE)) or rest:
            if rest:
                line, rest = rest + line, b""
            if b"\r" in line and line.find(b"\r") < len(line) - 2:  # CR alone, as old Macs end lines
                *whole, last = line.split(b"\r")
                if last.endswith(b"\n") or len(line) < MAX_LINE:
                    whole.append(last)
                else:
                    rest = last
            else:
                whole = (line,)
            for one in whole:
                number += 1
                if len(one) >= MAX_LINE and not one.endswith(b"\n"):
                    raise _too_long(raw, number)
                if number % 4096 == 0:
                    progress()
                one = one.removeprefix(codecs.BOM_UTF8)  # on any line: files that were concatenated have several
                if one.strip():
                    at[0] = number
                    yield number, one.rstrip(b"\r\n")
            if len(rest) >= MAX_LINE:
                raise _too_long(raw, number + 1)


def blocks(raw: RawFile, encoding: str = "") -> Iterator[bytes]:
    """The file's bytes, in blocks of some hundred thousand, without a byte order mark; otherwise as `lines`."""
    at, first = [0], True
    with _reading(raw, False, encoding, at) as (buffered, progress):
        while block := buffered.read(2**18):
            at[0] += block.count(b"\n")
            progress()
            yield block.removeprefix(codecs.BOM_UTF8) if first else block
            first = False


def head(raw: RawFile, size: int = 4096) -> bytes:
    """The first bytes of the file, UTF-16 converted to UTF-8, without a byte order mark or leading blanks."""
    with _reading(raw, True, "", [0]) as (buffered, _):
        return buffered.read(size).removeprefix(codecs.BOM_UTF8).lstrip()


def check_encoding(name: str) -> None:
    """Raises InputError if there is no such text encoding."""
    try:
        "a".encode(name or "utf-8")
    except (LookupError, ValueError) as error:
        raise InputError(
            f"--encoding={repr(name)[1:-1][:40]}: is not an encoding that Python knows; expected one such as utf-8, "
            "cp1252, latin-1, utf-16, gbk or shift_jis"
        ) from error


@contextlib.contextmanager
def _reading(
    raw: RawFile, quiet: bool, encoding: str, at: list[int]
) -> Iterator[tuple[io.BufferedReader, Callable[[], None]]]:
    """The decompressed file, and a function that moves the progress bar; errors name the line in `at[0]`."""
    try:
        with raw.path.open("rb") as disk, _opened(raw, disk) as stream:
            size = raw.path.stat().st_size
            with tqdm(total=size, desc=raw.path.name, unit="B", unit_scale=True, disable=quiet or None) as bar:

                def progress() -> None:
                    if not raw.member:
                        bar.update(disk.tell() - bar.n)

                yield _utf8(io.BufferedReader(stream, 2**20), encoding), progress
    except archives.DAMAGED as error:
        raise archives.damaged(raw, error, at[0]) from error
    except UnicodeError as error:
        where = f" after line {at[0]}" if at[0] else ""
        raise InputError(
            f"{raw}: is not {encoding or 'UTF-16'} text{where} ({repr(str(error))[1:-1][:80]}); set the encoding "
            "with --encoding"
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a compression that zipfile does not know, or a password
        if isinstance(error, OSError) and error.errno is None:  # raised by gzip or tarfile, not by the system
            raise archives.damaged(raw, error, at[0]) from error
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{raw}: cannot be read ({reason}); expected a readable file") from error


def _too_long(raw: RawFile, number: int) -> InputError:
    return InputError(
        f"{raw}, line {number}: is longer than {MAX_LINE >> 20} MiB; expected a text file with one record per line; "
        "choose another file"
    )


def _utf8(stream: io.BufferedReader, encoding: str) -> io.BufferedReader:
    """The stream as UTF-8."""
    start = stream.peek(4)[:4]
    if not encoding and start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-32" if start == codecs.BOM_UTF32_LE else "utf-16"
    if not encoding or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return stream
    return io.BufferedReader(_Recoded(stream, encoding), 2**20)


class _Recoded(io.RawIOBase):
    """A text file in some encoding as UTF-8; invalid bytes stay as they are, so their line is malformed."""

    def __init__(self, stream: io.BufferedReader, encoding: str):
        self._text = io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline="")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if not self._rest:
            self._rest = self._text.read(2**16).encode("utf-8", "surrogateescape")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _opened(raw: RawFile, disk: BinaryIO) -> Any:
    """The stream of the file's own bytes, decompressed if they are gzipped."""
    stream: Any = disk
    if raw.member:
        kind = archives.kind_of(disk) or raw.path.suffix[1:]
        disk.seek(0)
        if kind == "zip":
            stream = zipfile.ZipFile(disk).open(raw.member)
        else:
            stream = tarfile.open(fileobj=disk).extractfile(raw.member)
    if raw.inner:
        archive = tarfile.open(fileobj=archives.plain(stream), mode="r|")
        stream = next((archive.extractfile(entry) for entry in archive if entry.name == raw.inner), None)
        if stream is None:
            raise EOFError
    name = raw.inner or raw.member or raw.path.name
    return gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else archives.plain(stream)


def json_objects(raw: RawFile, bad: BadLines) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a file with one JSON object per line; other lines are counted in `bad`."""
    return parsed(raw, bad, _json_object)


def parsed(raw: RawFile, bad: BadLines, parse: Callable[[bytes], Any]) -> Iterator[tuple[int, Any]]:
    """(line number, parsed line); lines for which `parse` raises Malformed are counted in `bad`."""
    for number, line in lines(raw):
        try:
            value = parse(line)
        except Malformed as error:
            bad.add(raw, number, f"found {repr(line[:60].decode(errors='replace'))}; expected {error}")
        else:
            yield number, value


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        what = "UTF-8 text" if isinstance(error, UnicodeDecodeError) else "one JSON object per line"
        raise Malformed(what) from error
    if not isinstance(value, dict):
        raise Malformed("one JSON object per line")
    return value

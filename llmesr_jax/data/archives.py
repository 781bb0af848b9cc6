"""Zip and tar archives, gzipped or not: their files, read without unpacking; unsafe paths are refused."""

from __future__ import annotations

import functools
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from llmesr_jax.core.errors import InputError

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_GZIP = b"\x1f\x8b"
_START = 4096  # bytes that tell a file's kind; if it is gzipped, they contain the first block of a tar
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError)


def is_archive(path: Path) -> bool:
    """Decides by content, and by name if the content says nothing, so that a damaged archive is reported."""
    try:
        with path.open("rb") as file:
            return bool(kind_of(file)) or path.name.endswith(_ARCHIVES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a readable file") from error


def kind_of(stream: BinaryIO) -> str:
    """zip, tar, or "" for neither, by the first bytes of a stream, which this reads."""
    start = stream.read(_START)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if start.startswith(_GZIP):
        try:
            start = zlib.decompressobj(wbits=31).decompress(start, tarfile.BLOCKSIZE)
        except zlib.error:
            return ""
    return "tar" if start[257:262] == b"ustar" else ""


@functools.lru_cache(maxsize=32)
def members(archive: Path, mtime_ns: int) -> dict[tuple[str, ...], int]:
    """The files of an archive, {(name,): size in bytes}, and of a tar within a zip, {(tar's name, name): size}.

    The result is cached, because listing a compressed tar reads it to its end. A tar within a zip is read as a stream.

    Args:
      archive: a zip or a tar.
      mtime_ns: its time of change, so that a changed file is listed again.

    Raises:
      InputError: the archive is damaged, or an entry points outside of it, as only in a harmful archive.
    """
    found: dict[tuple[str, ...], int] = {}
    names: list[str] = []
    try:
        with archive.open("rb") as disk:
            kind = kind_of(disk) or archive.suffix[1:]
            disk.seek(0)
            if kind == "zip":
                with zipfile.ZipFile(disk) as opened:
                    entries = opened.infolist()
                    names += [info.filename for info in entries]
                    for info in entries:
                        if info.filename and not info.is_dir():
                            found[(info.filename,)] = info.file_size
                            if _may_be_archive(info):
                                with opened.open(info) as stream:
                                    inner = _nested(stream)
                                names += inner
                                found |= {(info.filename, name): size for name, size in inner.items() if size >= 0}
            else:
                with tarfile.open(fileobj=disk) as opened:
                    entries = opened.getmembers()
                    if opened.fileobj is disk:  # compressed ones have checksums of their own
                        _check_end(opened)
                names += [entry.name for entry in entries] + [e.linkname for e in entries if e.issym() or e.islnk()]
                found |= {(entry.name,): entry.size for entry in entries if entry.isfile()}
    except (*DAMAGED, OSError, ValueError, RuntimeError) as error:  # zipfile raises all of these
        raise damaged(archive, error) from error
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name[:2]:
            raise InputError(
                f"{archive}: refused, as its entry {repr(name)[:80]} points outside the archive's folder; expected "
                "only paths inside it; download the archive from its source again"
            )
    return found


def _may_be_archive(info: zipfile.ZipInfo) -> bool:
    """Whether to look inside a zip's entry: a tar or a name without an ending, and not encrypted."""
    at = PurePosixPath(info.filename)
    return "__MACOSX" not in at.parts and (at.name.endswith(_ARCHIVES[1:]) or not at.suffix) and not info.flag_bits & 1


def _nested(stream: BinaryIO) -> dict[str, int]:
    """{name: size in bytes} of the files of a tar inside a zip; -1 for what is not a file; empty if it is not a tar."""
    start = io.BufferedReader(stream, _START)
    if kind_of(io.BytesIO(start.peek(_START))) != "tar":
        return {}
    found, unzipped = {}, plain(start)
    with tarfile.open(fileobj=unzipped, mode="r|") as opened:
        for entry in opened:
            found[entry.name] = entry.size if entry.isfile() else -1
            if entry.issym() or entry.islnk():
                found[entry.linkname] = -1
    while unzipped.read(2**20):  # up to the checksums
        pass
    if unzipped.tell() < opened.offset + tarfile.BLOCKSIZE:  # no block of zeros ends it
        raise EOFError
    return found


def plain(stream: Any) -> Any:
    """The stream, decompressed if it is gzipped; tarfile's own streams check neither its end nor its checksum."""
    return gzip.GzipFile(fileobj=stream) if stream.peek(2).startswith(_GZIP) else stream


def _check_end(archive: tarfile.TarFile) -> None:
    """Raises EOFError if the block of zeros that ends a tar is missing, which tarfile itself ignores."""
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise EOFError


def damaged(raw: Path | NamedTuple, error: Exception, number: int = 0) -> InputError:
    """The error for a file that is damaged or cut short, as found after line `number` (0: not known)."""
    what = "is cut short" if isinstance(error, EOFError) else f"is damaged ({repr(str(error))[1:-1][:80]})"
    where = f" after line {number}" if number else ""
    return InputError(f"{raw}: {what}{where}; expected a whole file; copy or download it again")

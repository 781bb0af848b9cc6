"""Files that are never half written, and the digest of a file."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_BLOCK = 2**22  # bytes read at once
_LONG = 2**28  # bytes from which a progress bar is shown


@contextlib.contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary file to write, which replaces `path` when the block ends; after an error `path` is unchanged.

    Args:
      path: the file to replace; its folder exists.
      partial: where the file is written until then; by default `path` with `.partial` after its name.
    """
    partial = partial or path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replaces a file by this text, in UTF-8, atomically."""
    with replacing(path) as file:
        file.write(text.encode())


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex digits; a large file shows a progress bar on a terminal.

    Raises:
      OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < _LONG:
            return hashlib.file_digest(file, "sha256").hexdigest()
        # Imported here: a process that only loads a bundle may have no packages but jax and numpy.
        from tqdm import tqdm

        digest = hashlib.sha256()
        with tqdm(total=size, desc=f"digest of {path.name}", unit="B", unit_scale=True, disable=None) as bar:
            while block := file.read(_BLOCK):
                digest.update(block)
                bar.update(len(block))
    return digest.hexdigest()

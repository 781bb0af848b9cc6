"""Bytes to text. Without a named encoding, a file is UTF-8; other bytes are read as Windows-1252, and counted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.raw_files import BadLines, RawFile, blocks, lines

_BROKEN = re.compile("[\udc80-\udcff]")


class Text:
    """The text of one file.

    Attributes:
      raw: the file.
      encoding: its encoding; "" if the user named none.
      windows: number of lines, so far, with bytes that were read as Windows-1252.
    """

    def __init__(self, raw: RawFile, encoding: str = ""):
        self.raw, self.encoding, self.windows = raw, encoding, 0

    def lines(self, bad: BadLines | None) -> Iterator[tuple[int, str]]:
        """(number from 1, line without its end); a line that is not valid in the named encoding is counted in `bad`.

        Without `bad` such lines are skipped silently, and no progress is shown: for a first look at a file.
        """
        for number, line in lines(self.raw, quiet=bad is None, encoding=self.encoding):
            try:
                yield number, line.decode()
            except UnicodeDecodeError:
                if not self.encoding:
                    self.windows += 1
                    yield number, _as_windows(line.decode(errors="surrogateescape"))
                elif bad is not None:
                    bad.add(self.raw, number, f"found {repr(line[:60])[2:-1]}; expected {self.encoding} text")

    def check_first(self) -> None:
        """Raises InputError if the first line is not valid in the named encoding, so that no header is skipped."""
        for number, line in lines(self.raw, quiet=True, encoding=self.encoding) if self.encoding else ():
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.raw}, line {number}: is not text in --encoding={self.encoding}, as it has "
                    f"{repr(line[:60])[1:]}; expected the columns' names; set --encoding to the file's encoding, such "
                    "as cp1252"
                ) from error
            return

    def blocks(self) -> Iterator[str]:
        """The whole text, in blocks that end at the end of a line or, where lines are long, anywhere."""
        rest = b""
        for block in blocks(self.raw, self.encoding):
            block = rest + block
            # A character may be cut in two, so the last few bytes wait for the next block.
            end = block.rfind(b"\n") + 1 or max(len(block) - 4, 0)
            while 0 < end < len(block) and block[end] & 0xC0 == 0x80:
                end -= 1
            block, rest = block[:end], block[end:]
            yield self._decoded(block)
        if rest:
            yield self._decoded(rest)

    def _decoded(self, block: bytes) -> str:
        try:
            return block.decode()
        except UnicodeDecodeError:
            text = block.decode(errors="surrogateescape")
            self.windows += sum(bool(_BROKEN.search(line)) for line in text.split("\n"))
            return _as_windows(text)

    def note(self) -> str:
        """A note for the user after the file is read; "" for none."""
        if not self.windows:
            return ""
        many = "1 line has" if self.windows == 1 else f"{self.windows:,} lines have"
        return (
            f"{self.raw.path.name}: {many} bytes that are not UTF-8; these were read as Windows-1252 (almost the same "
            "as ISO-8859-1); --encoding sets another encoding"
        )


def _as_windows(text: str) -> str:
    """Bytes that are not UTF-8, as Windows-1252; the five bytes that Windows-1252 does not define, as ISO-8859-1."""
    return _BROKEN.sub(lambda found: _character(ord(found[0]) - 0xDC00), text)


def _character(byte: int) -> str:
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)

"""Readers of raw data, one file per source, found by the file's name (`launch.prepare --importer=<name>`).

Such a file has the members of `Importer`. It counts malformed lines in `reader.bad`, and converts text to Parquet by
`reader.stage` (`data.staging.Reader`).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    import polars as pl

    from llmesr_jax.data.raw_files import Files
    from llmesr_jax.data.staging import Reader


class Downloads(NamedTuple):
    """Public files of a source.

    Attributes:
      base_url: what the paths are relative to; "" if there is no public address, see `terms`.
      paths: of the files below it; each file is named by the path's last part.
      terms: what the user must do by hand first; "" for nothing.
      sha256: {name: digest} of files that are known not to change.
    """

    base_url: str
    paths: tuple[str, ...]
    terms: str = ""
    sha256: Mapping[str, str] = {}


class Importer(Protocol):
    """What the file of an importer must have."""

    @property
    def Options(self) -> type:
        """Frozen dataclass of knobs; each field is a flag of `launch.prepare` by its name."""
        ...

    @property
    def ITEM_ID(self) -> str:
        """The source's name for an item's id; also the field's name in items.jsonl."""
        ...

    @property
    def PREPARED(self) -> bool:
        """Whether the source is already filtered and numbered.

        If so, everything is kept by default, and ids keep their order.
        """
        ...

    def locate(self, folder: Path, options: Any, /) -> Files:
        """The raw files in a folder; an InputError names the files that it must contain."""
        ...

    def interactions(self, files: Files, options: Any, reader: Reader, /) -> pl.LazyFrame:
        """The interactions, in file order.

        Columns: user, item (String) and, if the source has them, rating (Float64) and time (Int64, microseconds since
        1970, see `data.times`).
        """
        ...

    def items(
        self, files: Files, options: Any, reader: Reader, wanted: Container[str], /
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(raw id, {field: value}) of item records, with field names as `semantic.prompts` expects them.

        Args:
          wanted: raw ids of the items that are needed; records of others may come too, and are left out.
        """
        ...

    def downloads(self, options: Any, /) -> Downloads:
        """The public files of the source, for `--download`."""
        ...


PLUGINS: Plugins[Importer] = Plugins("importer", __name__, Importer)

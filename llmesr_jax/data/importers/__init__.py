"""Readers of raw data, one file per source, found by the file's name (`launch.prepare --importer=<name>`).

Such a file has the members of `Importer`. `reader.bad` counts malformed lines; text is staged as Parquet by
`reader.stage`.
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

        Then no rule is the default, and ids keep their order.
        """
        ...

    def locate(self, folder: Path, options: Any, /) -> Files:
        """The raw files; an InputError names the files that were searched."""
        ...

    def interactions(self, files: Files, options: Any, reader: Reader, /) -> pl.LazyFrame:
        """user, item (String), rating (Float64), time (Int64, microseconds since 1970; `data.times`), in file order;
        the last two if the source has them."""
        ...

    def items(
        self, files: Files, options: Any, reader: Reader, wanted: Container[str], /
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(raw id, {field: value}): records of the given items, maybe of others; names of fields as `semantic.prompts`
        expects them."""
        ...

    def downloads(self, options: Any, /) -> Downloads:
        """Where the public files are."""
        ...


PLUGINS: Plugins[Importer] = Plugins("importer", __name__, Importer)

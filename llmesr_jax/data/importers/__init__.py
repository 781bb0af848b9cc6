"""Readers of raw data, one file a source, found by the file's name (`launch.prepare --importer=<name>`).

What such a file has is `Importer`. Malformed lines go to `reader.bad`, which counts them; text is staged as Parquet by
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
      base_url: what the paths are relative to; "" where no address may be given, see `terms`.
      paths: of the files below it; each is kept under its last part.
      terms: what must be done by hand first; "" for nothing.
      sha256: {name: digest} of those files that are known to stay as they are.
    """

    base_url: str
    paths: tuple[str, ...]
    terms: str = ""
    sha256: Mapping[str, str] = {}


class Importer(Protocol):
    """What the file of an importer has."""

    @property
    def Options(self) -> type:
        """Frozen dataclass of knobs; each field is a flag of `launch.prepare` by its name."""
        ...

    @property
    def ITEM_ID(self) -> str:
        """What the source calls an item's id; its name in items.jsonl."""
        ...

    @property
    def PREPARED(self) -> bool:
        """Whether the source was filtered and numbered already.

        Then no rule is the default, and ids keep their order.
        """
        ...

    def locate(self, folder: Path, options: Any, /) -> Files:
        """The raw files; an InputError names what was looked for."""
        ...

    def interactions(self, files: Files, options: Any, reader: Reader, /) -> pl.LazyFrame:
        """user, item (String), rating (Float64), time (Int64, microseconds since 1970; `data.times`), in file order;
        the last two where the source says them."""
        ...

    def items(
        self, files: Files, options: Any, reader: Reader, wanted: Container[str], /
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(raw id, {field: value}): records of wanted items, maybe of others; names of fields as `semantic.prompts`
        looks for them."""
        ...

    def downloads(self, options: Any, /) -> Downloads:
        """Where its public files are."""
        ...


PLUGINS: Plugins[Importer] = Plugins("importer", __name__, Importer)

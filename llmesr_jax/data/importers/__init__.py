"""Readers of raw data, one file a source, found by the file's name (`launch.prepare --importer=<name>`).

An importer has

    Options                 frozen dataclass of `knob`s; each field is a flag of launch.prepare
    ITEM_ID                 what the source calls an item's id; its name in items.jsonl
    PREPARED                whether the source was filtered and numbered already: then no rule is the default, and ids
                            keep their order
    locate(folder, options) -> Files            the raw files; an InputError names what was looked for
    interactions(files, options, reader) -> LazyFrame    user, item (String), rating (Float64), time (Int64,
                            microseconds since 1970; `data.times`), the last two where the source says them, in file
                            order
    items(files, options, reader, wanted) -> iterator of (raw id, {field: value})    records of wanted items, maybe of
                            others; field names as `semantic.prompts` looks for them
    downloads(options) -> Downloads             where its public files are

Malformed lines go to `reader.bad`, which counts them; text is staged as Parquet by `reader.stage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from llmesr_jax.core.plugins import Plugins

PLUGINS = Plugins("importer", __name__)


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

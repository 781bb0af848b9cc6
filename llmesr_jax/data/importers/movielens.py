"""MovieLens 1M: `ratings.dat` and `movies.dat`, in their folder or in `ml-1m.zip`.

Lines are "user::movie::rating::seconds" and "movie::title (year)::Genre|Genre", in Latin-1 (or UTF-8).
https://files.grouplens.org/datasets/movielens/ml-1m-README.txt
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.data import times
from llmesr_jax.data.importers import Downloads
from llmesr_jax.data.raw_files import Files, check_folder, find, parsed
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed, identifier, number
from llmesr_jax.errors import InputError

ITEM_ID = "movie_id"
PREPARED = False


@dataclasses.dataclass(frozen=True)
class Options:
    """There are none."""


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, "ml-1m.zip, or its ratings.dat and movies.dat")
    inside = folder / "ml-1m"
    folder = inside if inside.is_dir() else folder
    ratings, movies = find(folder, "ratings.dat"), find(folder, "movies.dat")
    if ratings is None:
        raise InputError(
            f"{folder}: holds no ratings.dat; wanted it (and movies.dat for the item texts), or ml-1m.zip; fetch it "
            "with --download, or name its folder with --raw_dir"
        )
    return Files((ratings,), (movies,)) if movies else Files((ratings,), absent="movies.dat")


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    rows = (row for raw in files.interactions for _, row in parsed(raw, reader.bad, _rating))
    return reader.stage(rows, ("user", "item", "rating", "time"))


def _rating(line: bytes) -> tuple[str, str, float, int]:
    user, item, rating, time = _fields(line, 4, "user::movie::rating::seconds")
    return identifier(user), identifier(item), number(rating), times.from_number(time)


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for raw in files.items:
        yield from (record for _, record in parsed(raw, reader.bad, _movie))


def _movie(line: bytes) -> tuple[str, dict[str, Any]]:
    movie, title, genres = _fields(line, 3, "movie::title (year)::Genre|Genre")
    return identifier(movie), {"title": title, "categories": [genre for genre in genres.split("|") if genre]}


def _fields(line: bytes, count: int, wanted: str) -> list[str]:
    try:
        fields = line.decode("utf-8").split("::")
    except UnicodeDecodeError:  # as the publisher writes it
        fields = line.decode("latin-1").split("::")
    if len(fields) != count:
        raise Malformed(f'"{wanted}"')
    return fields


def downloads(options: Options) -> Downloads:
    digest = "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"
    return Downloads("https://files.grouplens.org/datasets/movielens/", ("ml-1m.zip",), sha256={"ml-1m.zip": digest})

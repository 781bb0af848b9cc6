"""MovieLens in all its releases: 100K, 1M, 10M, 20M, 25M, 32M and latest, as their zip or unpacked.

100K has u.data (tabs) and u.item ("|", a flag for each genre; their names are in u.genre); 1M and 10M have ratings.dat
and movies.dat ("::"); the others have ratings.csv and movies.csv, with a header. Titles are in Latin-1 or UTF-8.
https://grouplens.org/datasets/movielens/
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data.importers import Downloads, _records
from llmesr_jax.data.raw_files import Files, RawFile, lines, parsed
from llmesr_jax.data.raw_folders import Place, check_folder, places
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed

ITEM_ID = "movie_id"
PREPARED = False
# In order of their flags in u.item, as u.genre has them.
_GENRES = (
    "unknown,Action,Adventure,Animation,Children's,Comedy,Crime,Documentary,Drama,Fantasy,Film-Noir,Horror,Musical,"
    "Mystery,Romance,Sci-Fi,Thriller,War,Western"
).split(",")
_FIRST_FLAG = 5  # after id, title, two dates and an address
_FOLDERS = {  # the folder in the release's zip
    "100k": "ml-100k",
    "1m": "ml-1m",
    "10m": "ml-10M100K",
    "20m": "ml-20m",
    "25m": "ml-25m",
    "32m": "ml-32m",
    "latest": "ml-latest",
    "latest-small": "ml-latest-small",
}
_DIGESTS = {"ml-1m.zip": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"}


class _Format(NamedTuple):
    """The files of some releases: their names, the releases, and the form of a row of ratings and of movies."""

    ratings: str
    movies: str
    releases: tuple[str, ...]
    rating: str
    movie: str


_FORMATS = (
    _Format(
        "u.data", "u.item", ("100k",), "user<tab>movie<tab>rating<tab>seconds", "movie|title (year)|date||url|0|1|..."
    ),
    _Format(
        "ratings.dat", "movies.dat", ("1m", "10m"), "user::movie::rating::seconds", "movie::title (year)::Genre|Genre"
    ),
    _Format(
        "ratings.csv",
        "movies.csv",
        ("20m", "25m", "32m", "latest", "latest-small"),
        "userId,movieId,rating,timestamp",
        "movieId,title,genres",
    ),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Which release."""

    release: str = knob(
        "",
        "MovieLens: the release, such as 25m; empty: the release in --raw_dir (--download: 1m)",
        choices=("", *_FOLDERS),
    )


class _Found(NamedTuple):
    """A release: its name ("" if the folder does not show it), format and files, and the ratings' size in bytes."""

    name: str
    format: _Format
    ratings: RawFile
    items: tuple[RawFile, ...]
    size: int


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, "MovieLens' zip, or its files")
    found: list[_Found] = []
    for level in places(folder):
        for place in level:
            for one in _releases(place):
                # A zip and the folder that was unpacked from it count once.
                if not any((one.format, one.size) == (other.format, other.size) for other in found):
                    found.append(one)
    there = [one for one in found if not options.release or _may_be(one, options.release)]
    if not there:
        wanted = [f for f in _FORMATS if not options.release or options.release in f.releases]
        what = f"; it has {', '.join(map(_told, found))}" if found else ""
        download = f" with --download{f' --release={options.release}' if options.release else ' (1M)'}"
        raise InputError(
            f"{folder}: has no "
            f"{' or '.join(f.ratings for f in wanted)}{' of ' * bool(options.release)}{_FOLDERS.get(options.release, '')}{what}; "
            f"expected the zip of a release, or its files, {wanted[0].movies} for the item texts; download the "
            f"release{download}, or set --raw_dir to its folder"
        )
    if len(there) > 1:
        raise InputError(
            f"{folder}: has {len(there)} releases ({', '.join(map(_told, there))}); expected one; choose it with "
            "--release, or set --raw_dir to a folder that has only this one"
        )
    (one,) = there
    return Files((one.ratings,), one.items, absent="" if one.items else one.format.movies)


def _releases(place: Place) -> Iterator[_Found]:
    for form in _FORMATS:
        ratings, movies, genres = (
            next((place.files[n] for n in (name, f"{name}.gz") if n in place.files), None)
            for name in (form.ratings, form.movies, "u.genre")
        )
        if ratings is not None:
            raw, size = ratings
            names = [_stem(name) for name in (place.name, raw.path.name)]
            release = next((r for r in form.releases if {_FOLDERS[r], f"ml-{r}"} & set(names)), "")
            items = [] if movies is None else [movies[0], *([genres[0]] if genres and form.movies == "u.item" else [])]
            yield _Found(release, form, raw, tuple(items), size)


def _stem(name: str) -> str:
    return name.removesuffix(".zip")


def _may_be(one: _Found, release: str) -> bool:
    return one.name == release or (not one.name and release in one.format.releases)


def _told(one: _Found) -> str:
    return f"{_FOLDERS[one.name]}: {one.ratings.path.name}" if one.name else str(one.ratings)


def _format(raw: RawFile) -> _Format:
    name = PurePosixPath(raw.inner or raw.member or raw.path.name).name.removesuffix(".gz")
    return next(form for form in _FORMATS if name in (form.ratings, form.movies))


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    (raw,) = files.interactions
    form = _format(raw)
    split, header = _splitter(form, form.rating), _header(raw, form.rating)

    def rows() -> Iterator[tuple]:
        for line, fields in parsed(raw, reader.bad, split):
            if line == header:
                continue
            try:
                user, item = _records.read(fields[0]), _records.read(fields[1])
                if why := _records.lacking(user, item, fields[2], reader):
                    reader.dropped[why] += 1
                    continue
                yield user, item, _records.stars(fields[2], reader), _records.moment(fields[3])
            except Malformed as error:
                reader.bad.add(raw, line, f"expected {error}")

    return reader.stage(rows(), ("user", "item", "rating", "time"))


def _splitter(form: _Format, wanted: str) -> Callable[[bytes], list[str]]:
    """A line's fields; one that has too few or too many is malformed."""
    separator = {"u.data": "\t", "ratings.dat": "::", "ratings.csv": ","}[form.ratings]
    if wanted == form.movie and form.ratings == "u.data":
        separator = "|"
    count = 4 if wanted == form.rating else 3

    def split(line: bytes) -> list[str]:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:  # the old releases are in Latin-1
            text = line.decode("latin-1")
        try:
            fields = next(csv.reader([text])) if separator == "," and '"' in text else text.split(separator)
        except csv.Error:
            fields = []
        if len(fields) != count and not (separator == "|" and len(fields) >= count):
            raise Malformed(f'"{wanted}"')
        return fields

    return split


def _header(raw: RawFile, wanted: str) -> int:
    """The number of the header line; 0 if there is none, as in files that were cut.

    Raises:
      InputError: the header has other columns.
    """
    if "," not in wanted:
        return 0
    number, first = next(iter(lines(raw, quiet=True)), (0, b""))
    names = first.decode("latin-1").replace('"', "").replace(" ", "").lower()
    if names == wanted.lower():
        return number
    if first and not names.split(",")[0].isdigit():
        raise InputError(
            f"{raw}, line {number}: has the columns {repr(first.decode('latin-1'))[1:-1][:200]}; expected {wanted}, as "
            "in MovieLens; read the file with --importer=table and its column flags"
        )
    return 0


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if not files.items:
        return
    raw, *beside = files.items
    form = _format(raw)
    header = _header(raw, form.movie)
    genres = (_genre_names(beside[0]) if beside else _GENRES) if form.movies == "u.item" else []
    for line, fields in parsed(raw, reader.bad, _splitter(form, form.movie)):
        if line == header:
            continue
        try:
            movie = _records.read(fields[0])
        except Malformed as error:
            reader.bad.add(raw, line, f"expected {error}")
            continue
        if movie is None:
            reader.dropped[_records.NO_ITEM] += 1
        elif not genres:
            listed = [genre for genre in fields[2].split("|") if genre and genre != "(no genres listed)"]
            yield movie, {"title": fields[1], "categories": listed}
        else:
            flags = fields[_FIRST_FLAG:]
            listed = [genre for genre, flag in zip(genres, flags) if flag.strip() == "1" and genre != "unknown"]
            if len(flags) != len(genres):  # it is not known which flag means which genre
                reader.note(
                    f"{raw.path.name}: a movie has {len(flags)} genre flags, not {len(genres)}, so its genres are "
                    "left out"
                )
                listed = []
            yield movie, {"title": fields[1], "categories": listed, "release_date": fields[2]}


def _genre_names(raw: RawFile) -> list[str]:
    """The genres in order of their flags; the file has "Action|1" per line.

    Raises:
      InputError: the file does not have a name for each number from 0.
    """
    found = dict(line.decode("latin-1").strip().rpartition("|")[::-2] for _, line in lines(raw, quiet=True))
    if set(found) != {str(n) for n in range(len(found))}:
        raise InputError(
            f'{raw}: has no genre for some number; expected "Action|1" per line, with each number from 0; copy the '
            "file again, or remove it"
        )
    return [found[str(n)] for n in range(len(found))]


def downloads(options: Options) -> Downloads:
    name = f"ml-{options.release or '1m'}.zip"
    digests = {name: _DIGESTS[name]} if name in _DIGESTS else {}
    return Downloads("https://files.grouplens.org/datasets/movielens/", (name,), sha256=digests)

"""Raw files in the exact format of each source, oddities included, made from one small list of interactions.

args = write("amazon2014", folder)   # flags that name the source and its options
ROWS, TITLES                         # what every one of them says
"""

from __future__ import annotations

import datetime
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

# (user, item, rating, seconds) in file order. Users a to e read items in time order; two of c's times are the same.
DAY = 86_400
START = 1_262_304_000  # 2010-01-01
ROWS = [
    ("a", "x", 5.0, START + 3 * DAY),
    ("b", "y", 4.0, START + 1 * DAY),
    ("a", "y", 1.0, START + 1 * DAY),
    ("c", "z", 3.0, START + 7 * DAY),
    ("c", "x", 3.0, START + 7 * DAY),
    ("a", "z", 4.0, START + 2 * DAY),
    ("b", "x", 2.0, START + 5 * DAY),
    ("b", "z", 5.0, START + 4 * DAY),
    ("c", "w", 5.0, START + 6 * DAY),
    ("c", "x", 4.0, START + 9 * DAY),
    ("a", "w", 5.0, START + 4 * DAY),
    ("d", "v", 5.0, START + 4 * DAY),
]
# Numbers by hand: users a 1, b 2, c 3, d 4 as they appear; a's items in time order y z x w, then d's v.
SEQUENCES = {1: [1, 2, 3, 4], 2: [1, 2, 3], 3: [4, 2, 3, 3], 4: [5]}
USERS, ITEMS = ["a", "b", "c", "d"], ["y", "z", "x", "w", "v"]
TITLES = {"x": 'Rose & "Thorn" balm', "y": "Comb", "z": "", "w": "Köln water", "v": ""}


def gzipped(path: Path, lines: Iterable[str]) -> Path:
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
    return path


def dumps(record: dict) -> str:
    return json.dumps(record)


def _reviews(user: str, item: str, rating: str, time: str, scale: int = 1) -> list[str]:
    texts = {"reviewText": "Good.\nBuy {it}", "summary": "", "helpful": [0, 1], "style": {"Size:": " M"}}
    return [dumps({user: u, item: i, rating: r, time: t * scale, **texts}) for u, i, r, t in ROWS]


def amazon2014(folder: Path) -> list[str]:
    gzipped(folder / "reviews_Beauty.json.gz", _reviews("reviewerID", "asin", "overall", "unixReviewTime"))
    # Metadata are Python literals: single quotes, None, nested lists; some without title, or for nobody.
    records = [
        {"asin": "x", "title": "Rose &amp; &quot;Thorn&quot; balm", "price": 3.17, "brand": "Ada's",
         "imUrl": "http://x/y.jpg", "related": {"also_bought": ["y"]}, "salesRank": {"Beauty": 7},
         "categories": [["Beauty", "Skin Care"], ["Health"]], "description": 'It\'s "new"\\d'},
        {"asin": "nobody's", "title": "Lamp"},
        {"asin": "y", "title": "Comb", "categories": [["Beauty"]], "description": None, "price": 1},
        {"asin": "y", "title": "Comb again"},
        {"asin": "z", "categories": [["Beauty", "Hair Care"]], "salesRank": {}},
        {"asin": "w", "title": "Köln water", "description": "  two\n lines "},
    ]  # fmt: skip
    gzipped(folder / "meta_Beauty.json.gz", map(repr, records))
    return ["--importer=amazon2014", "--category=Beauty"]


def amazon2018(folder: Path) -> list[str]:
    gzipped(folder / "AMAZON_FASHION.json.gz", _reviews("reviewerID", "asin", "overall", "unixReviewTime"))
    records = [
        {"asin": "x", "title": "Rose &amp; &quot;Thorn&quot; balm", "brand": "Ada", "price": "$1.99 - $3.50", "feature":
         ["Soft", "Imported &amp; tested"], "description": ["One.", "Two."], "date": "5 star5 star (0%)",
         "also_buy": ["y"], "image": ["http://x"], "rank": ["1 in Fashion"], "category": ["Fashion", "Women"]},
        {"asin": "y", "title": "Comb", "description": "A string.", "price": ".a-box-inner{background-color:#fff}"},
        {"asin": "y", "title": "Comb again"},
        {"asin": "z", "title": "var aPageStart = (new Date()).getTime();", "feature": [], "description": []},
        {"asin": "w", "title": "Köln water", "brand": "", "price": ""},
    ]  # fmt: skip
    gzipped(folder / "meta_AMAZON_FASHION.json.gz", map(dumps, records))
    return ["--importer=amazon2018", "--category=AMAZON_FASHION"]


def amazon2023(folder: Path) -> list[str]:
    gzipped(folder / "All_Beauty.jsonl.gz", _reviews("user_id", "parent_asin", "rating", "timestamp", 1000))
    records = [
        {"parent_asin": "x", "title": "Rose &amp; &quot;Thorn&quot; balm", "price": 3.5, "store": "Ada", "features": [],
         "description": ["One."], "categories": [], "images": [{"thumb": "http://x"}], "videos": [],
         "details": {"Brand": "Eve", "Date First Available": "May 1, 2019"}, "main_category": "All Beauty"},
        {"parent_asin": "y", "title": "Comb", "price": None, "store": "Ada", "details": {}},
        {"parent_asin": "z", "title": None, "price": "from 14.99"},
        {"parent_asin": "w", "title": "Köln water", "bought_together": None},
    ]  # fmt: skip
    gzipped(folder / "meta_All_Beauty.jsonl.gz", map(dumps, records))
    return ["--importer=amazon2023", "--category=All_Beauty"]


def amazon2014_ratings(folder: Path) -> list[str]:
    lines = [f"{u},{i},{r},{t}" for u, i, r, t in ROWS]
    (folder / "ratings_Beauty.csv").write_text("".join(f"{line}\n" for line in lines))
    gzipped(folder / "meta_Beauty.json.gz", [repr({"asin": i, "title": t}) for i, t in TITLES.items() if t])
    return ["--importer=amazon2014", "--category=Beauty"]


def amazon2018_ratings(folder: Path) -> list[str]:
    lines = [f"{i},{u},{r},{t}" for u, i, r, t in ROWS]  # the item stands first
    (folder / "Toys_and_Games.csv").write_text("".join(f"{line}\n" for line in lines))
    gzipped(folder / "meta_Toys_and_Games.json.gz", [dumps({"asin": i, "title": t}) for i, t in TITLES.items() if t])
    return ["--importer=amazon2018", "--category=Toys_and_Games"]


def amazon2023_ratings(folder: Path) -> list[str]:
    lines = ["user_id,parent_asin,rating,timestamp,history"] + [f"{u},{i},{r},{t}123,q r" for u, i, r, t in ROWS]
    gzipped(folder / "Toys_and_Games.csv.gz", lines)
    records = [dumps({"parent_asin": i, "title": t, "details": '{"Brand": "Eve"}'}) for i, t in TITLES.items() if t]
    gzipped(folder / "meta_Toys_and_Games.jsonl.gz", records)
    return ["--importer=amazon2023", "--category=Toys_and_Games", "--subset=ratings"]


def yelp(folder: Path) -> list[str]:
    files = {f"yelp_academic_dataset_{kind}.json": content for kind, content in _yelp().items()}
    (folder / "yelp_dataset.tar").write_bytes(tarred(files))  # as Yelp gave it out: one tar of all files
    return ["--importer=yelp"]


def yelp_zip(folder: Path) -> list[str]:
    """As Yelp gives it out now: a zip with the tar and a Mac's leftovers; the release of 2018 had shorter names."""
    with zipfile.ZipFile(folder / "Yelp-JSON.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Yelp JSON/Yelp Dataset Documentation.pdf", b"%PDF-1.4")
        archive.writestr("Yelp JSON/yelp_dataset", tarred({f"{k}.json": v for k, v in _yelp().items()}, "w:gz"))
        archive.writestr("__MACOSX/Yelp JSON/._yelp_dataset.tar", b"\0\5\x16\7")
    return ["--importer=yelp"]


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar of these files."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode=mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return found.getvalue()


def _yelp() -> dict[str, bytes]:
    dates = [_iso(t) for *_, t in ROWS]
    reviews = [
        dumps(
            {"review_id": str(n), "user_id": u, "business_id": i, "stars": r, "date": date, "text": "Ok", "useful": 0}
        )
        for n, ((u, i, r, _), date) in enumerate(zip(ROWS, dates))
    ]
    records = [
        {"business_id": "x", "name": 'Rose &amp; "Thorn" balm', "city": "Köln", "stars": 4.5, "review_count": 7,
         "is_open": 1, "categories": "Food, Balms", "hours": None, "attributes": {"WiFi": "u'no'"}, "latitude": 1.5},
        {"business_id": "y", "name": "Comb", "open": False, "type": "business", "categories": ["Hair"], "stars": 3.0},
        {"business_id": "w", "name": "Köln water", "categories": None},
    ]  # fmt: skip
    lines = {"review": reviews, "business": map(dumps, records)}
    return {kind: "".join(f"{line}\n" for line in of).encode() for kind, of in lines.items()}


def _iso(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def movielens(folder: Path) -> list[str]:
    ratings = "".join(f"{u}::{i}::{r:.0f}::{t}\n" for u, i, r, t in ROWS)
    movies = 'x::Rose & "Thorn" balm::Drama|War\ny::Comb::Comedy\nw::Köln water::Drama\n'
    with zipfile.ZipFile(folder / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", ratings)
        archive.writestr("ml-1m/movies.dat", movies.encode("latin-1"))
    return ["--importer=movielens"]


def movielens_100k(folder: Path) -> list[str]:
    ratings = "".join(f"{u}\t{i}\t{r:.0f}\t{t}\n" for u, i, r, t in ROWS)
    # The flags of Drama and War; of Comedy; of Drama.
    flags = {"x": (8, 17), "y": (5,), "w": (8,)}
    movies = "".join(
        f"{i}|{TITLES[i]}|01-Jan-1995||http://x|{'|'.join(str(int(n in ones)) for n in range(19))}\n"
        for i, ones in flags.items()
    )
    (folder / "ml-100k").mkdir()
    (folder / "ml-100k" / "u.data").write_text(ratings)
    (folder / "ml-100k" / "u.item").write_bytes(movies.encode("latin-1"))
    return ["--importer=movielens", "--release=100k"]


def movielens_25m(folder: Path) -> list[str]:
    ratings = "userId,movieId,rating,timestamp\r\n" + "".join(f"{u},{i},{r},{t}\r\n" for u, i, r, t in ROWS)
    movies = 'movieId,title,genres\r\nx,"Rose & ""Thorn"" balm",Drama|War\r\ny,Comb,(no genres listed)\r\n'
    with zipfile.ZipFile(folder / "ml-25m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-25m/tags.csv", "userId,movieId,tag,timestamp\r\n")
        archive.writestr("ml-25m/ratings.csv", ratings)
        archive.writestr("ml-25m/movies.csv", f"{movies}w,Köln water,Drama\r\n")
    return ["--importer=movielens"]


def recbole(folder: Path) -> list[str]:
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    lines += [f"{u}\t{i}\t{r}\t{t}.0" for u, i, r, t in ROWS]
    (folder / "shop.inter").write_text("".join(f"{line}\n" for line in lines))
    items = 'item_id:token\tmovie_title:token_seq\tclass:token_seq\nx\tRose & "Thorn" balm\tA B\n'
    items += "y\tComb\t\nw\tKöln water\tC\n"
    (folder / "shop.item").write_text(items, encoding="utf-8")
    return ["--importer=recbole"]


def csv(folder: Path) -> list[str]:
    lines = ["when,sku,uid,stars"] + [f'"{_iso(t)}",{i},{u},{r}' for u, i, r, t in ROWS]
    gzipped(folder / "log.csv.gz", lines)
    products = ["sku,name,note", 'x,"Rose & ""Thorn"" balm","two\nlines"', "y,Comb,", "w,Köln water,"]
    (folder / "products.csv").write_text("".join(f"{line}\n" for line in products), encoding="utf-8")
    return [*_TABLE, "--title_column=name", "--items_file=products.csv"]


def jsonl(folder: Path) -> list[str]:
    lines = [dumps({"when": t, "sku": i, "uid": u, "stars": r, "more": {"a": [1]}}) for u, i, r, t in ROWS]
    (folder / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    products = [{"sku": i, "title": t} for i, t in TITLES.items() if t]
    (folder / "products.jsonl").write_text("".join(f"{dumps(p)}\n" for p in products))
    return [*_TABLE, "--items_file=products.jsonl"]


def parquet(folder: Path) -> list[str]:
    frame = pl.DataFrame(ROWS, schema=["uid", "sku", "stars", "when"], orient="row")
    frame = frame.with_columns(pl.from_epoch("when").cast(pl.Datetime("us")))
    (folder / "log" / "day=1").mkdir(parents=True)
    frame[:5].write_parquet(folder / "log" / "day=1" / "part-0.parquet")
    frame[5:].write_parquet(folder / "log" / "part-1.parquet")
    products = {"sku": list(TITLES), "title": list(TITLES.values()), "tags": [["a", "b"]] * len(TITLES)}
    pl.DataFrame(products).write_parquet(folder / "products.parquet")
    return [*_TABLE, "--file=log", "--items_file=products.parquet"]


def parquet_lists(folder: Path) -> list[str]:
    """A row a user, with lists; ids are bytes, as some engines write text; the items' file has gaps."""
    frame = pl.DataFrame(ROWS, schema=["uid", "sku", "stars", "when"], orient="row")
    frame = frame.with_columns(pl.col("uid", "sku").cast(pl.Binary))
    frame = frame.group_by("uid", maintain_order=True).agg(pl.all())
    log = folder / "log"
    log.mkdir()
    frame[:2].with_columns(pl.col("when").cast(pl.List(pl.Int32))).write_parquet(log / "part-0.snappy.parquet")
    frame[:0].drop("stars").write_parquet(log / "part-1.snappy.parquet")
    frame[2:].write_parquet(log / "part-2.snappy.parquet")
    products = pl.DataFrame({"sku": [*TITLES, None], "title": [*TITLES.values(), "Lamp"]}).with_columns(
        pl.col("title").cast(pl.Binary)
    )
    products.write_parquet(folder / "products.parquet")
    return [*_TABLE, "--file=log", "--items_file=products.parquet"]


_TABLE = ["--importer=table", "--user_column=uid", "--item_column=sku", "--rating_column=stars", "--time_column=when"]


def json_array(folder: Path) -> list[str]:
    """As json.dump and browsers write it: one array in each file, over many lines or on one."""
    log = [{"when": t, "sku": i, "uid": u, "stars": r, "more": [{"a": 1}]} for u, i, r, t in ROWS]
    (folder / "log.json").write_text(json.dumps(log, indent=1))
    (folder / "products.json").write_text(json.dumps([{"sku": i, "title": t} for i, t in TITLES.items() if t]))
    return [*_TABLE, "--file=log.json", "--items_file=products.json"]


def csv_parts(folder: Path) -> list[str]:
    """As Spark writes it: parts with a header each, and what it leaves beside them."""
    (folder / "log.csv").mkdir()
    header, rows = "uid,sku,stars,when", [f"{u},{i},{r},{t}" for u, i, r, t in ROWS]
    (folder / "log.csv" / "part-00000-a.csv").write_text("".join(f"{line}\n" for line in [header, *rows[:5]]))
    gzipped(folder / "log.csv" / "part-00001-a.csv.gz", [header, *rows[5:]])
    for name in ("_SUCCESS", ".part-00000-a.csv.crc"):
        (folder / "log.csv" / name).write_text("crc")
    (folder / "products.csv").write_text("".join(f"{line}\n" for line in _PRODUCTS), encoding="utf-8")
    return [*_TABLE, "--items_file=products.csv"]


_PRODUCTS = ["sku,name,note", 'x,"Rose & ""Thorn"" balm","two\nlines"', "y,Comb,", "w,Köln water,"]


def no_header(folder: Path) -> list[str]:
    """As Amazon's ratings are: no line with names."""
    (folder / "ratings").write_text("".join(f"{u},{i},{r},{t}\n" for u, i, r, t in ROWS))
    (folder / "products.dat").write_text("".join(f"{line}\n" for line in _PRODUCTS[1:]), encoding="utf-8")
    columns = ["--user_column=1", "--item_column=2", "--rating_column=3", "--time_column=4"]
    return ["--importer=table", *columns, "--items_file=products.dat", "--items_id_column=1", "--title_column=2"]


def latin1(folder: Path) -> list[str]:
    """As spreadsheets of western Europe write it."""
    lines = ['"When";"ISBN";"User-ID";"Stars"', *(f'"{_iso(t)}";"{i}";"{u}";"{r}"' for u, i, r, t in ROWS)]
    (folder / "log.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode("latin-1"))
    products = ['"ISBN";"Book-Title"', 'x;"Rose & ""Thorn"" balm"', "y;Comb", "w;Köln water"]
    (folder / "books.csv").write_bytes("".join(f"{line}\r\n" for line in products).encode("latin-1"))
    columns = ["--user_column=User-ID", "--item_column=ISBN", "--rating_column=Stars", "--time_column=When"]
    return ["--importer=table", *columns, "--file=log.csv", "--items_file=books.csv"]


def recbole_lists(folder: Path) -> list[str]:
    """As RecBole augments its files: a row holds all that came before, so the first item of a user has no row."""
    lines = ["user_id:token\titem_id:token\ttimestamp:float\titem_id_list:token_seq"]
    for user, numbers in zip(USERS, SEQUENCES.values()):
        items = [ITEMS[n - 1] for n in numbers]
        for n in range(min(1, len(items) - 1), len(items)):
            lines.append(f"{user}\t{items[n]}\t{START + n}\t{' '.join(items[:n])}")
    (folder / "shop.inter").write_text("".join(f"{line}\n" for line in lines))
    items = "item_id:token\ttitle:token_seq\n" + "".join(f"{i}\t{t}\n" for i, t in TITLES.items())
    (folder / "shop.item").write_text(items, encoding="utf-8")
    return ["--importer=recbole"]


def recbole_names(folder: Path) -> list[str]:
    """As RecBole's files of sessions and of music are, with the time under another name."""
    lines = ["session_id:token\ttrack_id:token\tstars:float\ttime:float"]
    lines += [f"{u}\t{i}\t{r}\t{t}" for u, i, r, t in ROWS]
    gzipped(folder / "shop.inter.gz", lines)
    items = ["track_id:token\tartist_name:token_seq\ttrack_name:token_seq"]
    items += [f"{i}\tAda\t{t}" for i, t in TITLES.items()]
    gzipped(folder / "shop.item.gz", items)
    return ["--importer=recbole", "--item_column=track_id", "--rating_column=stars:float"]


def handled(folder: Path) -> list[str]:
    pairs = "".join(f"{user} {item}\n" for user, items in SEQUENCES.items() for item in items)
    (folder / "inter.txt").write_text(pairs)
    records = [{"item_id": n, "title": TITLES[i], "asin": i} for n, i in enumerate(ITEMS, 1)]
    (folder / "items.jsonl").write_text("".join(f"{dumps(r)}\n" for r in records), encoding="utf-8")
    return ["--importer=handled"]


def sequences(folder: Path) -> list[str]:
    by_user = {u: [ITEMS[i - 1] for i in items] for u, items in zip(USERS, SEQUENCES.values())}
    (folder / "shop.txt").write_text("".join(f"{u} {' '.join(items)}\n" for u, items in by_user.items()))
    return ["--importer=sequences"]


SOURCES = {
    f.__name__: f
    for f in (
        amazon2014,
        amazon2018,
        amazon2023,
        amazon2014_ratings,
        amazon2018_ratings,
        amazon2023_ratings,
        yelp,
        yelp_zip,
        movielens,
        movielens_100k,
        movielens_25m,
        recbole,
        csv,
        jsonl,
        parquet,
        parquet_lists,
        handled,
        sequences,
        recbole_lists,
        recbole_names,
        csv_parts,
        no_header,
        latin1,
        json_array,
    )  # fmt: skip
}


def write(source: str, folder: Path) -> list[str]:
    """Writes the source's files into the folder; returns the flags of launch.prepare that read them."""
    folder.mkdir(parents=True, exist_ok=True)
    return SOURCES[source](folder)

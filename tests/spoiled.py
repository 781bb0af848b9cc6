"""Raw files with something wrong in them."""

import gzip

FILES = {  # the file of interactions of each source
    "amazon2014_ratings": "ratings_Beauty.csv",
    "amazon2018_ratings": "Toys_and_Games.csv",
    "amazon2023_ratings": "Toys_and_Games.csv.gz",
    "movielens_100k": "ml-100k/u.data",
    "amazon2014": "reviews_Beauty.json.gz",
    "amazon2018": "AMAZON_FASHION.json.gz",
    "amazon2023": "All_Beauty.jsonl.gz",
    "recbole": "shop.inter",
    "csv": "log.csv.gz",
    "jsonl": "log.jsonl",
    "handled": "inter.txt",
    "sequences": "shop.txt",
}


def spoil(path, spoiled):
    """The file's bytes through `spoiled`, gzipped again where they were."""
    zipped = path.suffix == ".gz"
    content = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    content = spoiled(content)
    path.write_bytes(gzip.compress(content) if zipped else content)


def replaced(old, new, count=-1):
    return lambda content: content.replace(old, new, count)

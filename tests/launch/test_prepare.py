"""`python -m launch.prepare` as a process of its own: from raw files to a folder that training reads."""

import functools
import http.server
import json
import shlex
import threading

import numpy as np
import polars as pl
import prepared
import pytest
import raw_samples
from forked import Forker

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import importers, reading
from llmesr_jax.data.summary import describe
from llmesr_jax.semantic import encoders


@pytest.fixture(scope="module")
def forker(environment, tmp_path_factory):
    with Forker(environment, tmp_path_factory.mktemp("forker")) as forker:
        yield forker


@pytest.mark.parametrize("source", ["amazon2014", "sequences"])  # tests/data/importers has them all
def test_from_raw_files_to_the_corpus(source, prepare, tmp_path, monkeypatch):
    args = raw_samples.write(source, tmp_path / "raw")
    result = prepare("--dataset=shop", "--raw_dir=raw", "--core=none", *args, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert prepared.sequences(tmp_path / "data" / "shop") == raw_samples.SEQUENCES
    step = "embed --dataset=shop"
    if source == "sequences":  # without texts, and c returns to x
        step = "train --method=none --dataset=shop --config.train.seen_items=shown"
    assert result.out.endswith(f"data/shop: written; next: python -m launch.{step}\n")
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["shop"]  # nothing temporary
    # Nothing in it tells where it was made.
    assert str(tmp_path).encode() not in b"".join(prepared.contents(tmp_path / "data").values())


# a has x y z, b has x y, c has z w w w: at users >= 3, items >= 2, once, b falls and x and y keep one each; iterated,
# a keeps z alone and falls with it, and c keeps w w w.
CHAIN = "uid,sku\n" + "".join(f"{u},{i}\n" for u, i in "ax bx ay by az cz cw cw cw".split())


@pytest.mark.parametrize("source", ["amazon2014", "split"])
def test_interactions_that_do_not_fit_in_memory_become_the_same_corpus(source, tmp_path):
    if source == "split":
        for part, lines in (("train", "a,x,1\na,y,2\nb,x,3"), ("valid", "a,x,1\nb,y,9"), ("test", "b,z,8")):
            tmp_path.joinpath(f"{part}.csv").write_text(f"user_id,item_id,timestamp\n{lines}\n")
        raw, flags = tmp_path, ["--importer=table", *(f"--{part}={part}.csv" for part in ("train", "valid", "test"))]
    else:
        raw, flags = tmp_path / "raw", raw_samples.write(source, tmp_path / "raw")
    found = {}
    for most in (0, 1000):
        prepared.run(raw, tmp_path / str(most), [*flags, f"--most_in_memory={most}"])
        corpus = reading.load("shop", tmp_path / str(most))
        made = json.loads((tmp_path / str(most) / "manifest.json").read_text())
        written = {name: made["files"].pop(name, None) for name in ("inter.txt", "items.npy", "offsets.npy")}
        assert (written["inter.txt"] is None) == (most == 0) == (written["items.npy"] is not None)
        found[most] = corpus.digest, corpus.times.tolist(), made
        assert isinstance(corpus.items, np.memmap) == (most == 0)
        assert corpus.item_counts_V.sum() == corpus.train_lengths_U.sum()
    assert found[0] == found[1000]
    # The folder is what was written, or it is refused.
    with (tmp_path / "0" / "items.npy").open("rb+") as file:
        file.seek(-4, 2)
        file.write(b"\1\0\0\0")
    with pytest.raises(InputError, match="items.npy: was changed after it was written"):
        reading.load("shop", tmp_path / "0")


@pytest.mark.parametrize(
    ("core", "counts", "inter"),
    [
        ("once", (2, 4, 7), "1 1\n1 2\n1 3\n2 3\n2 4\n2 4\n2 4\n"),
        ("iterated", (1, 1, 3), "1 1\n1 1\n1 1\n"),
    ],
)
def test_one_pass_and_iterated_counts_differ_as_by_hand(tmp_path, core, counts, inter):
    (tmp_path / "log.csv").write_text(CHAIN)
    flags = ["--importer=table", "--user_column=uid", "--item_column=sku", "--user_core=3", "--item_core=2"]
    prepared.run(tmp_path, tmp_path / "out", [*flags, f"--core={core}"])
    assert (tmp_path / "out" / "inter.txt").read_text() == inter
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [tuple(step.values())[1:] for step in manifest["steps"]] == [(3, 4, 9), counts]
    assert tuple(manifest["counts"].values())[:3] == counts


def test_again_append_and_overwrite(tmp_path):
    flags, raw, out = raw_samples.write("csv", tmp_path / "raw"), tmp_path / "raw", tmp_path / "shop"
    assert prepared.run(raw, out, flags).fresh
    (out / "item_emb.npy").write_bytes(b"an embedding")
    (out / "cache").mkdir()
    (out / "cache" / "a.npy").write_bytes(b"a table")
    before = prepared.contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = prepared.run(raw, out, flags)
    assert not again.fresh and f"{out}: up to date, nothing was written" in describe(again)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times

    message = prepared.refused(raw, out, [*flags, "--min_length=2"])
    assert message.startswith(f"{out}: was prepared with other settings (--min_length: 1 -> 2); choose another --out")
    assert "--append" not in message  # which would be refused
    assert "--min_length: 1 -> 2" in prepared.refused(raw, out, [*flags, "--min_length=2", "--append"])

    with (raw / "products.csv").open("a") as file:
        file.write("new,Lamp,\n")
    rows = [("e", "new", 5.0, 0), *raw_samples.ROWS, ("d", "new", 5.0, raw_samples.START * 1.2)]
    lines = [f"{int(t)},{i},{u},{r}" for u, i, r, t in rows]
    raw_samples.gzipped(raw / "log.csv.gz", ["when,sku,uid,stars", *lines])
    message = prepared.refused(raw, out, flags)
    assert "log.csv.gz is another file" in message and "--append if the raw data grew" in message
    assert prepared.contents(out) == before

    appended = prepared.run(raw, out, ["--append"])  # the manifest knows importer, rule and options
    assert appended.kept is None
    assert "appended: +1 user, +1 item, +2 interactions; users and items keep their ids" in describe(appended)
    nowhere = tmp_path / "nowhere"
    assert prepared.refused(raw, nowhere, ["--append"]).startswith(
        f"{nowhere} was not made by launch.prepare, so --append cannot extend it; name a prepared"
    )
    now = prepared.contents(out)
    assert now["item_emb.npy"] == b"an embedding" and now["cache/a.npy"] == b"a table"
    for ids in ("user_ids.txt", "item_ids.txt"):
        assert now[ids].startswith(before[ids])
    assert now["user_ids.txt"] == before["user_ids.txt"] + b"e\n"
    assert prepared.sequences(out) == raw_samples.SEQUENCES | {4: [5, 6], 5: [6]}
    assert json.loads(now["items.jsonl"].splitlines()[5])["title"] == "Lamp"
    assert not prepared.run(raw, out, [*flags, "--append"]).fresh

    replaced = prepared.run(raw, out, [*flags, "--overwrite", "--min_length=2"])
    assert f"the previous content is in {out}.before-1\n" in describe(replaced)
    assert prepared.contents(tmp_path / "shop.before-1") == now
    assert "item_emb.npy" not in prepared.contents(out)


def test_raw_data_that_lost_a_user_are_not_appended(tmp_path):
    flags, raw, out = raw_samples.write("jsonl", tmp_path / "raw"), tmp_path / "raw", tmp_path / "shop"
    prepared.run(raw, out, flags)
    before = prepared.contents(out)
    lines = (raw / "log.jsonl").read_text().splitlines()
    (raw / "log.jsonl").write_text("\n".join(line for line in lines if '"uid": "b"' not in line))
    assert "1 of 4 known users are now dropped by the rule, such as 'b'" in prepared.refused(
        raw, out, [*flags, "--append"]
    )
    assert prepared.contents(out) == before


def test_titles_that_are_not_found_and_one_malformed_line(tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    (tmp_path / "raw" / "products.csv").write_text("sku,label\nx,Rose\ny,Comb,\nw,Water\n")
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", [flag for flag in flags if "title" not in flag])
    told = describe(outcome).splitlines()
    items = len((tmp_path / "out" / "item_ids.txt").read_text().splitlines())
    hint = "set --title_column to the column of the titles, and prepare again with --overwrite"
    assert told[-3] == f"items: 2 have a record, {items} have no title; {hint}"
    assert told[-2] == "1 malformed line was left out"


@pytest.mark.parametrize("asked", ["?", "help"])
def test_a_list_of_importers(forker, asked, tmp_path):
    result = forker.run("launch.prepare", f"--importer={asked}", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert [line.split()[0] for line in result.out.splitlines()] == importers.PLUGINS.names()
    assert "movielens   MovieLens in all its releases: 100K, 1M, 10M, 20M, 25M, 32M and latest" in result.out
    listed = forker.run("launch.embed", f"--encoder={asked}", cwd=tmp_path)
    assert [line.split()[0] for line in listed.out.splitlines()] == encoders.PLUGINS.names()


@pytest.mark.parametrize(("flag", "wanted"), [("user_core", "a whole number"), ("min_rating", "a number")])
def test_words_where_a_number_is_wanted(forker, tmp_path, flag, wanted):
    result = forker.run("launch.prepare", f"--{flag}=a:c", cwd=tmp_path)
    assert (result.status, result.err) == (2, f"error: --{flag}=a:c: is not valid; expected {wanted}\n")


def test_the_next_command_is_quoted(forker, tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    out = tmp_path / "my shop"
    told = describe(prepared.run(tmp_path / "raw", out, flags))
    assert shlex.split(told.partition("; next: ")[2])[2:] == ["launch.embed", "--dataset=shop", f"--data_dir={out}"]
    args = ("--dataset=shop", f"--data_dir={out}", "--notables")
    told = forker.run("launch.embed", *args, cwd=tmp_path).out
    repeats = "--config.train.seen_items=shown"  # these users buy things again
    told = shlex.split(told.partition("next: ")[2])[2:]
    assert told == ["launch.train", "--dataset=shop", f"--data_dir={out}", repeats, "--preset=best"]


def test_the_name_of_the_built_in_data_needs_a_folder(prepare, forker, tmp_path):
    args = raw_samples.write("csv", tmp_path / "raw")
    flags = ("--dataset=demo", "--raw_dir=raw", "--core=none", "--noaudit", *args)
    result = prepare(*flags, cwd=tmp_path)
    assert (result.status, result.out, sorted(path.name for path in tmp_path.iterdir())) == (2, "", ["raw"])
    assert result.err == "error: --dataset=demo: is the name of the built-in data set; choose another name\n"
    told = prepare(*flags, "--out=data/demo", cwd=tmp_path).out
    assert told.endswith("next: python -m launch.embed --dataset=demo --data_dir=data/demo\n")
    told = forker.run("launch.embed", "--dataset=demo", "--data_dir=data/demo", "--notables", cwd=tmp_path).out
    assert "next: python -m launch.train --dataset=demo --data_dir=data/demo" in told
    grown = prepare(*flags, "--out=data/demo", "--append", cwd=tmp_path).out
    assert grown.endswith("next: python -m launch.embed --dataset=demo --data_dir=data/demo\n")


def test_two_runs_give_the_same_bytes(tmp_path):
    flags = raw_samples.write("amazon2014", tmp_path / "raw")
    for out in ("one", "two"):
        prepared.run(tmp_path / "raw", tmp_path / out, flags)
    assert prepared.contents(tmp_path / "one") == prepared.contents(tmp_path / "two")


def test_a_mistake_is_one_line_and_nothing_is_written(prepare, tmp_path):
    result = prepare("--dataset=beauty", cwd=tmp_path)
    message = "data/raw/beauty: no such folder; expected reviews_Beauty.json.gz and meta_Beauty.json.gz; "
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}") and result.err.count("\n") == 1
    assert result.err.endswith(
        "set --raw_dir to the folder of the raw files, or download the public files with --download\n"
    )
    assert list(tmp_path.iterdir()) == []
    assert "is not one of fashion, beauty, grocery, yelp, beauty5, ml-1m; set --importer for it (" in prepared.refused(
        tmp_path, tmp_path / "out", [], dataset="bueaty"
    )


def test_a_name_with_other_characters_says_which_are_allowed(tmp_path):
    told = prepared.refused(tmp_path, tmp_path / "out", [], dataset="my shop")
    assert "--dataset=my shop: is not a valid name; expected one of fashion, " in told
    assert "or a name of your own of letters, digits, '_', '-' and '.'" in told


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_download_and_prepare_in_one_command(prepare, tmp_path):
    """From a mirror on loopback, laid out as the publisher's."""
    raw_samples.write("amazon2018", tmp_path / "written")
    for folder, name in (("categoryFiles", "AMAZON_FASHION.json.gz"), ("metaFiles2", "meta_AMAZON_FASHION.json.gz")):
        (tmp_path / "mirror" / folder).mkdir(parents=True)
        (tmp_path / "written" / name).rename(tmp_path / "mirror" / folder / name)
    handler = functools.partial(_Quiet, directory=tmp_path / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        url = f"--base_url=http://127.0.0.1:{server.server_port}"
        result = prepare("--dataset=fashion", "--download", url, "--core=none", cwd=tmp_path)
        server.shutdown()
    assert (result.status, result.err) == (0, "")
    assert prepared.sequences(tmp_path / "data" / "fashion") == raw_samples.SEQUENCES
    kept = sorted(path.name for path in (tmp_path / "data" / "raw" / "fashion").iterdir())
    assert kept == ["AMAZON_FASHION.json.gz", "meta_AMAZON_FASHION.json.gz"]


def test_help_names_every_flag(prepare, tmp_path):
    result = prepare("--help", cwd=tmp_path)
    assert result.status == 0
    for flag in (
        "--dataset",
        "--[no]download",
        "--category",
        "--user_column",
        "--max_bad_lines",
        "--core",
        "--date_to",
    ):
        assert flag in result.out
    assert "--config" not in result.out


def test_a_folder_of_an_older_version_is_up_to_date(tmp_path):
    """A manifest that lacks options and rules which came later stands for their former behaviour."""
    args = [*raw_samples.write("csv", tmp_path / "raw"), "--exact_duplicates=keep"]
    assert prepared.run(tmp_path / "raw", tmp_path / "out", args).fresh
    path = tmp_path / "out" / "manifest.json"
    made = json.loads(path.read_text())
    del made["source"]["options"]["time_unit"], made["rule"]["exact_duplicates"]
    path.write_text(json.dumps(made))
    assert not prepared.run(tmp_path / "raw", tmp_path / "out", args).fresh
    with pytest.raises(InputError, match="exact_duplicates: 'keep' -> 'drop'"):
        prepared.run(tmp_path / "raw", tmp_path / "out", args[:-1])


def test_three_files_of_recbole_and_their_items(tmp_path):
    """RecBole's benchmark files: shop.train.inter and so on, with shop.item beside them."""
    (tmp_path / "raw").mkdir()
    rows = {"train": ["a\tx\t1", "a\ty\t2", "b\tx\t1"], "valid": ["a\tz\t3", "b\ty\t2"], "test": ["a\tw\t4"]}
    for part, lines in rows.items():
        text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n"
        (tmp_path / "raw" / f"shop.{part}.inter").write_text(text)
    (tmp_path / "raw" / "shop.item").write_text("item_id:token\tmovie_title:token_seq\nx\tComb\n")
    flags = [f"--{part}=shop.{part}.inter" for part in rows]
    with pytest.raises(
        InputError, match=f"or set your own split with {' '.join(flags)}, or set --raw_dir to its folder"
    ):
        prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=recbole"])
    prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=recbole", *flags])
    read = reading.load("shop", tmp_path / "out")
    assert (read.item_titles[0], read.train_lengths_U.tolist()) == ("Comb", [2, 1])
    assert [read.target_items(part).tolist() for part in ("valid", "test")] == [[3, 2], [4]]


def _a_rating_in_one_file(kind, folder):
    """Files of a split, of which only that of the training part has ratings; the flags that read them."""
    folder.mkdir(exist_ok=True)
    rows = {"train": ["ax5", "ay4", "bx3"], "valid": ["az", "by"], "test": ["aw"]}
    for part, cells in rows.items():
        names = ["user_id", "item_id", *["rating"] * (part == "train")]
        path, frame = folder / f"shop.{part}.{kind}", pl.DataFrame([list(row) for row in cells], names, orient="row")
        frame = frame.with_columns(pl.col("rating").cast(pl.Float64)) if part == "train" else frame
        frame.write_parquet(path) if kind == "parquet" else frame.write_csv(path, separator="\t")
    importer = "recbole" if kind == "inter" else "table"
    return [f"--importer={importer}", "--time_column=none", *(f"--{part}=shop.{part}.{kind}" for part in rows)]


@pytest.mark.parametrize("kind", ["inter", "tsv", "parquet"])
def test_a_rating_that_not_all_files_of_a_split_have_is_ignored_as_the_message_says(kind, tmp_path):
    flags = _a_rating_in_one_file(kind, tmp_path / "raw")
    if kind == "inter":
        told = prepared.refused(tmp_path / "raw", tmp_path / "out", flags)
        assert told.endswith("add it, or ignore it in all three with --rating_column=none")
    prepared.run(tmp_path / "raw", tmp_path / "out", [*flags, "--rating_column=none"])
    assert prepared.sequences(tmp_path / "out") == {1: [1, 2, 3, 4], 2: [1, 2]}


def test_rows_that_stand_in_two_files_of_a_split_are_counted(tmp_path):
    (tmp_path / "raw").mkdir()
    parts = {"train": "a,x,1\na,y,2\nb,x,1\n", "valid": "a,z,3\nb,y,2\n", "test": "a,w,4\na,x,1\nb,z,3\n"}
    for part, rows in parts.items():
        (tmp_path / "raw" / f"{part}.csv").write_text("user_id,item_id,timestamp\n" + rows)
    flags = ["--importer=table", *(f"--{part}={part}.csv" for part in parts)]
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags)
    assert "warning: 1 interaction of --valid or --test is also in an earlier file" in describe(outcome)
    assert reading.load("shop", tmp_path / "out").train_lengths_U.tolist() == [2, 1]
    with pytest.raises(InputError, match="--valid=no.csv: .* has no such file; it has: "):
        prepared.run(
            tmp_path / "raw", tmp_path / "out", [*flags[:2], "--valid=no.csv", "--test=test.csv", "--overwrite"]
        )


def test_a_table_without_rows(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "log.csv").write_text("user_id,item_id,timestamp\n")
    with pytest.raises(InputError, match="have no interaction .only a header line"):
        prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=table"])


def test_of_large_data_the_audit_is_left_to_inspect(prepare, tmp_path):
    args = raw_samples.write("sequences", tmp_path / "raw")
    result = prepare("--dataset=shop", "--raw_dir=raw", "--core=none", "--most_in_memory=0", *args, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    audit = "no audit, as it reads all interactions into memory; python -m launch.inspect --dataset=shop prints it"
    assert audit in " ".join(result.out.split())
    flags = ("--dataset=shop", "--raw_dir=raw", "--core=none", "--most_in_memory=0", "--out=a b", *args)
    told = " ".join(prepare(*flags, cwd=tmp_path).out.split())
    assert "python -m launch.inspect --dataset=shop '--data_dir=a b' prints it" in told
    assert prepared.sequences(tmp_path / "data" / "shop") == raw_samples.SEQUENCES

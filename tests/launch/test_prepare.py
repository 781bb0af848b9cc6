"""`python -m launch.prepare` as a process of its own: from raw files to a folder that training reads."""

import contextlib
import functools
import http.server
import json
import shlex
import shutil
import signal
import subprocess
import threading
import time

import commands
import filelock
import prepared
import pytest
import raw_samples
from forked import Forker

from launch.signals import Signals
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import importers, known, reading
from llmesr_jax.data.summary import describe
from llmesr_jax.semantic import encoders


@pytest.fixture(scope="session")
def start_prepare(environment):
    return lambda *args, cwd: commands.start("-m", "launch.prepare", *args, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def forker(environment, tmp_path_factory):
    with Forker(environment, tmp_path_factory.mktemp("forker")) as forker:
        yield forker


@pytest.fixture(scope="session")
def prepare(start_prepare):
    """prepare(*args, cwd=...) -> Result."""
    return lambda *args, cwd: commands.finish(start_prepare(*args, cwd=cwd))


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


PAPERS = {
    "yelp": {"users": 15_720, "items": 11_383, "interactions": 192_214, "mean_length": 12.23},
    "beauty": {"users": 52_204, "items": 57_289, "interactions": 394_908, "mean_length": 7.56},
}


def check_papers(name, raw, out):
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"] == manifest["papers"]["papers"] == PAPERS[name]
    assert manifest["papers"]["match"] is True and set(manifest["papers"]["difference"].values()) == {0}
    assert reading.load(name, out).digest == reading.read_folder(name, raw).digest


def test_the_papers_counts_are_met_and_the_manifest_says_so(shared, prepare, tmp_path):
    raw = shared / "data" / "yelp"
    result = prepare("--dataset=yelp", "--importer=handled", f"--raw_dir={raw}", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "the counts are the papers'\n" in result.out
    check_papers("yelp", raw, tmp_path / "data" / "yelp")
    raw = shared / "data" / "beauty"
    outcome = prepared.run(raw, tmp_path / "out", ["--importer=handled"], dataset="beauty")
    assert "the counts are the papers'\n" in describe(outcome)
    check_papers("beauty", raw, tmp_path / "out")


@pytest.mark.slow
def test_beauty5_out_of_raw_reviews(shared, tmp_path):
    """Reviews written as Amazon's 5-core file are, from interactions that are known: the rule changes nothing."""
    folder = shared / "data" / "beauty5"
    (tmp_path / "raw").mkdir()
    pairs = [line.split() for line in (folder / "inter.txt").read_text().splitlines()]
    reviews = (
        f'{{"reviewerID": "A{user}", "asin": "B{item}", "overall": 5.0, "unixReviewTime": {1_262_304_000 + at // 3}}}'
        for at, (user, item) in enumerate(pairs)  # three reviews at a time: ties, in file order
    )
    raw_samples.gzipped(tmp_path / "raw" / "reviews_Beauty_5.json.gz", reviews)
    items = map(json.loads, (folder / "items.jsonl").read_text().splitlines())
    metadata = (repr({"asin": f"B{record['item_id']}", "title": record["title"]}) for record in items)
    raw_samples.gzipped(tmp_path / "raw" / "meta_Beauty.json.gz", metadata)
    flags = ["--core=iterated"]  # what the data set has, too
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags, dataset="beauty5")
    assert outcome.manifest["papers"]["match"] is True
    ours, theirs = reading.load("beauty5", tmp_path / "out"), reading.read_folder("beauty5", folder)
    assert (ours.digest, ours.item_titles) == (theirs.digest, theirs.item_titles)


def test_counts_that_miss_the_papers_are_told(tmp_path):
    args = raw_samples.write("amazon2018", tmp_path / "raw")
    flags = [*args, "--core=iterated", "--user_core=1", "--item_core=1"]
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags, dataset="fashion")
    assert outcome.manifest["papers"]["match"] is False
    assert outcome.manifest["papers"]["difference"] == {"users": -9045, "items": -4717, "mean_length": -0.82}
    told = "the papers' counts are missed: users -9,045, items -4,717, mean_length -0.82\n"
    assert told in describe(outcome)


def test_the_named_rules_are_those_of_the_protocol(tmp_path):
    """What decides the counts, as the table of the protocol says it."""
    rules = {name: known.DATASETS[name].rule for name in known.DATASETS}
    core = {name: (rule.core, rule.user_core, rule.item_core) for name, rule in rules.items()}
    assert core["fashion"] == ("iterated", 3, 2)
    assert core["beauty"] == core["grocery"] == ("once", 5, 5)
    assert core["yelp"] == ("once", 3, 3) and rules["yelp"].date_to == "2019-12-31"
    assert core["beauty5"] == ("iterated", 5, 5)
    assert all(rule.duplicates == "all" and rule.min_rating is None for rule in rules.values())


def refused(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        prepared.run(*args, **kwargs)
    return str(caught.value)


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

    message = refused(raw, out, [*flags, "--min_length=2"])
    assert message.startswith(f"{out}: was prepared otherwise (--min_length: 1 -> 2); name another --out")
    assert "--append" not in message  # which would be refused
    assert "--min_length: 1 -> 2" in refused(raw, out, [*flags, "--min_length=2", "--append"])

    with (raw / "products.csv").open("a") as file:
        file.write("new,Lamp,\n")
    rows = [("e", "new", 5.0, 0), *raw_samples.ROWS, ("d", "new", 5.0, raw_samples.START * 1.2)]
    lines = [f"{int(t)},{i},{u},{r}" for u, i, r, t in rows]
    raw_samples.gzipped(raw / "log.csv.gz", ["when,sku,uid,stars", *lines])
    message = refused(raw, out, flags)
    assert "log.csv.gz is another file" in message and "--append where the raw data grew" in message
    assert prepared.contents(out) == before

    appended = prepared.run(raw, out, ["--append"])  # the manifest knows importer, rule and options
    assert appended.kept is None
    assert "appended: +1 users, +1 items, +2 interactions; users and items keep their ids" in describe(appended)
    nowhere = tmp_path / "nowhere"
    assert refused(raw, nowhere, ["--append"]).startswith(
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
    assert f"what was there before is in {out}.before-1\n" in describe(replaced)
    assert prepared.contents(tmp_path / "shop.before-1") == now
    assert "item_emb.npy" not in prepared.contents(out)


def test_raw_data_that_lost_a_user_are_not_appended(tmp_path):
    flags, raw, out = raw_samples.write("jsonl", tmp_path / "raw"), tmp_path / "raw", tmp_path / "shop"
    prepared.run(raw, out, flags)
    before = prepared.contents(out)
    lines = (raw / "log.jsonl").read_text().splitlines()
    (raw / "log.jsonl").write_text("\n".join(line for line in lines if '"uid": "b"' not in line))
    assert "1 of 4 known users are not left by the rule any more, such as 'b'" in refused(
        raw, out, [*flags, "--append"]
    )
    assert prepared.contents(out) == before


def test_titles_that_are_not_found_and_one_malformed_line(tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    (tmp_path / "raw" / "products.csv").write_text("sku,label\nx,Rose\ny,Comb,\nw,Water\n")
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", [flag for flag in flags if "title" not in flag])
    told = describe(outcome).splitlines()
    items = len((tmp_path / "out" / "item_ids.txt").read_text().splitlines())
    hint = "name the column of the titles with --title_column and --overwrite"
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
    assert (result.status, result.err) == (2, f"error: --{flag}=a:c: wanted {wanted}\n")


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


def test_two_runs_give_the_same_bytes(tmp_path):
    flags = raw_samples.write("amazon2014", tmp_path / "raw")
    for out in ("one", "two"):
        prepared.run(tmp_path / "raw", tmp_path / out, flags)
    assert prepared.contents(tmp_path / "one") == prepared.contents(tmp_path / "two")


FLAGS = ["--dataset=shop", "--raw_dir=raw", "--core=none"]


def big(folder, users=40_000):
    """Some 200,000 lines, so that there is time to interrupt."""
    folder.mkdir()
    lines = (f"{u},{(u * 7 + n * n) % 5000},{n}" for u in range(users) for n in range(5))
    raw_samples.gzipped(folder / "log.csv.gz", ["user_id,item_id,at", *lines])
    return [*FLAGS, "--importer=table", "--time_column=at"]


@pytest.mark.slow
def test_killed_and_interrupted_runs_leave_nothing_half_and_the_same_command_ends_the_same(
    start_prepare, prepare, tmp_path
):
    flags = big(tmp_path / "raw")
    prepared.run(tmp_path / "raw", tmp_path / "undisturbed", flags[-2:])
    out, at_work = tmp_path / "data" / "shop", tmp_path / "data" / ".shop.partial"

    def signalled(sign, wait):
        left_by_a_kill = at_work.stat().st_ctime_ns if at_work.exists() else None
        process = start_prepare(*flags, cwd=tmp_path)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(FileNotFoundError):
                if at_work.stat().st_ctime_ns != left_by_a_kill:
                    break
            time.sleep(0.005)
        time.sleep(wait)
        process.send_signal(sign)
        _, err = process.communicate(timeout=60)
        return process.returncode, err

    status, _ = signalled(signal.SIGKILL, 0.1)
    assert status == -signal.SIGKILL and not out.exists()
    for _ in range(3):
        status, err = signalled(signal.SIGINT, 0.05)
        if status:
            break
        shutil.rmtree(out)  # it was done before its signal came
    assert (status, err) == (130, "interrupted\n")
    assert list((tmp_path / "data").iterdir()) == []  # what the kill before had left is gone, too
    assert prepare(*flags, cwd=tmp_path).status == 0
    assert prepared.contents(tmp_path / "data" / "shop") == prepared.contents(tmp_path / "undisturbed")
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["shop"]


def test_an_interrupt_while_the_folder_is_put_in_place(tmp_path, monkeypatch, capfd):
    flags = raw_samples.write("csv", tmp_path / "raw")
    rename = type(tmp_path).rename

    def interrupted(path, target):
        signal.raise_signal(signal.SIGINT)
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        prepared.run(tmp_path / "raw", tmp_path / "out", flags, stop=signals.stop)
    assert not signals.raised and "\nputting the folder in place; once more stops at once\n" in capfd.readouterr().out
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
    assert not prepared.run(tmp_path / "raw", tmp_path / "out", flags).fresh


@pytest.mark.slow
def test_a_full_disk(prepare, tmp_path):
    flags = big(tmp_path / "raw", users=60_000)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        result = prepare(*flags, f"--out={disk / 'shop'}", cwd=tmp_path)
        left = list(disk.iterdir())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert result.status == 2 and left == []
    assert result.err.startswith(f"error: {disk}") and "No space left on device" in result.err
    assert result.err.count("\n") == 1


def test_two_at_once(tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    with filelock.FileLock(tmp_path / ".out.lock"):
        message = refused(tmp_path / "raw", tmp_path / "out", flags)
        assert message == f"{tmp_path / 'out'}: another command is at work on it; wait until it has ended"
    assert prepared.run(tmp_path / "raw", tmp_path / "out", flags).fresh


def test_a_mistake_is_one_line_and_nothing_is_written(prepare, tmp_path):
    result = prepare("--dataset=beauty", cwd=tmp_path)
    message = "data/raw/beauty: no such folder; wanted reviews_Beauty.json.gz and meta_Beauty.json.gz; "
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}") and result.err.count("\n") == 1
    assert result.err.endswith("--raw_dir, or have the public files fetched with --download\n")
    assert list(tmp_path.iterdir()) == []
    assert "is none of fashion, beauty, grocery, yelp, beauty5, ml-1m; name its --importer (" in refused(
        tmp_path, tmp_path / "out", [], dataset="bueaty"
    )


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
    with pytest.raises(InputError, match=f"or give your own split as {' '.join(flags)}, or its folder"):
        prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=recbole"])
    prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=recbole", *flags])
    read = reading.load("shop", tmp_path / "out")
    assert (read.item_titles[0], read.train_lengths_U.tolist()) == ("Comb", [2, 1])
    assert [read.target_items(part).tolist() for part in ("valid", "test")] == [[3, 2], [4]]


def test_rows_that_stand_in_two_files_of_a_split_are_counted(tmp_path):
    (tmp_path / "raw").mkdir()
    parts = {"train": "a,x,1\na,y,2\nb,x,1\n", "valid": "a,z,3\nb,y,2\n", "test": "a,w,4\na,x,1\nb,z,3\n"}
    for part, rows in parts.items():
        (tmp_path / "raw" / f"{part}.csv").write_text("user_id,item_id,timestamp\n" + rows)
    flags = ["--importer=table", *(f"--{part}={part}.csv" for part in parts)]
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags)
    assert "warning: 1 interactions of --valid or --test stand in an earlier file, too" in describe(outcome)
    assert reading.load("shop", tmp_path / "out").train_lengths_U.tolist() == [2, 1]
    with pytest.raises(InputError, match="--valid=no.csv: .* has no such file; it has: "):
        prepared.run(
            tmp_path / "raw", tmp_path / "out", [*flags[:2], "--valid=no.csv", "--test=test.csv", "--overwrite"]
        )


def test_a_table_without_rows(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "log.csv").write_text("user_id,item_id,timestamp\n")
    with pytest.raises(InputError, match="hold no interaction .only a line of names"):
        prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=table"])

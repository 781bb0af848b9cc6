"""`python -m launch.prepare` as a process of its own: from raw files to a folder that training reads."""

import json
import os
import signal
import subprocess
import time

import commands
import prepared
import pytest
import raw_samples

from llmesr_jax.data import corpus


@pytest.fixture(scope="session")
def start_prepare(environment):
    return lambda *args, cwd: commands.start("-m", "launch.prepare", *args, cwd=cwd, env=environment)


@pytest.fixture(scope="session")
def prepare(start_prepare):
    """prepare(*args, cwd=...) -> Result."""
    return lambda *args, cwd: commands.finish(start_prepare(*args, cwd=cwd))


@pytest.mark.parametrize("source", raw_samples.SOURCES)
def test_from_raw_files_to_the_corpus(source, prepare, tmp_path, monkeypatch):
    args = raw_samples.write(source, tmp_path / "raw")
    result = prepare("--dataset=shop", "--raw_dir=raw", "--core=none", *args, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert prepared.sequences(tmp_path / "data" / "shop") == raw_samples.SEQUENCES
    step = "train --method=none" if source == "sequences" else "embed"
    assert result.out.endswith(f"data/shop: written; next: python -m launch.{step} --dataset=shop\n")
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["shop"]  # nothing temporary
    # Nothing in it tells where it was made.
    assert str(tmp_path).encode() not in b"".join(prepared.contents(tmp_path / "data").values())


# a has x y z, b has x y, c has z w w w: at users >= 3 and items >= 2, once, b falls and x and y keep one each; iterated,
# a keeps z alone and falls with it, and c keeps w w w.
CHAIN = "uid,sku\n" + "".join(f"{u},{i}\n" for u, i in "ax bx ay by az cz cw cw cw".split())


@pytest.mark.parametrize(
    ("core", "counts", "inter"),
    [
        ("once", (2, 4, 7), "1 1\n1 2\n1 3\n2 3\n2 4\n2 4\n2 4\n"),
        ("iterated", (1, 1, 3), "1 1\n1 1\n1 1\n"),
    ],
)
def test_one_pass_and_iterated_counts_differ_as_by_hand(prepare, tmp_path, core, counts, inter):
    (tmp_path / "log.csv").write_text(CHAIN)
    flags = ["--dataset=shop", "--importer=table", "--raw_dir=.", "--user_column=uid", "--item_column=sku"]
    result = prepare(*flags, f"--core={core}", "--user_core=3", "--item_core=2", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert (tmp_path / "data/shop/inter.txt").read_text() == inter
    manifest = json.loads((tmp_path / "data/shop/manifest.json").read_text())
    steps = [tuple(step.values())[1:] for step in manifest["steps"]]
    assert steps == [(3, 4, 9), counts]
    assert tuple(manifest["counts"].values())[:3] == counts


@pytest.mark.parametrize("name", ["yelp", "beauty"])
def test_the_papers_counts_are_met_and_the_manifest_says_so(shared, prepare, tmp_path, name):
    raw = shared / "data" / name
    result = prepare(f"--dataset={name}", "--importer=handled", f"--raw_dir={raw}", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "the counts are the papers'\n" in result.out
    manifest = json.loads((tmp_path / "data" / name / "manifest.json").read_text())
    wanted = {
        "yelp": {"users": 15_720, "items": 11_383, "interactions": 192_214, "mean_length": 12.23},
        "beauty": {"users": 52_204, "items": 57_289, "interactions": 394_908, "mean_length": 7.56},
    }[name]
    assert manifest["counts"] == manifest["papers"]["papers"] == wanted
    assert manifest["papers"]["match"] is True and set(manifest["papers"]["difference"].values()) == {0}
    ours, theirs = corpus.load(name, tmp_path / "data" / name), corpus.read_folder(name, raw)
    assert ours.digest == theirs.digest


def test_counts_that_miss_the_papers_are_told(prepare, tmp_path):
    args = raw_samples.write("amazon2018", tmp_path / "data" / "raw" / "fashion")
    result = prepare("--dataset=fashion", "--user_core=1", "--item_core=1", cwd=tmp_path)
    assert (result.status, result.err, args[1]) == (0, "", "--category=AMAZON_FASHION")
    assert "the papers' counts are missed: users -9,045, items -4,717, mean_length -0.82\n" in result.out
    manifest = json.loads((tmp_path / "data/fashion/manifest.json").read_text())
    assert manifest["papers"]["match"] is False
    assert manifest["papers"]["difference"] == {"users": -9045, "items": -4717, "mean_length": -0.82}


FLAGS = ["--dataset=shop", "--raw_dir=raw", "--core=none"]


def test_again_append_and_overwrite(prepare, tmp_path):
    flags = [*FLAGS, *raw_samples.write("csv", tmp_path / "raw")]
    out = tmp_path / "data" / "shop"
    assert prepare(*flags, cwd=tmp_path).status == 0
    (out / "item_emb.npy").write_bytes(b"an embedding")
    before = prepared.contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = prepare(*flags, cwd=tmp_path)
    assert again.status == 0 and "data/shop: up to date, nothing was written" in again.out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times

    other = prepare(*flags, "--min_length=2", cwd=tmp_path)
    assert other.status == 2 and other.err.count("\n") == 1
    assert "data/shop: was prepared otherwise (rule.min_length: 1 -> 2); name another --out, or use --overwrite" in other.err

    with (tmp_path / "raw" / "products.csv").open("a") as file:
        file.write("new,Lamp,\n")
    (tmp_path / "raw" / "log.csv.gz").unlink()
    rows = [("e", "new", 5.0, 0), *raw_samples.ROWS, ("d", "new", 5.0, raw_samples.START * 1.2)]
    lines = [f"{int(t)},{i},{u},{r}" for u, i, r, t in rows]
    raw_samples.gzipped(tmp_path / "raw" / "log.csv.gz", ["when,sku,uid,stars", *lines])
    grown = prepare(*flags, cwd=tmp_path)
    assert grown.status == 2 and "source.files.log.csv.gz" in grown.err and "--append" in grown.err
    assert prepared.contents(out) == before

    appended = prepare(*flags, "--append", cwd=tmp_path)
    assert (appended.status, appended.err) == (0, "")
    now = prepared.contents(out)
    assert now["item_emb.npy"] == b"an embedding"
    for ids in ("user_ids.txt", "item_ids.txt"):
        assert now[ids].startswith(before[ids])
    assert now["user_ids.txt"] == before["user_ids.txt"] + b"e\n"
    assert prepared.sequences(out) == raw_samples.SEQUENCES | {4: [5, 6], 5: [6]}
    assert json.loads(now["items.jsonl"].splitlines()[5])["title"] == "Lamp"

    replaced = prepare(*flags, "--overwrite", "--min_length=2", cwd=tmp_path)
    assert replaced.status == 0 and "what was there before is in data/shop.before-1" in replaced.out
    assert prepared.contents(tmp_path / "data" / "shop.before-1") == now
    assert "item_emb.npy" not in prepared.contents(out)


def test_two_runs_give_the_same_bytes(prepare, tmp_path):
    flags = [*FLAGS, *raw_samples.write("amazon2014", tmp_path / "raw")]
    for out in ("one", "two"):
        assert prepare(*flags, f"--out={out}", cwd=tmp_path).status == 0
    assert prepared.contents(tmp_path / "one") == prepared.contents(tmp_path / "two")


def big(folder, users=60_000):
    """Some 300,000 lines, so that there is time to interrupt."""
    folder.mkdir()
    lines = (f"{u},{(u * 7 + n * n) % 5000},{n}" for u in range(users) for n in range(5))
    raw_samples.gzipped(folder / "log.csv.gz", ["user_id,item_id,at", *lines])
    return [*FLAGS, "--importer=table", "--time_column=at"]


def test_killed_and_interrupted_runs_leave_nothing_half_and_the_same_command_ends_the_same(start_prepare, prepare, tmp_path):
    flags = big(tmp_path / "raw")
    assert prepare(*flags, "--out=undisturbed", cwd=tmp_path).status == 0
    for sign, wait in ((signal.SIGKILL, 0.3), (signal.SIGINT, 0.2), (signal.SIGKILL, 0.0)):
        process = start_prepare(*flags, cwd=tmp_path)
        at_work = tmp_path / "data" / ".shop.partial"
        end = time.monotonic() + 60
        while not at_work.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(sign)
        _, err = process.communicate(timeout=60)
        assert not (tmp_path / "data" / "shop").exists(), "was done before the signal came"
        if sign == signal.SIGINT:
            assert (process.returncode, err) == (130, "interrupted\n")
            assert not (tmp_path / "data").exists()
    assert prepare(*flags, cwd=tmp_path).status == 0
    assert prepared.contents(tmp_path / "data" / "shop") == prepared.contents(tmp_path / "undisturbed")
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["shop"]


def test_a_full_disk(prepare, tmp_path):
    flags = big(tmp_path / "raw", users=100_000)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
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


@pytest.mark.skipif(os.name == "nt", reason="no such lock there")
def test_two_at_once(prepare, tmp_path):
    import fcntl

    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / ".shop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = prepare(*FLAGS, *raw_samples.write("csv", tmp_path / "raw"), cwd=tmp_path)
    assert (result.status, result.err) == (2, "error: data/shop: another command is at work on it; wait until it has ended\n")


def test_help_names_every_flag(prepare, tmp_path):
    result = prepare("--help", cwd=tmp_path)
    assert result.status == 0
    for flag in ("--dataset", "--[no]download", "--category", "--user_column", "--max_bad_lines", "--core", "--date_to"):
        assert flag in result.out

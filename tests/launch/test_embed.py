"""`python -m launch.embed` as a process: the chain to training, kills, interrupts, the key, mistakes.

LLMESR_KILLS says how often the run of the kill test is killed (default 3).
"""

import json
import os
import shutil
import signal
import subprocess
import time

import commands
import numpy as np
import pytest
from embedding_server import FAULTS, EmbeddingServer
from forked import Forker

pytestmark = pytest.mark.slow

KEY = "sk-test-0f3c9a-must-not-be-seen"
WIDTH, BATCH, CONCURRENCY = 8, 5, 2
QUICK = (
    "--attempts=50",
    "--first_wait=0.001",
    "--longest_wait=0.01",
    f"--batch_size={BATCH}",
    f"--concurrency={CONCURRENCY}",
)

LOCAL = ("--dataset=tiny", "--encoder=openai", "--model=m", "--base_url=http://localhost:1/v1")


@pytest.fixture(scope="module")
def forker(environment, tmp_path_factory):
    with Forker(environment, tmp_path_factory.mktemp("forker")) as forker:
        yield forker


@pytest.fixture(scope="module")
def forker_with_key(environment, tmp_path_factory):
    env = {**environment, "OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    with Forker(env, tmp_path_factory.mktemp("forker")) as forker:
        yield forker


@pytest.fixture
def folder(data, tmp_path):
    """A copy of the data."""
    shutil.copytree(data, tmp_path / "tiny", ignore=shutil.ignore_patterns("cache"))
    return tmp_path / "tiny"


@pytest.fixture
def server():
    with EmbeddingServer(WIDTH) as server:
        yield server


@pytest.fixture
def openai(folder, server):
    """Arguments of launch.embed on the data, through the server."""
    flags = ("--encoder=openai", "--model=toy", f"--base_url={server.base_url}", f"--dimensions={WIDTH}", *QUICK)
    return ("--dataset=tiny", f"--data_dir={folder}", "--config.llmesr.width=4", *flags)


@pytest.fixture
def start(environment, openai, tmp_path):
    """start(*args) -> Popen of launch.embed."""
    env = {**environment, "OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    return lambda *args: commands.start("-m", "launch.embed", *openai, *args, cwd=tmp_path, env=env)


def _bytes(folder):
    return [(folder / name).read_bytes() for name in ("item_emb.npy", "user_emb.npy")]


def _no_key_below(path):
    files = [file for file in path.rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file


def test_embed_then_train(forker, train, folder, tmp_path):
    args = ("--dataset=tiny", f"--data_dir={folder}", "--width=8", "--config.llmesr.width=4")
    result = forker.run("launch.embed", *args, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [
        f"{folder}: 150 items and 60 users, at no cost",
        f"{folder}: item_emb.npy (150, 8), user_emb.npy (60, 8), float32",
        f"next: python -m launch.train --dataset=tiny --data_dir={folder} --preset=best",
    ]
    made = {path: path.stat().st_mtime_ns for path in (folder / "cache").glob("*.npy")}
    assert {path.name for path in made} == {"item_pca_4.npy", "similar_users_59.npy", "users_embedded.npy"}
    flags = (f"--data_dir={folder}", "--method=llmesr", "--epochs=1", "--workdir=w", "--config.semantic.encoder=files")
    result = train(*flags, cwd=tmp_path)
    assert result.status == 0, result.err
    assert "item embeddings are item_emb.npy, user embeddings user_emb.npy" in result.out
    assert {path: path.stat().st_mtime_ns for path in (folder / "cache").glob("*.npy")} == made
    again = forker.run("launch.embed", *args, cwd=tmp_path)
    assert again.out.splitlines()[0] == f"{folder}: the embeddings are up to date; nothing to do"


def test_training_names_the_missing_step(forker, folder, tmp_path):
    args = (*commands.SMALL, f"--data_dir={folder}", "--method=llmesr", "--config.semantic.encoder=files")
    result = forker.run("launch.train", *args, cwd=tmp_path)
    assert result.status == 2 and "run `python -m launch.embed --dataset=tiny`" in result.err


def test_killed_at_random_moments_it_pays_again_at_most_for_what_was_under_way(start, server, folder, tmp_path):
    kills = int(os.environ.get("LLMESR_KILLS", 3))
    result = commands.finish(start())
    assert (result.status, result.err) == (0, ""), result.err
    wanted, texts = _bytes(folder), set(server.paid)
    for path in [*folder.glob("*emb*"), *folder.glob("cache/*")]:
        path.unlink()
    server.paid.clear()
    rng, lost = np.random.default_rng(), 0
    server.delay = 0.02
    for _ in range(kills):
        process, before = start(), len(server.requests)
        wait_for = rng.integers(0, max(2, 40 // kills))
        while len(server.requests) - before < wait_for and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1 if wait_for else 3.0))
        process.kill()
        process.communicate()
        time.sleep(2 * server.delay)  # what was under way is answered, and paid
        lost += CONCURRENCY * BATCH
        assert sum(server.paid.values()) - len(server.paid) <= lost
    result = commands.finish(start())
    assert result.status == 0, result.err
    assert _bytes(folder) == wanted
    assert set(server.paid) == texts
    print(f"{sum(server.paid.values()) - len(texts)} texts paid twice after {kills} kills; {lost} allowed")
    _no_key_below(tmp_path)


def test_interrupted_at_random_moments_it_stops_soon_and_pays_for_nothing_twice(start, server, folder, tmp_path):
    rng, slowest = np.random.default_rng(), 0.0
    server.delay = 0.3
    for _ in range(int(os.environ.get("LLMESR_KILLS", 3))):
        process, before = start(), len(server.requests)
        wait_for = rng.integers(0, 4)
        while len(server.requests) - before < wait_for and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3 if wait_for else 3.0))
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        result = commands.finish(process)
        slowest = max(slowest, time.monotonic() - sent)
        assert result.status == 130 and "Traceback" not in result.err, result.err
    server.delay = 0.0
    assert commands.finish(start()).status == 0
    assert set(server.paid.values()) == {1}
    print(f"the slowest stop took {slowest:.1f} s")


def test_an_interrupt_says_how_to_go_on(start, server, folder):
    server.delay = 0.3
    process = start()
    while len(server.requests) < 4:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    result = commands.finish(process)
    assert (result.status, result.err) == (130, "interrupted\n")
    assert result.out.splitlines()[-1].endswith(" texts are done; run the same command again to continue")
    assert not [path for path in folder.iterdir() if "emb" in path.name]
    server.delay = 0.0
    assert commands.finish(start()).status == 0
    assert set(server.paid.values()) == {1}


def test_the_key_is_nowhere(forker_with_key, openai, server, tmp_path):
    def embed(*args):
        return forker_with_key.run("launch.embed", *openai, *args, cwd=tmp_path)

    server.faults = FAULTS
    loud = embed("--verbosity=1", "--timeout=0.5")
    assert loud.status == 0 and server.keys == {f"Bearer {KEY}"}
    server.status, server.message = 401, f"Incorrect API key provided: {KEY}"
    refused = embed("--model=other", "--overwrite")
    server.status, server.message = 418, f"{KEY} is a teapot"
    strange = embed("--model=other", "--overwrite", "--verbosity=1")
    assert (refused.status, strange.status) == (2, 2)
    assert "status 401, the key is refused; set OPENAI_API_KEY" in refused.err
    assert "status 418 ([key] is a teapot)" in strange.err
    for result in (loud, refused, strange):
        assert KEY not in result.out + result.err
        assert "Traceback" not in result.err
    _no_key_below(tmp_path)


def test_a_text_that_fails_is_named_and_may_be_skipped(forker_with_key, openai, server, folder, tmp_path):
    title = json.loads((folder / "items.jsonl").read_text().splitlines()[6])["title"]
    said = f"name is {title}; "
    server.failing = lambda texts: (500, "NaN is not supported") if any(said in text for text in texts) else None
    refused = forker_with_key.run("launch.embed", *openai, "--notables", cwd=tmp_path)
    assert refused.status == 2 and refused.err.count("\n") == 1
    assert f'"{title}": status 500 (NaN is not supported)' in refused.err and "--skip_failed" in refused.err
    assert not (folder / "item_emb.npy").exists()
    skipped = forker_with_key.run("launch.embed", *openai, "--notables", "--skip_failed", cwd=tmp_path)
    assert (skipped.status, skipped.err) == (0, "")
    assert not np.load(folder / "item_emb.npy")[6].any()
    assert {times for text, times in server.paid.items() if text != "text"} == {1}  # the word shows that it works
    assert json.loads((folder / "embeddings.json").read_text())["counts"]["skipped"] >= 1


def test_a_full_disk(forker_with_key, data, openai, server, tmp_path):
    """Too small for the vectors, then for the files, then large enough; what was paid for is used."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        shutil.copytree(data, disk / "tiny", ignore=shutil.ignore_patterns("cache"))
        args = ("launch.embed", *openai, f"--data_dir={disk / 'tiny'}", "--dimensions=64", "--notables")
        for size in (60, 110):
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
            result = forker_with_key.run(*args, cwd=tmp_path)
            assert result.status == 2
            error = result.err.splitlines()[-1]  # before it, that the last record is torn
            assert error.startswith(f"error: {disk}") and "No space left on device" in error
            assert not [path.name for path in (disk / "tiny").iterdir() if "emb" in path.name]
        subprocess.run(["mount", "-o", "remount,size=1M", str(disk)], check=True)
        result = forker_with_key.run(*args, cwd=tmp_path)
        assert result.status == 0, result.err
        assert np.load(disk / "tiny" / "item_emb.npy").shape == (150, 64)
        assert sum(server.paid.values()) - len(server.paid) <= 2 * CONCURRENCY * BATCH
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "--dataset is missing"),
        (("--dataset=demo",), "demo: is made in memory and has no folder for embeddings; set --data_dir"),
        (("--dataset=bueaty",), "data set 'bueaty' is not known"),
        (("--dataset=fashion",), "data/fashion: no such folder"),
        (("--dataset=tiny", "--encoder=gpt"), "encoder 'gpt' is not known; expected one of: npy, openai, "),
        (
            ("--dataset=tiny", "--model=x"),
            "--model: is not a setting of --encoder=tfidf; expected some of: width, seed",
        ),
        (("--dataset=tiny", "--width=0"), "width=0; expected at least 1"),
        (("--dataset=tiny", "--encoder=openai"), "--model is missing"),
        (("--dataset=tiny", "--encoder=openai", "--model=m"), "OPENAI_API_KEY is not set"),
        (("--dataset=tiny", "--encoder=openai", "--batch_size=4096"), "batch_size=4096; expected at most 2048"),
        ((*LOCAL, "--extra_body=x"), "--extra_body=x: is not a JSON object; expected one such as"),
        ((*LOCAL, "--extra_query=x"), "--extra_query=x: is not a query; expected one such as api-version="),
        ((*LOCAL, "--extra_header=x"), "--extra_header: is not a header; expected 'Name: value'"),
        ((*LOCAL, "--tokenizer=nowhere"), "--tokenizer=nowhere: no such file; expected the tokenizer.json"),
        ((*LOCAL, "--base_url=localhost:1"), "--base_url=localhost:1: is not an address"),
        (("--dataset=tiny", "--encoder=npy"), "--item_file is missing"),
        (("--dataset=tiny", "--encoder=npy", "--item_file=no.npy"), "no.npy: cannot be read (No such file"),
        (("--dataset=tiny", "--encoder=sentence_transformers"), "--model is missing"),
        (
            ("--dataset=tiny", "--item_template={title"),
            "item_template='{title': '{' at character 1 has no matching bracket",
        ),
        (("--dataset=tiny", "--append"), "--append: encoder tfidf makes all vectors together; run without --append"),
        (
            ("--dataset=tiny", "--config.semantic.crop=True", "--item_template={title}"),
            "semantic.item_template: both are set; expected",
        ),
        (("--dataset=tiny", "rest"), "argument 'rest' is not understood"),
    ],
)
def test_a_mistake_is_one_line(forker, folder, tmp_path, monkeypatch, args, message):
    before = sorted(tmp_path.rglob("*"))
    if "--dataset=tiny" in args:
        args = (*args, f"--data_dir={folder}")
    result = forker.run("launch.embed", *args, cwd=tmp_path)
    assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
    assert result.status == 2 and message in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_prints_the_price_and_stops(forker, openai, folder, tmp_path):
    args = ("--model=text-embedding-3-small", "--dry_run", "--base_url=https://api.openai.com/v1")
    result = forker.run("launch.embed", *openai, *args, cwd=tmp_path)  # which wants no key
    assert (result.status, result.err) == (0, "")
    assert "150 items and 60 users; " in result.out and "at $0.02 per million as of 2026-07-03" in result.out
    assert result.out.endswith("stopped because of --dry_run; nothing was sent or written\n")
    assert not (folder / "cache").exists()


def test_vectors_of_the_users_own(forker, folder, tmp_path):
    rng = np.random.default_rng(1)
    items, users = rng.normal(size=(150, 6)), rng.normal(size=(60, 6)).astype(np.float32)
    np.save(tmp_path / "i.npy", items)
    np.save(tmp_path / "u.npy", users)
    args = ("--dataset=tiny", f"--data_dir={folder}", "--encoder=npy", "--item_file=i.npy", "--user_file=u.npy")
    assert forker.run("launch.embed", *args, "--notables", cwd=tmp_path).status == 0
    np.testing.assert_array_equal(np.load(folder / "item_emb.npy"), items.astype(np.float32), strict=True)
    np.testing.assert_array_equal(np.load(folder / "user_emb.npy"), users, strict=True)
    made = json.loads((folder / "embeddings.json").read_text())["made_by"]
    assert made["encoder"] == "npy" and len(made["item_file"]) == 64
    np.save(tmp_path / "i.npy", items[1:])
    result = forker.run("launch.embed", *args, "--overwrite", cwd=tmp_path)
    assert "i.npy: has 149 rows; expected 150" in result.err

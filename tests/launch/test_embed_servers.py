"""The commands of docs/embeddings.md against servers that answer as vLLM, Ollama, TEI and llama.cpp do.

And, where the folder of cases is there (`LLMESR_SHARED`), launch.embed against each mode of its server.
"""

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time

import commands
import embedding_server
import numpy as np
import prepared
import pytest
from embedding_server import EmbeddingServer
from forked import Forker

from llmesr_jax.data import pickles, reading
from llmesr_jax.semantic import texts
from llmesr_jax.semantic.texts import Wording

pytestmark = pytest.mark.slow

DOCUMENT = commands.PROJECT / "docs" / "embeddings.md"
SECTION = DOCUMENT.read_text().partition("## A server on this machine")[2].partition("\n## ")[0]
PRODUCTS = {"vllm": "vLLM", "ollama": "Ollama", "tei": "Text Embeddings Inference", "llama.cpp": "llama.cpp"}


@pytest.fixture(scope="module")
def embed(environment, tmp_path_factory):
    """embed(*args, cwd=...) -> Result of launch.embed, without a key."""
    env = {**environment, "NO_PROXY": "127.0.0.1"}
    env.pop("OPENAI_API_KEY", None)
    with Forker(env, tmp_path_factory.mktemp("forker")) as forker:
        yield lambda *args, cwd: forker.run("launch.embed", *args, "--notables", cwd=cwd)


def rows(folder, width):
    """What the files of a folder should hold."""
    told = list(texts.stream(reading.load("tiny", folder), Wording()))
    return np.stack([embedding_server.vector(text, width) if text else np.zeros(width, np.float32) for text in told])


def made(folder):
    return np.concatenate([np.load(folder / name) for name in ("item_emb.npy", "user_emb.npy")])


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_documented_command(embed, tmp_path, product):
    block = re.search(rf"\n{re.escape(PRODUCTS[product])}:\n\n```bash\n(.*?)```", SECTION, re.DOTALL)[1]
    command = shlex.split(block.splitlines()[-1])
    assert command[:3] == ["python", "-m", "launch.embed"]
    args = [arg for arg in command[3:] if not arg.startswith(("--dataset", "--base_url"))]
    base_url = next(arg for arg in command if arg.startswith("--base_url")).partition("=")[2]
    assert re.fullmatch(r"http://localhost:\d+/v1", base_url)
    folder = commands.write_data(tmp_path / "tiny")
    with EmbeddingServer(16) as server:
        server.product = product
        server.model = next(arg for arg in args if arg.startswith("--model")).partition("=")[2]
        server.most_texts, server.too_many = (32, "tei") if product == "tei" else (10**9, "tei")
        args = [*args, "--dataset=tiny", f"--data_dir={folder}", f"--base_url={server.base_url}"]
        result = embed(*args, cwd=tmp_path)
        assert (result.status, result.err) == (0, "")
        np.testing.assert_array_equal(made(folder), rows(folder, 16))
        if embedding_server.PRODUCTS[product][2]:
            result = embed(*args, "--model=other", "--overwrite", cwd=tmp_path)
            assert result.status == 2 and result.err.count("\n") == 1
            assert "status 404 (" in result.err and "other" in result.err and "check --model" in result.err


MODES = {
    "gemini": (),
    "noindex": (),
    "floats": (),
    "rejectb64": (),
    "batch10": (),
    "tei32": (),
    "tei413": (),
    "ctx512": (),
    "inputtype": ("--extra_body={\"input_type\": \"passage\"}",),
    "nan500": ("--skip_failed",),
}  # fmt: skip
REFUSED = {
    "nan500": ((), r'texts have no usable vector: item I026 "Lamp green scarf 26": status 500 \(failed to encode'),
    "ignoredims": (("--dimensions=8",), "embeddings of width 16, not 8; .*ignores --dimensions; remove --dimensions,"),
    "err200": ((), r"the answer is an error \(No endpoints found for this model\); check --model and --base_url"),
    "html": ((), r"the answer is a web page, not JSON \(Ollama is running\); check --base_url"),
    "emptydata": ((), "0 embeddings for 1 texts"),
    "inputtype": ((), r"status 400 \('input_type' parameter is required .*--extra_body"),
    "zero": ((), "a vector of zeros"),
}


@pytest.fixture(scope="module")
def cases(shared):
    folder = shared / "cases"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


@pytest.fixture(scope="module")
def plain(cases, tmp_path_factory):
    """The server's own data, prepared; {"": it, "ctx512": that of long texts}."""
    found = {}
    for mode, raw, items in (
        ("", "embedding_server/plain_data/raw", "items.csv"),
        ("ctx512", "long_texts/raw", "items.jsonl"),
    ):
        found[mode] = tmp_path_factory.mktemp("plain") / "out"
        flags = ("--importer=table", "--file=inter.csv", f"--items_file={items}", "--time_column=timestamp")
        prepared.run(cases / raw, found[mode], flags)
    return found


@pytest.fixture
def run(cases, plain, embed, tmp_path):
    """run(mode, *args) -> (folder, Result, seconds, requests) of launch.embed against the case folder's server."""
    processes = []

    def run(mode, *args):
        folder, log = tmp_path / "tiny", tmp_path / "log"
        shutil.copytree(plain.get(mode, plain[""]), folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = [sys.executable, str(cases / "embedding_server" / "server.py"), str(port), mode, str(log)]
        processes.append(subprocess.Popen(server))
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        flags = ("--dataset=tiny", f"--data_dir={folder}", "--encoder=openai", "--model=m")
        started = time.monotonic()
        result = embed(*flags, f"--base_url=http://127.0.0.1:{port}/v1", *args, cwd=tmp_path)
        return folder, result, time.monotonic() - started, [json.loads(line) for line in log.read_text().splitlines()]

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_that_can_be_met(run, mode):
    folder, result, _, _ = run(mode, *MODES[mode])
    assert (result.status, result.err) == (0, "")
    wanted, found = rows(folder, 16), made(folder)
    counts = json.loads((folder / "embeddings.json").read_text())["counts"]
    if mode == "ctx512":  # some texts lost their ends
        assert counts["shortened"] > 0 and found.any(axis=1).all()
    elif mode == "nan500":
        without = [not row.any() for row in found]
        assert without == ["Lamp" in text for text in texts.stream(reading.load("tiny", folder), Wording())]
        assert counts["skipped"] == sum(without) > 0
        np.testing.assert_array_equal(found[~np.array(without)], wanted[~np.array(without)])
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("mode", REFUSED)
def test_each_mode_that_cannot_be_met_ends_soon_in_one_line(run, mode):
    args, message = REFUSED[mode]
    folder, result, seconds, requests = run(mode, *args)
    assert result.status == 2 and result.err.startswith("error: ") and result.err.count("\n") == 1
    assert re.search(message, result.err), result.err
    assert seconds < 30 and not (folder / "item_emb.npy").exists()
    if mode != "nan500":
        assert len(requests) <= 2
    print(f"{mode}: {seconds:.1f} s, {len(requests)} requests: {result.err.strip()}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arr.npz", ""),
        ("dict.pkl", ""),
        ("object.npy", ""),
        ("nan.npy", r"nan.npy: row 3 \(id 4\) holds NaN or infinity .* 1 of 40 rows"),
        ("plus_padding.npy", "plus_padding.npy: has 41 rows; expected 40, .*row 0 must be id 1"),
    ],
)
def test_each_file_of_vectors(cases, plain, embed, tmp_path, name, message):
    folder = tmp_path / "tiny"
    shutil.copytree(plain[""], folder)
    file = cases / "npy" / name
    result = embed("--dataset=tiny", f"--data_dir={folder}", "--encoder=npy", f"--item_file={file}", cwd=tmp_path)
    assert result.status == (2 if message else 0) and re.search(message, result.err), result.err
    assert result.err.count("\n") == bool(message) and (folder / "item_emb.npy").exists() == (not message)
    if name == "dict.pkl":  # joined by raw id, and not in the order of the file
        raw = (folder / "item_ids.txt").read_text().split()
        given = pickles.load_vectors(file)
        np.testing.assert_array_equal(np.load(folder / "item_emb.npy"), [given[one] for one in raw])
        assert raw != list(given)

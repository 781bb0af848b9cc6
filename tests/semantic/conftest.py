"""Fixtures: data to embed, a server on loopback that does it, and a cache of the test's own."""

import json

import numpy as np
import pytest
from embedding_server import EmbeddingServer

from llmesr_jax.data import reading, synthetic
from llmesr_jax.semantic import embed as embed_lib
from llmesr_jax.semantic.encoders import openai
from llmesr_jax.semantic.texts import Wording

WIDTH = 8


def write_folder(folder, titles, histories):
    """`inter.txt` and `items.jsonl`; `histories` are the items of each user."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [f"{user} {item}\n" for user, items in enumerate(histories, 1) for item in items]
    (folder / "inter.txt").write_text("".join(pairs))
    records = [json.dumps({"item_id": item, "title": title}) + "\n" for item, title in enumerate(titles, 1)]
    (folder / "items.jsonl").write_text("".join(records))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """What a test computes is kept in its own folder, for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def corpus(tmp_path):
    """60 users with texts, in a folder, without embeddings."""
    synthetic.write(synthetic.demo(num_users=60, num_items=80), tmp_path / "toy")
    return reading.read_folder("toy", tmp_path / "toy")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with EmbeddingServer(WIDTH) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    """30 items, of which two share a title and one has none; 12 users."""
    titles = [f"thing {n}" for n in range(28)] + ["thing 0", ""]
    rng = np.random.default_rng(3)
    histories = [rng.permutation(30)[:7] + 1 for _ in range(11)] + [range(1, 31)]
    write_folder(tmp_path / "toy", titles, histories)
    return tmp_path / "toy"


@pytest.fixture
def embed(server, folder):
    """embed(**settings of the openai encoder, options=..., stop=...) -> whether the folder has the embeddings."""

    def run(wording=Wording(), options=embed_lib.Options(), stop=None, **settings):
        quick = {"batch_size": 4, "concurrency": 3, "first_wait": 0.001, "longest_wait": 0.01, "timeout": 5.0}
        quick |= {"model": "toy", "base_url": server.base_url, "dimensions": WIDTH, "attempts": 50, "poll": 0.0}
        config = openai.Config(**{**quick, **settings})
        return embed_lib.embed(reading.load("toy", folder), "openai", config, wording, options, stop=stop)

    return run

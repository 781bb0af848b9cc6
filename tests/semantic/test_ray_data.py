"""Texts embedded by actors of a real Ray on this machine: the same files, each text paid once, also after an interrupt."""

import embedded
import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import ray_data
from llmesr_jax.semantic.embed import Options
from llmesr_jax.semantic.encoders import Text, openai
from llmesr_jax.semantic.store import key_of

ACTORS = Options(ray=ray_data.Actors(2))


@pytest.fixture
def ray(monkeypatch):
    """Ray, not yet started, on a machine that seems to have fewer CPUs than there are actors."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_actors_make_the_same_files_and_an_interrupted_run_continues(ray, embed, server, folder, monkeypatch):
    monkeypatch.setattr(ray_data, "_PART", 8)
    answer = ray_data._answer

    def interrupted(batch, where):
        if len(server.paid) > 16:
            raise KeyboardInterrupt
        return answer(batch, where)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ray_data, "_answer", interrupted)
        embed(options=ACTORS)
    assert not (folder / "item_emb.npy").exists() and not list((folder / "cache").glob("*/ray-texts"))
    assert embed(options=ACTORS)
    np.testing.assert_array_equal(np.concatenate(embedded.arrays(folder)), embedded.wanted(folder))
    assert set(server.paid) == set(filter(None, embedded.texts_of(folder)))
    assert not list((folder / "cache").glob("embed-*"))


@pytest.mark.parametrize(("address", "refused"), [("", True), ("cluster:10001", False)])
def test_a_cluster_that_lacks_gpus_is_named(address, refused, monkeypatch, capsys):
    """Ray would wait without a word; a cluster may still grow, this machine does not."""

    class Ray:
        is_initialized = staticmethod(lambda: True)
        cluster_resources = staticmethod(lambda: {"CPU": 3.0, "GPU": 1.0})

    monkeypatch.setattr(ray_data, "_ray", lambda: Ray)
    monkeypatch.setenv("RAY_ADDRESS", address)
    said = "--ray=2: 2 actors take 2 GPUs, but there are 1"
    if refused:
        with pytest.raises(InputError, match=f"^{said}; set --ray or --ray_gpus to less"):
            ray_data._connected(ray_data.Actors(2, 1.0))
    else:
        assert ray_data._connected(ray_data.Actors(2, 1.0)) is Ray
        assert capsys.readouterr().err == f"note: {said} in cluster:10001; waiting until it has more\n"


def test_an_actor_gives_vectors_failures_and_shortened_texts(server, tmp_path):
    """What Ray calls, called without it."""
    server.most_tokens = 4
    server.failing = lambda texts: (400, "this text is bad") if "bad" in texts else None
    quick = {"first_wait": 0.001, "longest_wait": 0.01, "timeout": 5.0, "attempts": 2}
    config = openai.Config(model="toy", base_url=server.base_url, dimensions=embedded.WIDTH, **quick)
    actor = ray_data.Actor("openai", config, embedded.WIDTH)
    texts = ["one", "a text that is far too long for the server", "bad"]
    (part,) = ray_data._write(
        [Text(key_of(text), text, count) for text, count in zip(texts, [1, 9, 1])], tmp_path / "parts"
    )
    found = actor({"path": np.array([str(part)])})
    assert found["shortened"] == [False, True, False] and [bool(reason) for reason in found["failed"]] == [
        False,
        False,
        True,
    ]
    answer = ray_data._answer({name: np.array(column, object) for name, column in found.items()}, tmp_path)
    keys = [key_of(text) for text in texts]
    assert answer.keys == keys[:2] and list(answer.failed) == keys[2:]
    assert answer.vectors.shape == (2, embedded.WIDTH)
    assert ray_data._shortened(tmp_path) == {keys[1].hex()}


def test_texts_are_written_as_parts(tmp_path, monkeypatch):
    pl = pytest.importorskip("polars")
    monkeypatch.setattr(ray_data, "_PART", 2)
    texts = [Text(key_of(str(n)), str(n), n) for n in range(5)]
    written = ray_data._write(texts, tmp_path / "parts")
    assert [len(pl.read_parquet(path)) for path in written] == [2, 2, 1]
    assert [Text(*row) for row in pl.read_parquet(written).rows()] == texts

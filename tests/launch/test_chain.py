"""From raw files to a trained model: prepare, embed and train, one command after the other, for every source."""

import json

import commands
import pytest
import raw_samples
from forked import Forker

WITH_TEXTS = [source for source in raw_samples.SOURCES if source not in ("handled", "sequences")]


@pytest.fixture(scope="module")
def forker(environment, tmp_path_factory):
    with Forker(environment, tmp_path_factory.mktemp("forker")) as forker:
        yield forker


@pytest.mark.parametrize("source", WITH_TEXTS)
def test_raw_files_to_a_trained_model(source, forker, tmp_path):
    args = raw_samples.write(source, tmp_path / "raw")
    small = [flag.replace("tiny", "shop").replace("similar=3", "similar=2") for flag in commands.SMALL]
    steps = [
        ("launch.prepare", "--dataset=shop", "--raw_dir=raw", "--core=none", *args),
        ("launch.embed", "--dataset=shop", "--width=3", "--config.llmesr.width=4"),
        ("launch.train", *small, "--method=llmesr", "--epochs=1", "--workdir=w"),
    ]
    for module, *flags in steps:
        result = forker.run(module, *flags, cwd=tmp_path)
        assert (result.status, result.err) == (0, ""), module
    manifest = json.loads((tmp_path / "data/shop/embeddings.json").read_text())
    assert manifest["counts"]["items"] == len(raw_samples.ITEMS)
    assert manifest["counts"]["users"] == len(raw_samples.USERS)
    assert "item embeddings are item_emb.npy, user embeddings user_emb.npy" in result.out
    assert json.loads((tmp_path / "w/results.json").read_text())["epochs"] == 1

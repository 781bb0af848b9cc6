"""From raw files to a trained model: prepare, embed and train, one command after the other, for every source."""

import gzip
import json
import shlex

import commands
import pytest
import raw_samples
from embedding_server import EmbeddingServer
from forked import Forker

pytestmark = pytest.mark.slow

WITH_TEXTS = [source for source in raw_samples.SOURCES if source not in ("handled", "sequences")]


SHOWN = "--config.train.seen_items=shown"  # one of the samples' users returns to an item


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
        ("launch.train", *small, "--method=llmesr", "--epochs=1", "--workdir=w", SHOWN),
    ]
    for module, *flags in steps:
        result = forker.run(module, *flags, cwd=tmp_path)
        unknown = "warning: 2 items have a text without a word that distinguishes items; their vectors are zeros\n"
        expected = unknown if module == "launch.embed" and source in ("parquet", "recbole_names") else ""
        assert (result.status, result.err) == (0, expected), module  # tags of one letter; one artist for all
    manifest = json.loads((tmp_path / "data/shop/embeddings.json").read_text())
    assert manifest["counts"]["items"] == len(raw_samples.ITEMS)
    assert manifest["counts"]["users"] == len(raw_samples.USERS)
    assert "item embeddings are item_emb.npy, user embeddings user_emb.npy" in result.out
    assert json.loads((tmp_path / "w/results.json").read_text())["epochs"] == 1


def test_data_that_grew(forker, tmp_path):
    """Each step names the next one, in full; a vector is paid once."""
    table, wording = raw_samples.write("csv", tmp_path / "raw"), "It's {title}[ by {note}]"
    grow = ("launch.prepare", "--dataset=shop", "--raw_dir=raw", "--core=none", *table)
    assert forker.run(*grow, cwd=tmp_path).status == 0
    with EmbeddingServer(6) as server:
        flags = ("--encoder=openai", "--model=toy", f"--base_url={server.base_url}", "--dimensions=6", "--float16")
        embed = ("launch.embed", "--dataset=shop", "--config.llmesr.width=4", *flags, f"--item_template={wording}")
        result = forker.run(*embed, cwd=tmp_path)
        assert (result.status, result.err) == (0, "")
        with (tmp_path / "raw" / "products.csv").open("a") as file:
            file.write("new,Lamp,\n")
        lines = gzip.decompress((tmp_path / "raw" / "log.csv.gz").read_bytes()).decode()
        raw_samples.gzipped(tmp_path / "raw" / "log.csv.gz", [*lines.splitlines(), '"2020-01-01",new,e,1'])
        result = forker.run(*grow, "--append", cwd=tmp_path)
        command = result.out.splitlines()[-1].partition("; next: ")[2]
        module, *args = shlex.split(command)[2:]
        wanted = {"--dataset=shop", f"--item_template={wording}", "--append", *flags}
        assert module == "launch.embed" and set(args) == wanted
        small = [flag.replace("tiny", "shop").replace("similar=3", "similar=2") for flag in commands.SMALL]
        train = ("launch.train", *small, "--method=llmesr", "--epochs=1", "--workdir=w", SHOWN)
        result = forker.run(*train, f"--config.semantic.item_template={wording}", cwd=tmp_path)
        assert result.status == 2 and result.err.endswith(f"; make the missing rows with {command}\n")
        server.paid.clear()
        assert forker.run(module, *args, "--config.llmesr.width=4", cwd=tmp_path).status == 0
        assert server.paid["It's Lamp"] == 1 and len(server.paid) <= 2
        result = forker.run(*train, f"--config.semantic.item_template={wording}", cwd=tmp_path)
        assert (result.status, result.err) == (0, "")


def test_tfidf_is_made_anew_for_data_that_grew(forker, tmp_path):
    table = raw_samples.write("csv", tmp_path / "raw")
    grow = ("launch.prepare", "--dataset=shop", "--raw_dir=raw", "--core=none", *table)
    assert forker.run(*grow, cwd=tmp_path).status == 0
    assert forker.run("launch.embed", "--dataset=shop", "--width=3", "--notables", cwd=tmp_path).status == 0
    with (tmp_path / "raw" / "products.csv").open("a") as file:
        file.write("new,Lamp,\n")
    result = forker.run(*grow, "--append", cwd=tmp_path)
    assert result.out.endswith("; next: python -m launch.embed --dataset=shop --width=3\n")
    assert forker.run("launch.embed", "--dataset=shop", "--width=3", "--notables", cwd=tmp_path).status == 0

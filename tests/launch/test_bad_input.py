"""A mistake in the input ends `launch.train` and `launch.evaluate` with one line, status 2 and nothing written."""

import json
import os
import pickle
import re
import shutil
import subprocess

import commands
import numpy as np
import pytest
from forked import Forker

USERS, ITEMS = 60, 150


@pytest.fixture(scope="module")
def forker(environment, tmp_path_factory):
    with Forker(environment, tmp_path_factory.mktemp("forker")) as forker:
        yield forker


@pytest.fixture
def folder(data, tmp_path):
    """A copy of the data, to be spoilt."""
    shutil.copytree(data, tmp_path / "tiny", ignore=shutil.ignore_patterns("cache"))
    return tmp_path / "tiny"


@pytest.fixture
def refused(forker, tmp_path):
    """refused(*args) -> the message of launch.train, which wrote nothing."""

    def refused(*args, module="launch.train"):
        before = _listing(tmp_path)
        result = forker.run(module, *args, cwd=tmp_path)
        assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
        assert (result.status, result.out) == (2, "")
        assert _listing(tmp_path) == before
        return result.err.removeprefix("error: ").rstrip("\n")

    return refused


def _listing(folder):
    """All files but the tables kept beside the data, which no mistake makes wrong."""
    return sorted(path for path in folder.rglob("*") if "cache" not in path.relative_to(folder).parts)


@pytest.fixture
def train_refused(refused, folder):
    """The same, on the spoilt data."""
    return lambda *args: refused(*commands.SMALL, f"--data_dir={folder}", "--workdir=w", *args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--method=lmesr"], "method 'lmesr' is not known; expected one of: "),
        (["--backbone=sasrek"], "backbone 'sasrek' is not known; expected one of: "),
        (["--preset=papre"], "preset 'papre' is not known; expected one of: paper, release"),
        (["--epochs=none"], "--epochs=none"),
        (["--seeds=1,,2"], "seeds '1,,2': are not valid; expected integers"),
        (["--config.train.patience=0"], "train.patience=0; expected at least 1"),
        (["--config.train.valid_protocol=half"], "train.valid_protocol='half' is not known; expected one of: full, "),
        (["--config.data.layout=tight"], "data.layout='tight' is not known; expected one of: "),
        (["--config.loss.ranking=hinge"], "loss.ranking='hinge' is not known; expected one of: "),
        (["--config.llmesr.views=three"], "llmesr.views='three' is not known; expected one of: "),
        (["--config.semantic.encoder=gpt"], "semantic.encoder='gpt' is not known; expected one of: "),
    ],
)
def test_a_wrong_flag(train_refused, args, message):
    assert message in train_refused("--method=llmesr", *args)


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("launch.train", ["--metod=none"], "--metod: there is no such flag; did you mean --method"),
        ("launch.train", ["--method=lmesr"], "method 'lmesr' is not known; .*; did you mean llmesr?"),
        ("launch.train", ["--backbone=SASREK"], "; did you mean sasrec?"),
        ("launch.train", ["--preset=relaese"], "; did you mean release?"),
        ("launch.train", ["--dataset=bauty"], "; did you mean beauty?"),
        ("launch.train", ["--dataset=demo", "--loggers=tensorbord"], "; did you mean tensorboard?"),
        ("launch.train", ["--config.loss.ranking=bprr"], "; did you mean bpr?"),
        ("launch.train", ["--config.train.monitor=n@1O"], "; did you mean N@10?"),
        ("launch.train", ["--config.train.epohs=3"], "; did you mean --config.train.epochs?"),
        ("launch.train", ["--config.loss.calibration=1"], "; did you mean --config.gbce.calibration?"),
        ("launch.train", ["--help=llmers"], "; did you mean llmesr?"),
        ("launch.evaluate", ["--split=tets"], "--split=tets: expected one of: both, test, valid; did you mean test?"),
        ("launch.report", ["--metric=MMR"], "; did you mean MRR?"),
        ("launch.gradients", ["--surface=randon"], "; did you mean random?"),
        ("launch.embed", ["--dataset=demo", "--encoder=tfdif"], "; did you mean tfidf?"),
        ("launch.embed", ["--dataset=demo", "--encoder=openai", "--widht=3"], "; did you mean --width"),
        ("launch.prepare", ["--dataset=x", "--importer=tabel"], "; did you mean table?"),
        ("launch.prepare", ["--dataset=x", "--importer=table", "--core=iterate"], "; did you mean iterated?"),
        ("launch.sweep", ["--grid=llmesr.alhpa=1,2"], "did you mean --grid=llmesr.alpha"),
        ("launch.sweep", ["--sweep=ablatoins"], "; did you mean ablations?"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(refused, module, args, message):
    assert re.search(message.replace("?", r"\?"), refused(*args, module=module))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("inter.txt", None, "inter.txt: no such file; make it from raw files with python -m launch.prepare "),
        ("inter.txt", "", "inter.txt: is empty"),
        ("inter.txt", "1 1\n1 2\n1 x\n", "inter.txt, line 3: found '1 x'; expected two whole numbers"),
        ("inter.txt", "1 1\n1 2 5\n", "inter.txt, line 2: found '1 2 5'"),
        ("inter.txt", "1 1\n1 2\n0 1\n", "inter.txt, line 3: found '0 1'"),
        ("inter.txt", "1 1\n1 2\n1 4\n", "inter.txt: item id 3 is missing"),
        ("inter.txt", "1 1\n1 2\n3 1\n", "inter.txt: user id 2 is missing"),
        ("inter.txt", "1 1\n1 2\n2 1\n2 2\n", "inter.txt: no user has 3 interactions (the most is 2)"),
        ("items.jsonl", "", "items.jsonl: found 0 items with ids up to 0; expected the 150 items"),
        ("items.jsonl", '{"item_id": 1}\n', "items.jsonl, line 1: item 1 has no title"),
        ("items.jsonl", "{]\n", "items.jsonl, line 1: found '{]'; expected one JSON object per line"),
        ("items.jsonl", None, "has no texts or files for item embeddings; expected items.jsonl"),
    ],
)
def test_a_wrong_text_file(train_refused, folder, name, content, message):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    assert message in train_refused("--method=llmesr")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("item_emb.npy", np.ones((ITEMS + 1, 4)), f"item_emb.npy: has {ITEMS + 1} rows; expected {ITEMS}"),
        ("item_emb.npy", np.ones(ITEMS), f"item_emb.npy: has shape ({ITEMS},)"),
        ("item_emb.npy", np.full((ITEMS, 4), np.nan), "item_emb.npy: row 0 (id 1) holds NaN"),
        ("item_emb.npy", np.ones((ITEMS, 4), int), "item_emb.npy: holds int64; expected float16, float32 or float64"),
        ("user_emb.npy", np.ones((USERS - 1, 4)), f"user_emb.npy: has {USERS - 1} rows; expected {USERS}"),
    ],
)
def test_a_wrong_embedding_file(train_refused, folder, name, array, message):
    np.save(folder / name, array)
    assert message in train_refused("--method=llmesr")


def test_fewer_similar_users_than_wanted(train_refused):
    assert "60 similar users" in train_refused("--method=llmesr", "--config.llmesr.similar=60")


class _Harm:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def test_a_pickle_with_code_is_refused_and_not_run(train_refused, folder, tmp_path):
    with (folder / "itm_emb_np.pkl").open("wb") as file:
        pickle.dump(_Harm(tmp_path / "harm"), file)
    message = train_refused("--method=llmesr")
    assert "itm_emb_np.pkl: refused, as it holds posix.mkdir; expected NumPy arrays of numbers only" in message
    assert not (tmp_path / "harm").exists()


def test_an_unknown_data_set(refused):
    message = refused("--dataset=bueaty", "--workdir=w")
    assert message.startswith("data set 'bueaty' is not known; expected one of: beauty, beauty5, demo, ")


def test_a_data_set_that_was_not_prepared(refused):
    message = refused("--dataset=fashion", "--workdir=w")
    step = "python -m launch.prepare --dataset=fashion --raw_dir=<folder of raw files>; or put inter.txt ("
    assert message.startswith(f"data/fashion: no such folder; make it from raw files with {step}")
    for name in ("items.jsonl", "item_emb.npy", "user_emb.npy", "data/fashion/handled", "--data_dir"):
        assert name in message


@pytest.mark.slow
@pytest.mark.parametrize("args", [("--seeds=3",), ("--max_len=9",), ("--backbone=sasrec",), ("--config.none.width=9",)])
def test_the_folder_of_another_configuration(refused, trained, data, args):
    flags = (*commands.SMALL, f"--data_dir={data}", "--method=none", "--seeds=1,2", "--epochs=2", *args)
    folder = trained[0] / "w" / "none"
    message = refused(*flags, f"--workdir={folder}")
    name, _, value = args[0].removeprefix("--").removeprefix("config.").partition("=")
    assert f"{folder}: belongs to another run (" in message
    assert name in message and value in message and "); choose another --workdir," in message


@pytest.mark.slow
def test_the_folder_of_other_data(refused, trained, folder):
    lines = (folder / "inter.txt").read_text().splitlines()
    (folder / "inter.txt").write_text("\n".join(lines[::-1]))
    run = trained[0] / "w" / "none"
    flags = (*commands.SMALL, f"--data_dir={folder}", "--method=none", "--seeds=1,2", "--epochs=2", f"--workdir={run}")
    message = refused(*flags)
    assert f"{run}: belongs to another run (" in message and "interactions: " in message
    assert "); the data or their embeddings have changed since then; choose another --workdir" in message


@pytest.mark.parametrize("place", ["w", "w/below"])
def test_a_file_in_place_of_the_folder(train_refused, tmp_path, place):
    (tmp_path / "w").write_text("mine")
    assert "w: is a file; expected a folder for the run; " in train_refused("--method=none", f"--workdir={place}")
    assert (tmp_path / "w").read_text() == "mine"


def test_no_method_trains_where_the_folder_of_another_is_taken(train_refused, tmp_path):
    (tmp_path / "w" / "llmesr").mkdir(parents=True)
    (tmp_path / "w" / "llmesr" / "thesis.tex").write_text("mine")
    assert "w/llmesr: already exists and is not the folder of a run" in train_refused("--method=none,llmesr")


def test_a_folder_of_something_else(train_refused, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.tex").write_text("mine")
    assert train_refused("--method=none").startswith(
        "w: already exists and is not the folder of a run (no config.json)"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is closed to root")
def test_an_unwritable_folder(train_refused, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "closed" in train_refused("--method=none", "--workdir=closed/w")


@pytest.mark.slow
def test_a_full_disk(start_train, tmp_path):
    """On a disk of 64 kB, where a private one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs privileges")
    try:
        result = commands.finish(start_train("--method=none", "--epochs=5", f"--workdir={disk / 'w'}", cwd=tmp_path))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert result.status == 2
    assert result.err.startswith(f"error: {disk}") and "No space left on device" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--workdir is missing; expected the folder of a run"),
        (["--workdir=absent"], "absent: no such folder; expected the folder of a run"),
        (["--workdir=."], ".: has no run; expected the folder of a run"),
        (["--workdir=w", "--split=train"], "--split=train"),
        (["--workdir=w", "--epochs=3"], "--epochs: there is no such flag"),
        (["--workdir=broken"], "broken/config.json: is not a run's configuration"),
    ],
)
def test_evaluate_says_what_is_wrong(refused, tmp_path, args, message):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text(json.dumps({"config": {}}))
    if "--workdir=." in args:
        shutil.rmtree(tmp_path / "broken")
    assert message in refused(*args, module="launch.evaluate")

"""The leaderboard: what an entry must hold, the page by hand, and the entries of this repository."""

import copy
import json
from pathlib import Path

import commands
import jax
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.experiments import leaderboard
from llmesr_jax.training import config, experiment, loop

GROUPS = ("overall", "tail_item", "head_item", "tail_user", "head_user")


def entry(ndcg=(0.05, 0.07), dataset="shop", **changes):
    """An entry with two seeds."""
    count = len(ndcg)
    full = {group: {"count": [9] * count, "H@10": [0.1] * count, "N@10": list(ndcg)} for group in GROUPS}
    full["coverage"] = {"Coverage@10": [0.8] * count}
    made = {
        "format": 1,
        "published": "2026-01-02T03:04:05+00:00",
        "dataset": dataset,
        "backbone": "sasrec",
        "method": "none",
        "preset": "best",
        "settings": {"none.width": 64, "train.average": 0.999, "data.prefixes": True},
        "changes": ["none.width=64"],
        "data": {"interactions": "0123456789ab", "recipe": ""},
        "split": "leave_one_out",
        "warnings": [{"code": "ties", "text": "Days stand in the order of a file."}],
        "seeds": list(range(1, count + 1)),
        "failed": {},
        "best_epoch": [3] * count,
        "epochs": 5,
        "early_stopped": True,
        "parameters": 1234567,
        "valid": {"full": {"N@10": [0.08] * count, "H@10": [0.1] * count}},
        "test": {"full": full},
        "seconds": 61,
        "device": {"platform": "cpu", "kind": "cpu", "count": 1},
        "python": "3.11.7",
        "versions": {"jax": "0.10.2", "llmesr_jax": None},
        "git": None,
    }
    return made | changes


def test_an_entry_is_checked_and_the_first_wrong_thing_is_named():
    leaderboard.check(entry(), "a.json")
    wrong = {
        "lacks seeds": lambda e: e.pop("seeds"),
        "has workdir": lambda e: e.update(workdir="x"),
        "parameters is 1.5; expected int": lambda e: e.update(parameters=1.5),
        "early_stopped is 1; expected bool": lambda e: e.update(early_stopped=1),
        r"warnings\[0\] lacks code": lambda e: e.update(warnings=[{"text": "x"}]),
        r"settings.none.width is None; expected str or int": lambda e: e["settings"].update({"none.width": None}),
        "settings have data_dir": lambda e: e["settings"].update(data_dir="/home/me"),
        "best_epoch has 1 numbers": lambda e: e.update(best_epoch=[3]),
        "test/full/tail_item/N@10": lambda e: e["test"]["full"]["tail_item"].update({"N@10": [0.1]}),
        "test/full/coverage/Coverage@10": lambda e: e["test"]["full"].pop("coverage"),
        "format is 2; expected 1": lambda e: e.update(format=2),
        "entry is 3; expected dict": None,
    }
    for message, spoil in wrong.items():
        found = copy.deepcopy(entry()) if spoil else 3
        if spoil:
            spoil(found)
        with pytest.raises(InputError, match=f"a.json: .*{message}"):
            leaderboard.check(found, "a.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """flags(**changes) -> the experiment of a run that was trained for two epochs."""
    folder = tmp_path_factory.mktemp("finished")
    commands.write_data(folder / "tiny")
    small = {"none.width": 4, "data.max_len": 8, "sasrec.blocks": 1, "train.epochs": 2, "train.patience": 9}
    small |= {"dataset": "tiny", "data_dir": str(folder / "tiny"), "workdir": str(folder / "run"), "loggers": "none"}

    def made(**changes):
        return experiment.prepare(config.build(flags={**small, **changes}))

    with jax.numpy_dtype_promotion("standard"):  # optax's Adam
        loop.train(made())
    return made


@pytest.mark.slow
def test_an_entry_has_the_settings_that_the_run_was_trained_with(finished):
    """A finished run is also finished for a command with fewer epochs or another patience."""
    found = leaderboard.entry(finished(**{"train.epochs": 1, "train.patience": 3}))
    assert found == {**leaderboard.entry(finished()), "published": found["published"]}
    assert (found["settings"]["train.epochs"], found["settings"]["train.patience"], found["epochs"]) == (2, 9, 2)


@pytest.mark.slow
def test_a_torn_line_of_starts_is_passed_over_and_none_is_a_message(finished):
    made = finished()
    path = Path(made.config.workdir, "starts.jsonl")
    text = path.read_text()
    path.write_text(text + text[:20])
    assert leaderboard.entry(made)["versions"] == json.loads(text)["versions"]
    path.unlink()
    with pytest.raises(InputError, match="starts.jsonl: has no record of a start; expected device and versions"):
        leaderboard.entry(made)
    path.write_text(text)


def test_the_page_by_hand():
    """Warnings above the rows they are about; the highest mean first; deviation of the sample, sqrt(.0002)."""
    runs = {
        "low.json": entry((0.05, 0.07)),
        "high.json": entry((0.08,)),
        "other.json": entry((0.5,), "alone", warnings=[]),
    }
    runs["other.json"]["data"] = {"interactions": "ffff"}
    text = leaderboard.page(runs)
    assert (
        text.index("## alone (ffff)")
        < text.index("The audit of the data has no warnings.")
        < text.index("## shop (01234567)")
    )
    shop = text[text.index("## shop") :]
    assert shop.count("**Warning (ties).** Days stand in the order of a file.") == 1
    assert shop.index("Warning") < shop.index("high.json") < shop.index("low.json")
    row = next(line for line in shop.splitlines() if "low.json" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:6] == ["none", "sasrec", "best", "`none.width=64`", "1, 2", ".0600 ± .0141"]
    assert cells[-5:] == [".0800 ± .0000", "1,234,567", "61", "cpu", "`low.json`"]
    assert len({line.count("|") for line in shop.splitlines() if line.startswith("|")}) == 1


def test_a_folder_is_read_by_file_names_and_its_mistakes_name_the_file(tmp_path):
    with pytest.raises(
        InputError, match="nowhere: no such folder; expected one that launch.train --publish writes into"
    ):
        leaderboard.read(tmp_path / "nowhere")
    (tmp_path / "b.json").write_text(json.dumps(entry()))
    assert leaderboard.read(tmp_path) == {"b.json": entry()}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="a.json: cannot be read as JSON"):
        leaderboard.read(tmp_path)


def test_the_page_of_the_documentation_is_that_of_the_published_entries():
    """`python -m launch.leaderboard` writes it."""
    entries = leaderboard.read(commands.PROJECT / leaderboard.FOLDER)
    assert (commands.PROJECT / "docs" / "leaderboard.md").read_text() == leaderboard.page(entries)
    assert entries and all("/" not in json.dumps(one["settings"]) for one in entries.values())

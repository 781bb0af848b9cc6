"""Recommendations as files: three formats say the same, and what was interrupted continues to the same bytes."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import served

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.serving import answers, bulk, sources
from llmesr_jax.serving.options import Options


@pytest.fixture(scope="module")
def model():
    return served.model("none", "gru4rec")


@dataclasses.dataclass
class Users:
    """70 users, every tenth without a history; stops where asked."""

    count: int = 70
    stop: Stop | None = None
    at: int = -1
    asked: int = 0

    def batch(self, start, stop):
        self.asked += 1
        if start == self.at:
            self.stop.request()
        ids = range(start, min(stop, self.count))
        found = [np.arange(1, 1 + n % 10, dtype=np.int32) for n in ids]
        return sources.Batch([f"üser {n}" for n in ids], found, [n % 2 for n in ids])


def write(model, out, users, stop=None, request=None, overwrite=False):
    options, allowed = model.check(Options(k=3))
    work = answers.workplace(out, request or {"k": 3}, overwrite)
    return answers.write(model, users, out, work, options, allowed, stop=stop)


def table(out):
    """{(user, rank): (item, score, title, source)}; the scores of JSON lines are rounded."""
    if out.suffix == ".jsonl":
        lines = map(json.loads, out.read_text().splitlines())
        return {
            (line["user"], rank): (one["item"], pytest.approx(one["score"], abs=1e-5), one["title"], line["source"])
            for line in lines
            for rank, one in enumerate(line["recommendations"], 1)
        }
    rows = (pl.read_csv(out) if out.suffix == ".csv" else pl.read_parquet(out)).iter_rows(named=True)
    return {(r["user"], r["rank"]): (r["item"], r["score"], r["title"], r["source"]) for r in rows}


def test_three_formats_say_the_same(model, tmp_path):
    tables = {}
    for kind in answers.KINDS:
        out = tmp_path / f"recs{kind}"
        summary = write(model, out, Users())
        assert summary == answers.Summary(70, 7, 35)
        tables[kind] = table(out)
    assert tables[".csv"] == tables[".jsonl"] and tables[".parquet"] == tables[".jsonl"] and len(tables[".csv"]) == 210
    first = tables[".csv"]["üser 0", 1]
    assert first[3] == "popular" and first[1] == model.catalogue.counts_V.max()
    assert summary.remarks(3) == [
        "7 users without a known item in the history got popular items",
        "35 items of the histories are not in the catalogue, and were left out",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"recs.parquet", "recs.csv", "recs.jsonl"}


@pytest.mark.parametrize("kind", answers.KINDS)
def test_what_was_interrupted_continues_to_the_same_bytes(kind, model, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "PART", 16)
    whole, out = tmp_path / f"whole{kind}", tmp_path / f"recs{kind}"
    wanted = write(model, whole, Users())
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        write(model, out, Users(stop=stop, at=32), stop)
    assert not out.exists() and len(list((tmp_path / f"recs{kind}.partial").glob("0*.json"))) == 3
    rest = Users()
    assert write(model, out, rest) == wanted and rest.asked == 2
    assert out.read_bytes() == whole.read_bytes()


def test_another_request_does_not_continue(model, tmp_path):
    out = tmp_path / "recs.csv"
    stop = Stop()
    stop.request()
    with pytest.raises(KeyboardInterrupt):
        write(model, out, Users(), stop)
    with pytest.raises(InputError, match=r"recs.csv.partial: has the parts of another request \(k changed\)"):
        write(model, out, Users(), request={"k": 4})
    write(model, out, Users())
    with pytest.raises(InputError, match="already exists; choose another file, or replace this one with --overwrite"):
        write(model, out, Users())
    write(model, out, Users(), overwrite=True)


@pytest.mark.parametrize("kind", answers.KINDS)
def test_titles_with_half_of_a_character_are_written(model, tmp_path, kind):
    """A program that cuts texts may leave half of a surrogate pair, which UTF-8 cannot hold."""
    titles = ["Lamp \ud83d"] * len(model.catalogue)
    cut = dataclasses.replace(model, catalogue=dataclasses.replace(model.catalogue, titles=titles))
    write(cut, tmp_path / f"r{kind}", Users())
    assert {title for _, _, title, _ in table(tmp_path / f"r{kind}").values()} == {"Lamp ?"}


def test_recall_without_a_known_item_is_not_a_number():
    nobody = SimpleNamespace(batch=lambda start, stop: sources.Batch(["u"], [np.zeros(0, np.int32)], [1]))
    assert "not measured, because none of the first 256 users" in bulk._recall(None, None, nobody, None, None)


def test_names_of_files(tmp_path):
    for name, said in (
        ("recs.xlsx", "expected a file that ends in .parquet, .csv, .jsonl"),
        ("no/recs.csv", "the folder .*no does not exist"),
    ):
        with pytest.raises(InputError, match=said):
            answers.kind_of(tmp_path / name)


def test_a_call_that_was_killed_while_it_cleaned_up_is_complete(tmp_path):
    """Nothing but the parts is deleted then; a file of the same name that is not of these parts is left alone."""
    out, work, finished = (tmp_path / name for name in ("r.csv", "r.csv.partial", "r.csv.finished"))
    out.write_text("rows")
    assert not answers.parts_left(out)
    for left in (["joined", "000000.csv"], ["whole", "joined"], ["000000.csv"]):
        answers.workplace(out, {"k": 10}, overwrite=True)
        for name in left:
            (work / name).touch()
        complete = left == ["joined", "000000.csv"]
        assert answers.parts_left(out) == complete and work.exists()
        assert not complete or (answers.cleaned_up(out, {"k": 10}) and not work.exists())
        answers.discard(work)
    finished.mkdir()
    (finished / "request.json").write_text('{"k": 10}')
    assert answers.parts_left(out) and answers.cleaned_up(out, {"k": 10})
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"] and out.read_text() == "rows"


def test_what_another_call_left_does_not_make_its_file_the_answer_to_this_one(tmp_path):
    out, work = tmp_path / "r.csv", tmp_path / "r.csv.partial"
    out.write_text("rows")
    answers.workplace(out, {"k": 10}, overwrite=True)
    (work / "joined").touch()
    (work / "parts").mkdir()
    assert not answers.cleaned_up(out, {"k": 20})
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"] and out.read_text() == "rows"
    with pytest.raises(InputError, match="already exists"):
        answers.workplace(out, {"k": 20}, overwrite=False)

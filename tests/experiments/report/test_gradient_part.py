"""Gradients on the page: every number of a study and of the watched steps, and nothing where there is none."""

import json
from xml.etree import ElementTree

import pytest
import report_runs

from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.report import collect, gradient_part, make, rows
from llmesr_jax.experiments.report.palette import Palette

PAIR = {"cosine": -0.25, "low": -0.5, "high": 0.1, "conflicts": 0.75, "cosine_of_means": -0.3}
STUDY = {
    "epochs": [
        {"epoch": 1, "terms": {}},
        {
            "epoch": 4,
            "terms": {
                "all": {"norm": {"ranking": 2.0, "distillation": 0.125}, "pairs": {"ranking/distillation": PAIR}},
                "encoder": {"norm": {"ranking": 1.5, "distillation": 0.1}, "pairs": {"ranking/distillation": PAIR}},
            },
        },
    ]
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`none` plain; `llmesr` watched, and studied; `llminit` with a study that is damaged."""
    folder = tmp_path_factory.mktemp("runs")
    data = report_runs.data(folder / "data")
    for method in ("none", "llminit", "llmesr"):
        run = report_runs.write(folder / method, data, method, seeds=(1, 2))
        (run / "gradients").mkdir()
    (folder / "llmesr" / "gradients" / "gradients.json").write_text(json.dumps(STUDY))
    (folder / "llminit" / "gradients" / "gradients.json").write_text('{"epochs": []}')
    path = folder / "llmesr" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["gradients/conflicts/ranking-distillation"] = line["epoch"] / 8
        line["gradients/norm/ranking"] = 1.0
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def section(folder):
    (found,) = rows.sections(collect.read_all(collect.find([folder])))
    return found


def test_a_line_for_each_part_at_the_last_epoch_and_a_damaged_study_is_named(section, caplog):
    found = gradient_part.studies(section)
    assert [(one.row.method, one.epoch, one.group) for one in found] == [("llmesr", 4, "all"), ("llmesr", 4, "encoder")]
    assert found[0].norms == {"ranking": 2.0, "distillation": 0.125}
    assert (found[0].pair, found[0].cosine, found[0].conflicts) == ("ranking/distillation", -0.25, 0.75)
    assert "llminit/gradients/gradients.json: cannot be read (IndexError)" in caplog.text


@pytest.mark.skipif(not drawing.installed(), reason="an extra: pip install -e '.[report]'")
def test_what_was_watched_is_a_line_a_seed(section):
    drawn = gradient_part.watched(section, Palette(section))
    (panel,) = drawn.panels  # norms are in metrics.jsonl, and not drawn
    assert panel.name == "tiny-gru4rec-gradients-conflicts-ranking-distillation"
    assert [row.method for row in drawn.rows] == ["llmesr"]
    ElementTree.fromstring(panel.standalone())
    assert "Conflicts: the share of steps" in drawn.caption and "Noise scale" not in drawn.caption
    assert "Conflicts of two terms" in panel.svg and "ranking and distillation" in panel.svg
    assert gradient_part._points(drawn.rows[0], 2, "conflicts/ranking-distillation") == [
        (1, 0.125),
        (2, 0.25),
        (3, 0.375),
    ]


def test_the_page_has_the_numbers(folder, tmp_path):
    make.make([str(folder)], str(tmp_path / "r"), make.Options(resamples=20, users=0, items=0))
    page = (tmp_path / "r" / "report.html").read_text()
    part = page[page.index('<section id="gradients">') :].partition("</section>")[0]
    table = part.partition("<tbody>")[2]
    for cell in ("all", "encoder", "2", "0.125", "1.5", "0.1", "ranking/distillation", "-0.25", "75\u00a0%"):
        assert f">{cell}</td>" in table, cell
    assert "epoch 4" in table


@pytest.mark.slow
def test_without_either_there_is_no_such_part(folder, tmp_path):
    make.make([str(folder / "none")], str(tmp_path / "r"), make.Options(resamples=20, users=0, items=0))
    assert 'id="gradients"' not in (tmp_path / "r" / "report.html").read_text()

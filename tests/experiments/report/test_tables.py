"""The papers' table in three formats: the numbers of the files, the best in bold, nothing unescaped."""

import csv
import io
import json

import numpy as np
import pytest
import report_runs

from llmesr_jax.data import reading
from llmesr_jax.experiments.report import collect, compare, rows, tables


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = report_runs.data(folder / "data")
    report_runs.write(folder / "a", data, "none")
    report_runs.write(folder / "b", data, "llmesr", ahead=30)
    report_runs.write(folder / "c", data, "llmesr", ahead=2, semantic__item_template="a_{noun}: {title}")
    report_runs.write(folder / "d", data, "none", backbone="sasrec", seeds=(5,))
    (found,) = rows.sections(collect.read_all(collect.find([folder])))
    return found


def stored(section, i, protocol):
    return json.loads((section.rows[i].runs[0].folder / "results.json").read_text())["test"][protocol]


def test_markdown_holds_the_files_numbers(section):
    lines = tables.markdown(section, "full").splitlines()
    assert lines[0] == "**tiny, full**"
    head = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert head[:5] == ["backbone", "method", "seeds", "overall H@10", "overall N@10"] and len(head) == 13
    assert lines[-2:] == ["", tables.CUT] and all(row.cut for row in section.rows)
    for i, line in enumerate(lines[4:-2]):
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        cells = [cell.removeprefix("<u>").removesuffix("</u>") for cell in cells]
        name = {"gru4rec": "GRU4Rec", "sasrec": "SASRec"}[section.rows[i].backbone]
        assert cells[:3] == [name, f"{section.rows[i].title} †", str(len(section.rows[i].seeds))]
        for name, cell in zip(head[3:], cells[3:], strict=True):
            group, metric = name.replace("tail ", "tail_").replace("head ", "head_").split()
            values = stored(section, i, "full")[group][metric]
            wanted = f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")
            assert cell == wanted


def test_the_best_two_of_a_backbone_are_marked_and_one_row_has_no_best(section):
    lines = tables.markdown(section, "full").splitlines()[4:-2]
    means = [np.mean(stored(section, i, "full")["overall"]["H@10"]) for i in range(3)]
    marks = [line.split("|")[4].strip()[:2] for line in lines]
    first, second, _ = sorted(means, reverse=True)
    assert [mark == "**" for mark in marks] == [mean == first for mean in means] + [False]
    assert [mark == "<u" for mark in marks] == [mean == second for mean in means] + [False]


def test_csv_holds_mean_and_deviation_apart(section):
    lines = list(csv.DictReader(io.StringIO(tables.paper_csv(section, "sampled"))))
    assert [line["variant"] for line in lines] == [row.variant for row in section.rows]
    for i, line in enumerate(lines):
        values = stored(section, i, "sampled")["tail_user"]["N@10"]
        assert float(line["tail_user N@10 mean"]) == pytest.approx(np.mean(values), rel=1e-15)
        spread = line["tail_user N@10 deviation"]
        assert spread == "" if len(values) == 1 else float(spread) == pytest.approx(np.std(values, ddof=1))
    assert [line["seeds"] for line in lines] == ["1 2 3", "1 2 3", "1 2 3", "5"]


def test_latex_has_as_many_columns_everywhere_and_is_escaped(section):
    text = tables.latex(section, "full")
    body = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert {line.count("&") for line in body} == {11}
    assert text.count("\\multicolumn{2}{c}") == 5 and text.count("\\midrule") == 2
    assert "semantic.item\\_template=a\\_\\{noun\\}: \\{title\\}" in text
    assert tables.escape_latex("50% & \\x^2") == "50\\% \\& \\textbackslash{}x\\textasciicircum{}2"
    best = max(np.mean(stored(section, i, "full")["overall"]["H@10"]) for i in range(3))
    assert f"\\textbf{{{best:.4f}}}" in text and text.count("\\underline{") >= 10


def test_a_group_without_users(section):
    path = section.rows[3].runs[0].results["full"]["user_length"]["20+"]
    assert path["count"] == [0] and tables.mean(path["H@10"]) is None and tables.deviation(path["H@10"]) is None
    assert rows.cell(path["H@10"]) == "-"


def test_groups_and_tests_as_csv(section, tmp_path_factory):
    corpus = reading.load("tiny", section.rows[0].runs[0].config.data_dir)
    members = compare.masks(corpus, section.users_E, section.stops_E)
    intervals = compare.intervals(section, members, "N@10", 200)
    lines = list(csv.DictReader(io.StringIO(tables.groups_csv(section, intervals, "N@10"))))
    assert len(lines) == 2 * 4 * (5 + 6 + 12) * 7 + 4 * 6  # protocols, rows, groups, metrics; coverage
    with_interval = [line for line in lines if line["low"]]
    assert {line["metric"] for line in with_interval} == {"N@10"}
    assert all(float(line["low"]) <= float(line["mean"]) <= float(line["high"]) for line in with_interval)
    made = compare.compare(section, compare.baselines(section, "none"), members, "N@10", 200)
    tests = list(csv.DictReader(io.StringIO(tables.tests_csv(made, "N@10"))))
    assert len(tests) == 2 * 2 * 5
    for line, one in zip(tests, [*made["full"], *made["sampled"]], strict=True):
        assert (line["system"], line["group"], line["baseline"]) == (one.row.system, one.group, "gru4rec none")
        assert float(line["seeds_p_holm"]) == one.p_seeds and float(line["users_t_p_holm"]) == one.p_t
        assert float(line["difference"]) == one.difference and float(line["low"]) == one.low


def test_a_missing_number_is_an_empty_cell():
    assert [tables._number(x) for x in (None, float("nan"), 0.5)] == ["", "", "0.5"]


def test_coverage_is_in_the_groups_file(section):
    lines = list(csv.DictReader(io.StringIO(tables.groups_csv(section, compare.Intervals({}), "N@10"))))
    found = [line for line in lines if line["division"] == "coverage" and line["metric"] == "TailCoverage@10"]
    wanted = [np.mean(stored(section, i, "full")["coverage"]["TailCoverage@10"]) for i in range(4)]
    assert [float(line["mean"]) for line in found] == pytest.approx(wanted)

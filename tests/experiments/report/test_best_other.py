"""One method against the best of the others, column by column, by hand and against SciPy."""

import csv
import io

import numpy as np
import pytest
import report_runs
from scipy import stats

from llmesr_jax.data import reading
from llmesr_jax.experiments.report import (
    best_other,
    collect,
    compare,
    rows,
    statistics,
    tables,
)
from llmesr_jax.ranking import metrics


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = report_runs.data(folder / "data")
    for i, (method, ahead) in enumerate({"none": 0, "llminit": 12, "melt": 11, "faerec": 40}.items()):
        start = {"start": "x/none"} if method == "melt" else {}
        report_runs.write(folder / f"a{i}", data, method, ahead=ahead, **start)
    report_runs.write(folder / "v", data, "faerec", ahead=60, faerec__gate=False)
    report_runs.write(folder / "alone", data, "none", backbone="sasrec")
    (found,) = rows.sections(collect.read_all(collect.find([folder])))
    return found


@pytest.fixture(scope="module")
def members(section):
    corpus = reading.load("tiny", section.rows[0].runs[0].config.data_dir)
    return compare.masks(corpus, section.users_E, section.stops_E)


def test_ours_is_the_last_whole_method_of_the_papers_tables(section):
    chosen = best_other.choose(section)
    assert {b: section.rows[i].title for b, i in chosen.items()} == {"gru4rec": "FAERec"}  # sasrec has one method
    assert section.rows[best_other.choose(section, "llminit")["gru4rec"]].title == "LLMInit"
    assert best_other.choose(section, "llmesr") == {}


def test_each_column_has_its_own_best_baseline_and_the_tests_are_scipys(section, members):
    found = best_other.against(section, "", members)
    by_method = {row.method: row for row in section.rows if row.backbone == "gru4rec" and not row.variant}
    ours = by_method.pop("faerec")
    for protocol, made in found.items():
        assert list(made) == [
            ("gru4rec", group, metric) for metric in tables.METRICS for group in compare.evaluate.GROUPS
        ]
        for (_, group, metric), one in made.items():
            means = {name: np.mean(row.values(protocol, metric, group)) for name, row in by_method.items()}
            assert one.baseline.method == max(means, key=means.get) and one.row is ours
            assert one.relative == pytest.approx(
                np.mean(ours.values(protocol, metric, group)) / max(means.values()) - 1
            )
            a, b = (row.values(protocol, metric, group) for row in (ours, one.baseline))
            assert one.seeds.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
            mask = np.ones(len(section.users_E), bool) if group == "overall" else members[group]
            each = [row.per_user(protocol, metric)[mask] for row in (ours, one.baseline)]
            assert one.paired_t.p == pytest.approx(stats.ttest_rel(*each).pvalue)
        for name, corrected in (("seeds", "p_seeds"), ("paired_t", "p_t"), ("wilcoxon", "p_wilcoxon")):
            wanted = statistics.holm([getattr(one, name).p for one in made.values()])
            assert [getattr(one, corrected) for one in made.values()] == pytest.approx(wanted, nan_ok=True)
    assert len({one.baseline.method for made in found.values() for one in made.values()}) > 1, "one baseline for all"


def test_without_data_there_are_the_tests_over_seeds(section):
    for made in best_other.against(section, "", None).values():
        assert all(one.seeds is not None for one in made.values())
        assert {group for (_, group, _), one in made.items() if one.paired_t} == {"overall"}


def test_the_files_say_it(section, members):
    found = best_other.against(section, "", members)
    lines = list(csv.DictReader(io.StringIO(tables.improvements_csv(found))))
    every = [(p, *column, one) for p, made in found.items() for column, one in made.items()]
    assert len(lines) == len(every) == 2 * 2 * 5
    for line, (protocol, _, group, metric, one) in zip(lines, every, strict=True):
        assert (line["protocol"], line["group"], line["metric"]) == (protocol, group, metric)
        assert float(line["relative"]) == one.relative and float(line["seeds_p_holm"]) == one.p_seeds
    body = tables.markdown(section, "full", found["full"]).splitlines()
    (row,) = [line for line in body if "Impr. of FAERec" in line]
    shown = [cell.strip() for cell in row.strip("|").split("|")][3:]
    assert shown == [tables.one_impr(found["full"]["gru4rec", *column]) for column in tables.COLUMNS]
    tex = tables.latex(section, "full", found["full"])
    (row,) = [line for line in tex.splitlines() if line.startswith(" & Impr. & ")]
    assert row.count("&") == 11 and "\\%" in row


@pytest.mark.parametrize(("seeds", "users", "star"), [(0.01, 0.01, "*"), (0.2, 0.01, "(*)"), (0.01, 0.2, "")])
def test_stars(section, members, seeds, users, star):
    one = best_other.against(section, "", members)["full"]["gru4rec", "overall", "N@10"]
    one = one._replace(relative=0.1234, p_seeds=seeds, p_t=users, p_wilcoxon=users)
    assert tables.one_impr(one) == f"+12.3 %{star}"
    assert tables.one_impr(one._replace(relative=None)) == f"–{star}"
    assert metrics.PROTOCOLS[0] == "full"  # which leads the page

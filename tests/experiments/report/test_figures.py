"""Figures: what they hold, and that their SVG follows the page's theme without getting in each other's way."""

import html
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import report_runs

from llmesr_jax.data import groups, reading
from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.report import (
    collect,
    compare,
    cost_figure,
    figures,
    group_figures,
    item_map,
    palette,
    rows,
    setting_figures,
)
from llmesr_jax.ranking import metrics

needs_matplotlib = pytest.mark.skipif(not drawing.installed(), reason="an extra: pip install -e '.[report]'")


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = report_runs.data(folder / "data")
    report_runs.write(folder / "none", data, "none")
    for i, alpha in enumerate((0.1, 1.0, 0.5, 0.05)):
        report_runs.write(folder / f"alpha{i}", data, "llmesr", ahead=10 + i, llmesr__alpha=alpha)
    report_runs.write(folder / "n", data, "llmesr", ahead=5, llmesr__similar=6)
    report_runs.write(folder / "other", data, "none", backbone="sasrec", seeds=(1,))
    (found,) = rows.sections(collect.read_all(collect.find([folder])))
    return found


@pytest.fixture(scope="module")
def drawn(section):
    look, nothing = palette.Palette(section), compare.Intervals({})
    corpus = reading.load("tiny", section.rows[0].runs[0].config.data_dir)
    return [
        group_figures.tail(section, look, corpus, "N@10"),
        *group_figures.groups(section, look, nothing, "N@10"),
        figures.trade_off(section, look, "N@10"),
        figures.lists(section, look, "coverage"),
        setting_figures.settings(section, "N@10"),
        setting_figures.curves(section, look),
    ]


@needs_matplotlib
def test_the_figures_that_these_runs_allow(drawn):
    panels = {one.name: len(one.panels) for one in drawn}
    assert panels == {
        "tail": 3,
        "groups-gru4rec": 6,
        "groups-sasrec": 6,
        "trade-off": 2,
        "coverage": 2,
        "settings": 2,  # alpha, with four values; N has two
        "curves": 4,
    }


@needs_matplotlib
def test_curves_of_two_protocols_are_not_on_one_axis(section, tmp_path):
    data = section.rows[0].runs[0].config.data_dir
    for name, protocol in (("none", "full"), ("llmesr", "sampled")):
        report_runs.write(tmp_path / name, data, name, train__valid_protocol=protocol)
    (two,) = rows.sections(collect.read_all(collect.find([tmp_path])))
    panels = setting_figures.curves(two, palette.Palette(two)).panels
    assert [(one.name.rpartition("-")[2], "LLM-ESR" in one.alt) for one in panels] == [
        *[("full", False)] * 2,
        *[("sampled", True)] * 2,
    ]
    assert all(f"validation N@10, {one.name.rpartition('-')[2]}" in one.svg for one in panels)


@needs_matplotlib
def test_colours_are_variables_and_words_are_words(drawn):
    for panel in (panel for one in drawn for panel in one.panels):
        root = ElementTree.fromstring(panel.standalone())
        assert root.attrib["viewBox"] and root.attrib["aria-label"] == panel.alt
        used = set(re.findall(r"var\(--(\w+)\)", panel.svg))
        assert {"ink", "soft", "line"} <= used <= drawing.THEME.keys()
        assert not re.search(r"#[0-9a-f]{6}\b", panel.svg), "a colour that does not follow the theme"
        assert "font-family" not in panel.svg and "DejaVu" not in panel.svg and "http" not in panel.svg
        assert "<text" in panel.svg


@needs_matplotlib
def test_ids_are_unique_and_references_lead_somewhere(drawn):
    text = "".join(panel.svg for one in drawn for panel in one.panels)
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]*)"', text) + re.findall(r"url\(#([^)]*)\)", text)
    assert references and set(references) <= set(ids)


@needs_matplotlib
def test_the_same_runs_give_the_same_bytes(section, drawn):
    again = setting_figures.settings(section, "N@10")
    assert again == next(one for one in drawn if one.name == "settings")


@needs_matplotlib
def test_numbers_stand_over_the_marks(section, drawn):
    svg = next(one for one in drawn if one.name == "trade-off").panels[0].svg  # full
    for row in section.rows:
        head, tail = (np.mean(row.values("full", "N@10", group)) for group in ("head_item", "tail_item"))
        assert f"<title>{section.title(row)}: head {head:.4f}, tail {tail:.4f}</title>" in svg


@needs_matplotlib
@pytest.mark.parametrize("place", range(6))
def test_numbers_of_the_groups_are_those_of_results_json(section, drawn, place):
    """Every mark of every panel, and the counts below; the tail figure's marks are the plain backbone's."""
    figure = next(one for one in drawn if one.name == "groups-gru4rec")
    protocol, name = [(p, d) for p in metrics.PROTOCOLS for d in group_figures.DIVISIONS][place]
    *_, division, labels = group_figures.DIVISIONS[name]
    panel = figure.panels[place]
    assert panel.name == f"tiny-gru4rec-{name}-{protocol}"
    marks = 0
    for row in figure.rows:
        stored = json.loads((row.runs[0].folder / "results.json").read_text())["test"][protocol][division]
        for label in labels:
            title = f"<title>{section.title(row)}, {label}: "
            if label in stored and stored[label]["count"][0]:
                marks += 1
                assert f"{title}{np.mean(stored[label]['N@10']):.4f}</title>" in panel.svg
                assert f">{stored[label]['count'][0]:,}<" in panel.svg
            else:
                assert title not in panel.svg
    assert panel.svg.count("<title>") == marks > len(figure.rows)
    if protocol == "full":
        plain = next(row for row in section.rows if row.system == "none" and row.backbone == "gru4rec")
        stored = json.loads((plain.runs[0].folder / "results.json").read_text())["test"]["full"][division]
        svg = next(one for one in drawn if one.name == "tail").panels[place].svg
        for label in labels:
            if label in stored and stored[label]["count"][0] and f"<title>{label}: " in svg:
                assert f"<title>{section.title(plain)}, {label}: {np.mean(stored[label]['N@10']):.4f}</title>" in svg


@needs_matplotlib
def test_a_file_of_its_own_has_a_legend_and_every_panel_names_its_axes(drawn):
    for panel in (panel for one in drawn for panel in one.panels):
        text, before = panel.standalone(), ElementTree.fromstring(panel.svg).attrib["viewBox"].split()
        root = ElementTree.fromstring(text)
        if panel.legend:
            assert all(f">{html.escape(one.label)}</text>" in text for one in panel.legend)
            assert float(root.attrib["viewBox"].split()[3]) > float(before[3])
        assert "axis_" in text and len(re.findall(r'id="[^"]*text_\d+"', panel.svg)) > 2
        if "coverage" not in panel.name:  # bars that are named at their left
            assert panel.legend


def test_no_two_groups_of_a_panel_overlap():
    """Every number of interactions is in one group of a division, whatever 0 is."""
    bounds = {**groups._USER_LENGTH, **groups._ITEM_POPULARITY}
    for _, _, _, labels in group_figures.DIVISIONS.values():
        for count in range(130):
            assert (
                sum(
                    low <= count <= (high or 10**9) if label != "0" else count == 0
                    for label, (low, high) in ((label, bounds[label]) for label in labels)
                )
                == 1
            ), (labels, count)


def test_quality_against_cost_by_hand(section, tmp_path):
    """Three seeds trained together in 360 s are 2 minutes each; rows that do not say their time are left out."""
    rows_ = [row._replace(runs=tuple(run._replace(seconds=None) for run in row.runs)) for row in section.rows]
    first, second = (
        rows_[i]._replace(runs=(rows_[i].runs[0]._replace(seconds=s),)) for i, s in ((0, 360.0), (1, 90.0))
    )
    assert cost_figure.seconds(first) == 120 and cost_figure.seconds(second) == 30
    assert cost_figure.seconds(rows_[2]) is None
    some = section._replace(rows=(first, second, *rows_[2:]))
    look = palette.Palette(some)
    assert cost_figure.figure(section._replace(rows=(first, *rows_[1:])), look, "N@10") is None
    if drawing.installed():
        figure = cost_figure.figure(some, look, "N@10")
        for panel, group in zip(figure.panels, ("overall", "tail_item"), strict=True):
            value = np.mean(first.values("full", "N@10", group))
            assert f"<title>{section.title(first)}: 2.0 min, {value:.4f}</title>" in panel.svg
            assert panel.svg.count("<title>") == 2


def test_sizes_of_groups_by_hand(section):
    corpus = reading.load("tiny", section.rows[0].runs[0].config.data_dir)
    lengths, total = groups.sizes(corpus)["user_length"]
    assert total == corpus.num_users and lengths["5-9"] == sum(5 <= n <= 9 for n in corpus.train_lengths_U)
    assert groups.sizes(corpus)["item_popularity"][0]["1-4"] == sum(1 <= n <= 4 for n in corpus.item_counts_V)


@needs_matplotlib
def test_a_name_out_of_a_configuration_is_escaped():
    panel = drawing.panel("x", "<b>&", lambda axes, tips: (tips.update(a="<i>"), axes.plot([0], [1], gid="a")))
    assert 'aria-label="&lt;b&gt;&amp;"' in panel.svg and "<title>&lt;i&gt;</title>" in panel.svg
    ElementTree.fromstring(panel.standalone())


def test_a_grid_is_rows_that_differ_in_one_number(section):
    ((key, found),) = setting_figures._grids(section.rows)
    assert key == "llmesr.alpha"
    assert [row.settings[key] for row in found] == [0.05, 0.1, 0.5, 1.0]


def test_lines_are_whole_methods_before_variants(section):
    gru4rec = [row for row in section.rows if row.backbone == "gru4rec"]
    assert [row.system for row in figures.lines(gru4rec)] == ["none", "llmesr"]
    variants = [row for row in gru4rec if row.variant]
    assert figures.lines(variants) == variants


def test_a_method_has_the_same_colour_in_every_report(section):
    looks = {section.label(row): palette.Palette(section).look(row) for row in section.rows}
    assert looks["gru4rec · none"].color == looks["sasrec · none"].color == "s0"
    assert looks["gru4rec · none"].mark != looks["sasrec · none"].mark
    assert looks["gru4rec · llmesr"].color == "s1"
    assert len({look.color for look in looks.values() if not look.hollow}) == 6
    alone = rows.Section("x", "x", tuple(row for row in section.rows if row.system == "llmesr"), section.users_E, "")
    assert palette.Palette(alone).look(alone.rows[0]).color == "s1"


def test_more_systems_than_colours(section):
    many = [section.rows[1]._replace(variant=f"alpha={i}") for i in range(12)]
    crowded = rows.Section("x", "x", (*section.rows, *many), section.users_E, "")
    looks = [palette.Palette(crowded).look(row) for row in many]
    assert {look.color for look in looks if look.hollow} == {"s1"} and any(not look.hollow for look in looks)


def test_themes_have_every_colour_twice():
    for both in drawing.THEME.values():
        assert all(re.fullmatch("#[0-9a-f]{6}", value) for value in both) and both[0] != both[1]


def test_popularity_groups_by_hand():
    assert item_map.popularity_groups(np.array([0, 1, 4, 5, 9, 10, 29, 30, 999])).tolist() == [
        0,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
    ]


def test_shared_popularity_by_hand(monkeypatch):
    """Two far pairs on a line, one of equal and one of different popularity: half of the neighbours share it."""
    monkeypatch.setattr(item_map, "NEIGHBOURS", 1)
    places, popularity = np.array([[0.0], [1.0], [50.0], [51.5]]), np.array([1, 1, 1, 2])
    share, chance = item_map.shared_popularity(places, popularity)
    assert (share, chance) == (0.5, 0.5)  # chance: 3 * 2 of the 4 * 3 ordered pairs

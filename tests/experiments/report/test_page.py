"""The page: whole, self-contained, and every word of a file shown as text."""

import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import report_runs
from markupsafe import escape

from llmesr_jax.data import reading
from llmesr_jax.experiments.report import (
    best_other,
    blocks,
    collect,
    compare,
    make,
    page,
    palette,
    rows,
    sentences,
    tables,
    templating,
    tiles,
    two_views,
)
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.samples import Item, Recommended, Sample

NASTY = "<script>document.title = 'owned'</script> & \"soap\" 'n' <img src=x onerror=alert(1)>"
VOID = {"meta", "link", "br", "img", "use", "path"}


class Tags(HTMLParser):
    """Checks that elements nest, and collects their attributes and the text of the page."""

    def __init__(self):
        super().__init__()
        self.open, self.found, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = report_runs.data(folder / "data")
    report_runs.write(folder / "a", data, "none")
    report_runs.write(folder / "b", data, "llmesr", ahead=60)
    report_runs.write(folder / "c <b>", data, "llmesr", ahead=1, semantic__item_template="<i>{title}</i>")
    (section,) = rows.sections(collect.read_all(collect.find([folder])))
    corpus = reading.load("tiny", data)
    members = compare.masks(corpus, section.users_E, section.stops_E)
    against = compare.usual(section)
    made = compare.compare(section, against, members, "N@10", 200)
    item = Item(3, NASTY, True)
    lists = tuple(Recommended(row, (Item(4, "red tea", False), item), 2, 0) for row in section.rows)
    bought = tuple(Item(i, f"item {i}", False) for i in range(1, 13))
    samples = (Sample(7, bought, item, lists),)
    nothing = compare.Intervals({})
    improved = best_other.against(section, "", members)
    views = (two_views.Alike(section.rows[1], 0.25, 0.1, 0.5, "its own"),)
    one = Chapter(section, palette.Palette(section), "N@10", 200, corpus, against, made, nothing, (), samples)
    return one._replace(improved=improved, views=views, encoders=("TF-IDF (not an LLM)",))


@pytest.fixture(scope="module")
def parsed(chapter):
    tags = Tags()
    tags.feed(page.page([chapter], "python -m launch.report runs"))
    assert not tags.open
    return tags


def test_it_is_self_contained(chapter, parsed):
    kinds = {tag for tag, _ in parsed.found}
    assert not kinds & {"script", "img", "iframe", "object", "form", "input"}
    for tag, attributes in parsed.found:
        links = [attributes[name] for name in ("href", "src", "xlink:href") if name in attributes]
        assert all(link.startswith(("#", "data:")) for link in links), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    text = page.page([chapter], "")
    assert "@import" not in text and "url(" not in text.replace("url(#", "") and "default-src 'none'" in text


def test_every_link_leads_to_a_part(parsed):
    targets = {attributes["id"] for _, attributes in parsed.found if "id" in attributes}
    links = {a["href"][1:] for tag, a in parsed.found if tag == "a"}
    parts = {"results", "tests", "views", "users", "differs", "costs", "runs"}
    assert links == parts | {"parts"} and links <= targets


def test_the_navigation_has_the_headings_words(chapter):
    text = page.page([chapter], "")
    headings = [re.sub(r" ?<a.*", "", line) for line in re.findall(r"<h2>(.*)</h2>", text)]
    assert re.findall(r'<li><a href="#[^"]*">(.*)</a></li>', text) == headings


def test_titles_settings_and_folders_are_text(parsed):
    words = "".join(parsed.words)
    assert words.count(NASTY) == 1 + len(("none", "llmesr", "other"))  # what came next, and in three lists
    assert "item_template=<i>{title}</i>" in words and "c <b>" in words
    assert "texts embedded by TF-IDF (not an LLM)" in words


def test_what_was_bought_is_cut_to_the_newest(parsed):
    words = "".join(parsed.words)
    assert "the newest 8 of 12" in words and "item 12" in words and not re.search(r"\bitem 4\b", words)


def test_tables_have_a_line_for_every_row(chapter, parsed):
    text = blocks.paper_table(chapter, "full")
    assert text.count("<tr") == 2 + 3 + 1 and text.count("<td") == 4 * 10  # with the row Impr.
    assert text.count('class="best"') == 10 == text.count('class="second"')
    assert blocks.paper_table(chapter, "full", ("N@10",)).count("<td") == 4 * 5
    assert blocks.tests_table(chapter, "full").count("<tr") == 1 + 2 * 5


def cells(text):
    """The words of each cell of each line of a table."""
    lines = re.findall(r"<tr[ >].*?</tr>", text, re.DOTALL)
    found = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.DOTALL) for line in lines]
    return [[html.unescape(re.sub(r"<[^>]*>", " ", cell)).split() for cell in line] for line in found]


@pytest.mark.parametrize("protocol", ["full", "sampled"])
def test_every_number_of_the_tables_is_that_of_results_json(chapter, protocol):
    shown = cells(blocks.paper_table(chapter, protocol))[2:]
    stored = [
        json.loads((row.runs[0].folder / "results.json").read_text())["test"][protocol] for row in chapter.section.rows
    ]
    for line, of in zip(shown[:3], stored, strict=True):
        for (group, metric), words in zip(tables.COLUMNS, line[1:], strict=True):
            numbers = [word for word in words if word[-1].isdigit()]
            assert numbers == [f"{np.mean(of[group][metric]):.4f}", f"±{np.std(of[group][metric], ddof=1):.4f}"]
    for (group, metric), words in zip(
        tables.COLUMNS, shown[3][1:], strict=True
    ):  # both of llmesr's rows: the whole one
        ours, base = (np.mean(stored[i][group][metric]) for i in (1, 0))
        assert words[0] == f"{100 * (ours / base - 1):+.1f}"
    differences = cells(blocks.verdicts(chapter, protocol))[1:]
    for row, line in zip(chapter.section.rows[1:], differences, strict=True):
        of = stored[chapter.section.rows.index(row)]
        for group, words in zip(("overall", "tail_item", "head_item", "tail_user", "head_user"), line[1:], strict=True):
            less = np.mean(of[group]["N@10"]) - np.mean(stored[0][group]["N@10"])
            words = [word for word in words if word not in "▲△▼▽"]
            assert words[0] == templating.signed(less)
            assert words[1] == f"({templating.signed(100 * less / np.mean(stored[0][group]['N@10']), 1)}"


def test_the_sentence_on_top_says_what_results_json_does(chapter):
    stored = {
        row.system: json.loads((row.runs[0].folder / "results.json").read_text())["test"]
        for row in chapter.section.rows
    }
    top = re.search(r'<p class="lead">(.*?)</p>', page.page([chapter], ""))[1].replace("\xa0", " ")
    ours, base = (np.mean(stored[name]["full"]["overall"]["N@10"]) for name in ("llmesr", "none"))
    one = next(c for c in chapter.comparisons["full"] if c.row.system == "llmesr" and c.group == "overall")
    if ours / base > 3:
        assert top.startswith(f"LLM-ESR has {ours / base:.1f} times the NDCG@10 of plain GRU4Rec under full ranking")
    else:
        assert top.startswith(f"LLM-ESR beats plain GRU4Rec by {100 * (ours / base - 1):.1f} % in NDCG@10 under full")
    assert f"({ours:.4f} against {base:.4f}; {sentences.verdict(one)})" in top


@pytest.mark.parametrize(
    ("name", "title"), [("overall", "All users"), ("tail_user", "Tail users"), ("tail_item", "Tail items")]
)
def test_every_number_of_a_tile_is_that_of_results_json(chapter, name, title):
    stored = {
        row.title: json.loads((row.runs[0].folder / "results.json").read_text())["test"]
        for row in rows.featured(chapter.section)
    }
    mean = lambda row, protocol="full": np.mean(stored[row][protocol][name]["N@10"])  # noqa: E731
    text = re.sub("\xa0<abbr.*?</abbr>", "", html.unescape(str(tiles.group(chapter, name, title)))).replace("\xa0", " ")
    bars = re.findall(r"<li><span>(.*?)</span><span .*?width:([\d.]+)%.*?</span><span>([\d.]+)</span>", text)
    assert {row: value for row, _, value in bars} == {row: f"{mean(row):.4f}" for row in stored}
    leader = max(stored, key=mean)
    assert re.search(r'<div class="big">(.*?)</div>', text)[1] == f"{mean(leader):.4f}"
    assert re.search(r'<span class="who">(.*?)</span>', text)[1] == leader == "LLM-ESR"
    assert {row: float(width) for row, width, _ in bars} == pytest.approx(
        {row: 100 * mean(row) / mean(leader) for row in stored}, abs=0.05
    )
    base = next(row for row in stored if row != leader)
    lines = re.findall(r"<p(?: class=\"soft\")?>([^<].*)</p>", text)
    less = mean(leader) - mean(base)
    assert lines[0].startswith(
        f"{templating.signed(less)} ({templating.signed(100 * less / mean(base), 1)} %) on {base}"
    )
    first = max(stored, key=lambda row: mean(row, "sampled"))
    assert lines[-1].startswith(f"sampled: {first} leads with {mean(first, 'sampled'):.4f}, ")


def test_a_row_that_the_limit_of_epochs_ended_is_marked_everywhere(chapter, tmp_path):
    mark = 'title="ended by the limit of epochs">†</abbr>'
    whole = tiles.group(chapter, "overall", "All users"), blocks.paper_table(chapter, "full")
    assert all(row.cut for row in chapter.section.rows)
    bars, shown = len(rows.featured(chapter.section)), len(chapter.section.rows)
    assert whole[0].count(mark) == 1 + bars and whole[1].count(mark) == shown + 1  # the leader; the row "Impr."
    assert tables.CUT in tables.markdown(chapter.section, "full", chapter.improved["full"])
    data = report_runs.data(tmp_path / "data")
    for name in ("none", "llmesr"):
        folder = report_runs.write(tmp_path / name, data, name)
        report_runs.change(folder / "results.json", early_stopped=True)
    (section,) = rows.sections(collect.read_all(collect.find([tmp_path])))
    assert "†" not in tables.markdown(section, "full") + tables.latex(section, "full")
    assert mark not in blocks.paper_table(chapter._replace(section=section, improved={}, comparisons={}), "full")


def test_one_seed_has_no_deviation_and_the_page_says_so(chapter):
    assert "Mean over seeds, standard deviation below. " in blocks.results(chapter)
    alone = [row._replace(places={1: row.places[1]}) for row in chapter.section.rows]
    assert blocks.basis(alone) == "One seed each, so there is no standard deviation."
    assert blocks.basis([*alone, *chapter.section.rows]).endswith("below (none for rows with one seed).")


def test_marks_are_those_of_the_tests(chapter):
    """60 places ahead is shown over users; the table says so, and for N@10 alone."""
    shown = {(c.row.system, c.group): c.verdict for c in chapter.comparisons["sampled"]}
    assert shown["llmesr", "overall"] and not any(shown[k] for k in shown if k[0] != "llmesr")
    signs = re.findall("[▲△▼▽]", blocks.paper_table(chapter, "sampled"))
    assert len(signs) == sum(map(bool, shown.values())) and set(signs) <= {"▲", "△"}


def test_a_command_that_was_written_down_is_shown_as_it_is_once(chapter):
    text = "python -m launch.sweep --grid='a=<1>'"
    runs = [row.runs[0]._replace(about={"command": text, "git": "0123"}) for row in chapter.section.rows]
    rows_ = tuple(row._replace(runs=(run,)) for row, run in zip(chapter.section.rows, runs))
    block = blocks.runs(chapter._replace(section=chapter.section._replace(rows=rows_)))
    assert block.count("launch.sweep --grid=&#39;a=&lt;1&gt;&#39;</code>") == 1 and "launch.train" not in block
    assert block.count("git 0123") == 3


def test_it_says_where_it_comes_from(chapter, parsed):
    words = "".join(parsed.words)
    for row in chapter.section.rows:
        for run in row.runs:
            assert str(run.folder) in words and run.date in words
            assert blocks.config_lib.digest(run.config) in words
    assert "jax 0.10.2" in words and "python -m launch.report runs" in words
    assert "python -m launch.train --dataset=tiny" in words


@pytest.mark.parametrize(
    ("p", "text"), [(float("nan"), "–"), (0.0004, "&lt; .001"), (0.0341, ".034"), (0.9996, "1.000"), (1.0, "1")]
)
def test_p_values(p, text):
    assert escape(blocks.p_value(p)) == text


def test_few_seeds_are_said_to_be_few():
    assert "no test over seeds" in blocks.few_seeds([3, 1])
    assert "2 seeds are few" in blocks.few_seeds([2, 5]) and "1 degree of freedom" in blocks.few_seeds([2])
    assert "2 degrees of freedom" in blocks.few_seeds([3]) and "does not mean equal" in blocks.few_seeds([3])
    assert "few" not in blocks.few_seeds([5, 6])


def test_the_terminal_counts_verdicts(chapter):
    made = chapter.comparisons["sampled"]
    users, shown = (sum(one.verdict == kind for one in made) for kind in ("users", "shown"))
    wanted = (
        f"10 comparisons: {shown} significant over users and seeds, {users} over users only, {10 - users - shown} not"
    )
    assert wanted in make._tested(chapter)


def test_a_baseline_of_another_backbone_is_named_with_it(tmp_path):
    data = report_runs.data(tmp_path / "data")
    for name, settings in {
        "a": {"method": "none", "backbone": "sasrec"},
        "b": {"method": "none"},
        "c": {"method": "llmesr", "ahead": 20},
    }.items():
        report_runs.write(tmp_path / name, data, **settings)
    (section,) = rows.sections(collect.read_all(collect.find([tmp_path])))
    members = compare.masks(reading.load("tiny", data), section.users_E, section.stops_E)
    for called, wanted in {"sasrec · none": "SASRec · Base", "none": "Base"}.items():
        against = compare.baselines(section, called)
        made = compare.compare(section, against, members, "N@10", 200)
        nothing = compare.Intervals({})
        colours = palette.Palette(section)
        one = Chapter(section, colours, "N@10", 200, None, against, made, nothing, (), ())
        (lead,) = re.findall(r"<p>([^<]*)</p>\n<p class=\"soft\">sampled", tiles.group(one, "overall", "All users"))
        assert f") on {wanted}, 95 %" in lead
    one = Chapter(section, colours, "", 0, None, {1: 0, 2: 0}, {}, nothing, (), ())
    assert (one.baseline, one.baseline_name) == (section.title(section.rows[0]), section.label(section.rows[0]))


def test_the_command_on_the_page_makes_this_report():
    assert make._flags(make.Options()) == []
    options = make.Options(baseline="none", data_dir=("a", "b c"), metric="H@10", resamples=100, users=0, items=5)
    assert make._flags(options) == [
        "--data_dir=a",
        "--data_dir=b c",
        "--baseline=none",
        "--metric=H@10",
        "--resamples=100",
        "--users=0",
        "--items=5",
    ]


def test_several_data_sets_on_one_page(chapter):
    other = chapter._replace(section=chapter.section._replace(name="another", slug="tiny-2"))
    tags = Tags()
    tags.feed(page.page([chapter, other], ""))
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids)) == 2 * 8
    assert {attributes["href"][1:] for tag, attributes in tags.found if tag == "a"} == set(ids)
    assert sum(tag == "h1" for tag, _ in tags.found) == 2

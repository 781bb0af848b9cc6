"""What the page says in words: who leads, by how much, and what the tests show."""

import numpy as np
import pytest
import report_runs

from llmesr_jax.data import reading
from llmesr_jax.experiments.report import (
    best_other,
    collect,
    compare,
    palette,
    rows,
    sentences,
    setting_table,
    small_tables,
    templating,
    tiles,
)
from llmesr_jax.experiments.report.chapter import Chapter


def chapter_of(folder, **runs):
    data = report_runs.data(folder / "data")
    for name, settings in runs.items():
        report_runs.write(folder / name, data, **settings)
    (section,) = rows.sections(collect.read_all(collect.find([folder])))
    members = compare.masks(reading.load("tiny", data), section.users_E, section.stops_E)
    against = compare.usual(section)
    made = compare.compare(section, against, members, "N@10", 100) if against else {}
    nothing, look = compare.Intervals({}), palette.Palette(section)
    one = Chapter(section, look, "N@10", 100, None, against, made, nothing, (), ())
    return one._replace(improved=best_other.against(section, "", members))


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    runs = {"a": {"method": "none"}, "b": {"method": "llminit", "ahead": 30}, "c": {"method": "faerec", "ahead": 90}}
    runs |= {"d": {"method": "faerec", "ahead": 1, "faerec__gate": False, "train__learning_rate": 0.01}}
    return chapter_of(tmp_path_factory.mktemp("runs"), **runs)


def test_the_leader_is_compared_with_the_baseline_and_the_best_other(chapter):
    first, tail, sampled, cut = sentences.summary(chapter)
    assert cut.startswith("The limit of epochs ended the training of ")
    assert first.startswith("FAERec ") and " plain GRU4Rec" in first and "under full ranking" in first
    other = chapter.improved["full"]["gru4rec", "overall", "N@10"]
    assert other.baseline.method == "llminit"
    assert first.endswith(
        f"from LLMInit, the best of the other methods, is {sentences.size(other)}: {sentences.verdict(other)}."
    )
    assert "on tail items under full ranking" in tail and "under sampled ranking" in sampled


def test_rows_that_the_limit_of_epochs_ended_are_named(tmp_path):
    runs = {"a": {"method": "none"}, "b": {"method": "llminit"}, "c": {"method": "faerec"}}
    one = chapter_of(tmp_path, **runs)
    last = sentences.summary(one)[-1]
    assert last.startswith("The limit of epochs ended the training of ") and last.endswith("their numbers may rise.")
    assert all(name in last for name in ("plain GRU4Rec", "LLMInit", "FAERec"))
    for name in "abc":
        report_runs.change(tmp_path / name / "results.json", early_stopped=True)
    (section,) = rows.sections(collect.read_all(collect.find([tmp_path])))
    assert "limit of epochs" not in " ".join(sentences.summary(one._replace(section=section)))


def test_methods_are_told_by_the_first_lines_of_their_files(tmp_path):
    one = chapter_of(tmp_path, a={"method": "none"}, b={"method": "llminit"}, c={"method": "llmesr"})
    told = dict(sentences.methods(one))
    assert list(told) == ["LLMInit", "LLM-ESR"] and told["LLMInit"].startswith("the item table starts at the PCA")
    assert not any("\n" in text for text in told.values())


def test_where_the_baseline_leads_it_says_so(tmp_path):
    one = chapter_of(tmp_path, a={"method": "none", "ahead": 90}, b={"method": "llminit"})
    first = sentences.summary(one)[0]
    assert first.startswith(
        "No method beats plain GRU4Rec in NDCG@10 under full ranking: the next, LLMInit, differs by -0."
    )
    assert "no method is above Base here" in tiles.group(one, "overall", "All users")


def test_variants_without_a_plain_backbone_are_compared_with_the_whole(tmp_path):
    one = chapter_of(
        tmp_path,
        a={"method": "llmesr", "ahead": 20},
        b={"method": "llmesr", "ahead": 90, "llmesr__alpha": 0.0},
        c={"method": "llmesr", "llmesr__share": False},
    )
    assert {one.section.rows[i].variant: one.section.rows[j].variant for i, j in one.against.items()} == {
        "w/o SD": "",
        "w/o Share": "",
    }
    first = sentences.summary(one)[0]
    assert first.startswith("NDCG@10 under full ranking, against LLM-ESR: the highest variant is w/o SD: +0.")
    assert "; the lowest variant is w/o Share: " in first and one.baseline == "LLM-ESR"
    tile = tiles.group(one, "overall", "All users")
    assert 'class="who">LLM-ESR w/o SD' in tile and " on LLM-ESR" in tile  # the best of the variants is named
    assert "<span>w/o SD" in tile and "<span>w/o Share" in tile and "<span>LLM-ESR&" in tile  # its bar by the variant
    last = sentences.summary(one)[-1]
    assert all(name in last for name in ("LLM-ESR", "w/o SD", "w/o Share"))


def test_where_no_variant_gains_the_tile_says_so(tmp_path):
    runs = {"a": {"method": "llmesr", "ahead": 90}, "b": {"method": "llmesr", "llmesr__share": False}}
    tile = tiles.group(chapter_of(tmp_path, **runs), "overall", "All users")
    assert "no variant is above LLM-ESR here" in tile


def test_that_the_limit_ended_all_of_many_is_said_shortly(tmp_path):
    alphas = {f"a{i}": {"method": "llmesr", "llmesr__alpha": i / 10} for i in range(5)}
    last = sentences.summary(chapter_of(tmp_path, **alphas))[-1]
    assert last.startswith("The limit of epochs ended the training of all 5 rows, not early stopping (†): with more")


def test_one_method_on_each_of_many_backbones_has_their_numbers(tmp_path):
    names = ("gru4rec", "sasrec", "bert4rec", "narm")
    last = sentences.summary(chapter_of(tmp_path, **{b: {"method": "llmesr", "backbone": b} for b in names}))[-1]
    assert "training of all 4 rows" in last and last.endswith("with more epochs their numbers may rise.")


def test_the_best_of_more_variants_than_there_are_bars_is_named(tmp_path):
    runs = {f"a{i:02}": {"method": "llmesr", "llmesr__alpha": i / 20} for i in range(14)}
    runs["a13"]["ahead"] = 90
    tile = tiles.group(chapter_of(tmp_path, **runs), "overall", "All users")
    assert 'class="who">LLM-ESR alpha=0.65' in tile and tile.count("<li>") >= 12 and "<span>alpha=0.65" in tile


def test_one_seed_is_said(tmp_path):
    one = chapter_of(tmp_path, a={"method": "none", "seeds": (1,)}, b={"method": "llminit", "ahead": 90, "seeds": (1,)})
    assert "1 seed; significant over users)" in sentences.summary(one)[0]
    assert "1 seed; significant over users" in tiles.group(one, "overall", "All users")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "significant over users and over 3 seeds"),
        ({"p_seeds": 0.2}, "significant over users, not over 3 seeds"),
        ({"p_t": 0.2}, "not significant"),
        ({"seeds": None, "p_seeds": np.nan}, "1 seed; significant over users"),
        ({"seeds": None, "p_seeds": np.nan, "p_t": 0.2}, "1 seed; not significant"),
        ({"paired_t": None, "p_t": np.nan}, "significant over 3 seeds; no data for a test over users"),
    ],
)
def test_verdicts_in_words(chapter, changes, said):
    one = next(c for c in chapter.comparisons["full"] if c.row.method == "faerec" and c.group == "overall")
    one = one._replace(p_seeds=0.01, p_t=0.01, p_wilcoxon=0.01)._replace(**changes)
    assert sentences.verdict(one) == said


def test_signs():
    assert [templating.signed(x) for x in (0.00361, -0.02, -0.00001, 0.0)] == [
        "+0.0036",
        "-0.0200",
        "±0.0000",
        "+0.0000",
    ]


def test_the_table_of_settings_names_rows_by_value(chapter):
    text = setting_table.table(chapter)
    assert "train.learning_rate" in text and "faerec.gate" in text
    line = text[text.index("<code>train.learning_rate") :]
    assert (
        line.index("0.001")
        < line.index("Base, LLMInit, FAERec<")
        < line.index("FAERec w/o AGF, train.learning_rate=0.01")
    )
    assert "<code>beta=0.2</code>" in text


def test_small_tables(chapter):
    found = small_tables.files(chapter)
    assert set(found) == {"tiny-lists.md", "tiny-lists.tex"}
    lines = found["tiny-lists.md"].splitlines()
    assert lines[0] == "| Backbone | Method | Coverage@10 | TailCoverage@10 |" and len(lines) == 2 + 4
    values = chapter.section.rows[0].values("full", "Coverage@10", "coverage")
    assert lines[2].startswith(f"| GRU4Rec | Base | {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} |")
    assert found["tiny-lists.tex"].count("$\\pm$") == 8 and small_tables.data_sets([chapter]) == {}
    assert [small_tables.sparsity(x) for x in (0.9989, 0.999912)] == ["99.89 %", "99.9912 %"]

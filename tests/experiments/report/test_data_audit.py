"""The audit on the page: both histograms, every fact, every warning as text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import report_runs

from llmesr_jax.audit import audit
from llmesr_jax.audit.findings import Warned
from llmesr_jax.data import reading
from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.report import collect, data_audit, rows

needs_matplotlib = pytest.mark.skipif(not drawing.installed(), reason="an extra: pip install -e '.[report]'")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(section, audit) of the small data."""
    folder = tmp_path_factory.mktemp("runs")
    data = report_runs.data(folder / "data")
    report_runs.write(folder / "none", data, "none")
    (section,) = rows.sections(collect.read_all(collect.find([folder])))
    return section, audit.of_corpus(reading.load("tiny", data))


@needs_matplotlib
def test_a_bar_for_each_range_with_its_number(found):
    section, made = found
    drawn = data_audit.figure(section, made)
    assert [panel.name for panel in drawn.panels] == ["tiny-user-length", "tiny-item-popularity"]
    counts = np.bincount(reading.load("tiny", made.folder).lengths_U)
    svg = drawn.panels[0].svg
    for label, count in (("4", counts[4]), ("5-9", counts[5:10].sum()), ("10-19", counts[10:].sum())):
        assert f"<title>{label}: {count:,} users, " in svg
    ElementTree.fromstring(drawn.panels[1].standalone())
    assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour that does not follow the theme"


def test_the_table_has_every_fact(found):
    text = data_audit.table(found[1])
    assert text.count("<tr>") == text.count('scope="row"') >= 10
    assert "60, 150" in text and "unknown: the data have no times" in text


def test_warnings_are_text(found):
    nasty = found[1]._replace(warnings=(Warned("x", "<script>alert(1)</script> & so"),))
    section, made = found
    assert "<li>&lt;script&gt;alert(1)&lt;/script&gt; &amp; so</li>" in data_audit.warnings(section, nasty)
    assert "has no warnings" in data_audit.warnings(section, made._replace(warnings=()))


def test_a_warning_about_softmax_says_which_rows_it_is_about(found, tmp_path):
    section, made = found
    about = made._replace(warnings=(Warned("sorted", "Models with a softmax loss learn that order."),))
    assert "Rows here with a softmax loss: none." in data_audit.warnings(section, about)
    assert "Rows here" not in data_audit.warnings(section, made._replace(warnings=(Warned("x", "Few users."),)))
    data = report_runs.data(tmp_path / "data")
    report_runs.write(tmp_path / "a", data, "none")
    report_runs.write(tmp_path / "b", data, "llminit", loss__ranking="sampled_softmax")
    (two,) = rows.sections(collect.read_all(collect.find([tmp_path])))
    assert "Rows here with a softmax loss: LLMInit." in data_audit.warnings(two, about)

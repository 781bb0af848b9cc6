"""Rows against a baseline: which with which, and that every number is the one that the tests of SciPy give."""

import math

import numpy as np
import pytest
import report_runs
from scipy import stats

from llmesr_jax.data import groups, reading
from llmesr_jax.experiments.report import collect, compare, rows, statistics
from llmesr_jax.ranking import metrics


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return report_runs.data(tmp_path_factory.mktemp("data"))


def section_of(folder, data, **runs):
    for name, settings in runs.items():
        report_runs.write(folder / name, data, **settings)
    (section,) = rows.sections(collect.read_all(collect.find([folder])))
    return section


def pairs(section, name):
    found = compare.baselines(section, name)
    return found and {section.label(section.rows[i]): section.label(section.rows[j]) for i, j in found.items()}


def test_a_method_is_the_baseline_on_its_own_backbone(tmp_path, data):
    section = section_of(
        tmp_path,
        data,
        a={"method": "none"},
        b={"method": "llmesr"},
        c={"method": "llmesr", "llmesr__alpha": 0.5},
        d={"method": "llmesr", "backbone": "sasrec"},
        e={"method": "llminit", "backbone": "bert4rec"},
        f={"method": "none", "backbone": "sasrec"},
    )
    assert pairs(section, "none") == {
        "gru4rec · llmesr": "gru4rec · none",
        "gru4rec · llmesr alpha=0.5": "gru4rec · none",
        "sasrec · llmesr": "sasrec · none",
    }
    assert pairs(section, "llmesr") == {  # its variants against the whole method, an ablation
        "gru4rec · none": "gru4rec · llmesr",
        "gru4rec · llmesr alpha=0.5": "gru4rec · llmesr",
        "sasrec · none": "sasrec · llmesr",
    }
    by_row = pairs(section, "gru4rec · llmesr alpha=0.5")
    assert len(by_row) == 5 and set(by_row.values()) == {"gru4rec · llmesr alpha=0.5"}
    assert pairs(section, "gru4rec llmesr alpha=0.5") == by_row  # as the table of tests calls it
    assert pairs(section, "c") == by_row == pairs(section, str(tmp_path / "c"))
    assert compare.baselines(section, "faerec") is None
    assert "expected one of: none, llmesr, llminit, " in str(compare.no_baseline([section], "x"))


def test_the_baseline_with_most_settings_in_common(tmp_path, data):
    section = section_of(
        tmp_path,
        data,
        a={"method": "none", "data__max_len": 20},
        b={"method": "none", "data__max_len": 30},
        c={"method": "llmesr", "data__max_len": 30},
    )
    assert pairs(section, "none") == {"llmesr": "none data.max_len=30"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    section = section_of(
        tmp_path_factory.mktemp("runs"),
        data,
        a={"method": "none"},
        b={"method": "llmesr", "ahead": 20},
        c={"method": "llminit", "ahead": 3, "seeds": (4, 5)},
    )
    members = compare.masks(reading.load("tiny", data), section.users_E, section.stops_E)
    return section, members, compare.compare(section, {1: 0, 2: 0}, members, "N@10", 300)


def test_masks_are_those_of_the_groups(made, data):
    wanted = groups.members(reading.load("tiny", data), "test")
    for group in ("overall", "tail_item", "head_user"):
        np.testing.assert_array_equal(made[1][group], wanted[group])
    np.testing.assert_array_equal(made[1]["user_length"]["5-9"], wanted["user_length"]["5-9"])


def test_masks_of_some_users_only(data):
    corpus = reading.load("tiny", data)
    users = np.flatnonzero(corpus.test_U > 0)[[3, 10, 40]] + 1
    wanted = groups.members(corpus, "test")["tail_user"][[3, 10, 40]]
    np.testing.assert_array_equal(compare.masks(corpus, users, corpus.lengths_U[users - 1] - 1)["tail_user"], wanted)


def test_every_number_against_scipy_and_the_files(made):
    section, members, comparisons = made
    assert [(one.row.system, one.group) for one in comparisons["full"]] == [
        (system, group)
        for system in ("llminit", "llmesr")
        for group in ("overall", "tail_item", "head_item", "tail_user", "head_user")
    ]
    for protocol, found in comparisons.items():
        for one in found:
            ours, theirs = (
                np.array(row.runs[0].results[protocol][one.group]["N@10"]) for row in (one.row, one.baseline)
            )
            assert one.difference == pytest.approx(ours.mean() - theirs.mean(), abs=1e-15)
            assert one.relative == pytest.approx(ours.mean() / theirs.mean() - 1)
            if one.row.system == "llmesr":
                assert (one.seeds.name, one.seeds.p) == (
                    "paired t",
                    pytest.approx(stats.ttest_rel(ours, theirs).pvalue),
                )
            else:
                p = stats.ttest_ind(ours, theirs, equal_var=False).pvalue
                assert (one.seeds.name, one.seeds.p) == ("Welch's t", pytest.approx(p))
            mask = members[one.group]
            assert one.users == mask.sum() == one.paired_t.count
            a, b = (users_mean(row, protocol)[mask] for row in (one.row, one.baseline))
            assert one.paired_t.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
            d = np.round(a - b, 12)  # else equal differences of other users would not be ties
            assert one.wilcoxon.count == np.count_nonzero(d)
            wanted = stats.wilcoxon(d, method="asymptotic").pvalue if one.wilcoxon.count >= 10 else np.nan
            assert one.wilcoxon.p == pytest.approx(wanted, nan_ok=True)
            drawn = stats.bootstrap(
                (a - b,), np.mean, n_resamples=300, method="percentile", rng=np.random.default_rng(compare.SEED)
            )
            assert (one.low, one.high) == pytest.approx(tuple(drawn.confidence_interval))
            users = np.random.default_rng(compare.SEED).integers(0, len(a), (300, len(a)))  # as SciPy draws them
            base = b[users].mean(1)
            if base.all():
                ratios = np.percentile(a[users].mean(1) / base - 1, [2.5, 97.5])
                assert (one.relative_low, one.relative_high) == pytest.approx(tuple(ratios))
            else:
                assert one.relative_low is one.relative_high is None
        for name, corrected in (("seeds", "p_seeds"), ("paired_t", "p_t"), ("wilcoxon", "p_wilcoxon")):
            wanted = statistics.holm([getattr(one, name).p for one in found])
            np.testing.assert_array_equal([getattr(one, corrected) for one in found], wanted)


def users_mean(row, protocol):
    each = [metrics.from_ranks(*run.ranks[protocol][seed])["N@10"] for seed, (run, _) in row.places.items()]
    return np.mean(each, axis=0)


def test_verdicts():
    nothing = statistics.Test("", 0.0, 0.5, 3)
    one = compare.Comparison(None, None, "overall", 9, 0.1, 0.1, 0, 0, 0, 0, nothing, nothing, nothing)
    assert one.verdict == ""  # no p at all
    assert one._replace(p_seeds=0.01).verdict == ""
    assert one._replace(p_seeds=0.01, p_t=0.01, p_wilcoxon=0.2).verdict == ""
    assert one._replace(p_seeds=0.01, p_t=0.01).verdict == ""  # too few users differ for Wilcoxon's
    assert one._replace(p_seeds=0.01, p_wilcoxon=0.01).verdict == ""
    assert one._replace(p_seeds=0.06, p_t=0.01, p_wilcoxon=0.01).verdict == "users"
    assert one._replace(p_t=0.01, p_wilcoxon=0.01).verdict == "users"
    assert one._replace(p_seeds=0.04, p_t=0.01, p_wilcoxon=0.01).verdict == "shown"


def test_without_the_data_all_users_are_still_tested(made):
    section, members, comparisons = made
    found = compare.compare(section, {1: 0, 2: 0}, None, "N@10", 300)["full"]
    assert len(found) == 10
    for one, full in zip(found, comparisons["full"]):
        assert (one.difference, one.seeds) == (full.difference, full.seeds)
        assert (one.paired_t is None) == (one.group != "overall") == (one.low is None) == math.isnan(one.p_t)
    assert compare.intervals(section, None, "N@10", 300).means == {}


def test_intervals_of_the_means(made):
    section, members, _ = made
    found = compare.intervals(section, members, "N@10", 300).means
    mean, low, high = found[1, "sampled", "user_length", "5-9"]
    values = users_mean(section.rows[1], "sampled")[members["user_length"]["5-9"]]
    assert mean == pytest.approx(values.mean())
    assert mean == pytest.approx(np.mean(section.rows[1].values("sampled", "N@10", "user_length", "5-9")))
    wanted = stats.bootstrap(
        (values,), np.mean, n_resamples=300, method="percentile", rng=np.random.default_rng(compare.SEED)
    )
    assert (low, high) == pytest.approx(tuple(wanted.confidence_interval))
    assert (0, "full", "overall", "") in found and not any(label == "20+" for *_, label in found)

"""Head and tail by another definition, from the ranks of finished runs."""

import numpy as np
import pytest
import report_runs

from llmesr_jax.data import groups, reading
from llmesr_jax.experiments.report import collect, rows, tails
from llmesr_jax.ranking import evaluate, metrics


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = report_runs.data(folder / "data")
    report_runs.write(folder / "a", data, "none")
    report_runs.write(folder / "b", data, "llmesr", ahead=30)
    (section,) = rows.sections(collect.read_all(collect.find([folder])))
    return section, reading.load("tiny", data)


@pytest.mark.parametrize("tail", [groups.Tail("total"), groups.Tail("release", 8, 3)], ids=["total", "release"])
def test_groups_are_those_of_the_ranks(made, tail):
    section, corpus = made
    found = tails.by(section, corpus, tail)
    assert (found.name, found.slug) == (f"tiny, head and tail: {tail}", f"tiny-{tail.by}")
    members = groups.members(corpus, "test", tail)
    for row, before in zip(found.rows, section.rows):
        for protocol in metrics.PROTOCOLS:
            for seed, value in zip(row.seeds, row.values(protocol, "N@10", "tail_item")):
                per_user = metrics.from_ranks(*before.places[seed][0].ranks[protocol][seed])["N@10"]
                assert value == pytest.approx(per_user[members["tail_item"]].mean(), rel=1e-12)
            assert row.values(protocol, "N@10", "overall") == before.values(protocol, "N@10", "overall")


def test_by_training_counts_nothing_changes(made):
    section, corpus = made
    found = tails.by(section, corpus, groups.TRAINING)
    for row, before in zip(found.rows, section.rows):
        for group in evaluate.GROUPS:
            for metric in metrics.names():
                assert row.values("full", metric, group) == pytest.approx(before.values("full", metric, group))


def test_coverage_follows_from_the_stored_lists(made):
    section, corpus = made
    best = np.zeros(corpus.num_items, np.uint8)
    best[:4] = [1, 7, 20, 3]
    runs = {
        id(run): run._replace(best_V={seed: best for seed in run.seeds}) for row in section.rows for run in row.runs
    }
    changed = [
        row._replace(
            runs=tuple(runs[id(run)] for run in row.runs),
            places={seed: (runs[id(run)], place) for seed, (run, place) in row.places.items()},
        )
        for row in section.rows
    ]
    tail = groups.Tail("total")
    found = tails.by(section._replace(rows=tuple(changed)), corpus, tail)
    tail_V = ~groups.head_items(corpus, tail)
    assert found.rows[0].values("full", "Coverage@5", "coverage")[0] == 2 / corpus.num_items
    assert found.rows[0].values("full", "TailCoverage@20", "coverage")[0] == tail_V[:4].sum() / tail_V.sum()
    # Of runs without lists, what they say of coverage stays.
    old = tails.by(section, corpus, tail)
    assert old.rows[0].values("full", "TailCoverage@5", "coverage") == section.rows[0].values(
        "full", "TailCoverage@5", "coverage"
    )

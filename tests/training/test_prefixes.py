"""Every prefix as a sample: which inputs and targets an epoch has, and what is refused."""

import functools

import jax
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models.recommender import loss_fn
from llmesr_jax.models.types import Needs
from llmesr_jax.training import epoch_plan, interactions

MAX_LEN, BATCH, SIMILAR = 6, 8, 2
TEACHERS = Needs(frozenset({"similar_users"}), similar=SIMILAR)


def epoch(corpus, needs=TEACHERS, **changes):
    """Batches of an epoch, and what they were planned from."""
    settings = {"batch_size": BATCH, "max_len": MAX_LEN, "buckets": 3, "prefixes": True, **changes}
    similar = tiny.tables(corpus, needs).get("similar_users")
    plan = epoch_plan.plan_epochs(corpus, DataConfig(**settings), "last", 0.0, needs, similar)
    data = interactions.resident(corpus, plan.plan)
    tables = {} if similar is None else {"similar_users": similar}
    made = [tiny.make_batch(plan.plan, data, tables, s, jax.random.key(i)) for i, s in enumerate(plan.order(4, 1))]
    return made, plan, data


def pairs(batch):
    """(user, input, target) of each student."""
    targets, last = np.asarray(batch.targets_T), np.asarray(batch.students.last_R)
    rows = zip(np.asarray(batch.users_B).tolist(), tiny.items_by_row(batch.students), targets[last].tolist())
    return [row for row in rows if row[2]]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("layout", ["bucketed", "padded"])
def test_an_epoch_has_each_training_item_but_the_first_as_a_target_once(layout, single):
    corpus = tiny.ragged(2)
    made, _, _ = epoch(corpus, layout=layout, single_item_students=single)
    wanted = []
    for user in range(corpus.num_users):
        items = tiny.training(corpus, user)
        wanted += [(user, items[:t][-MAX_LEN:], items[t]) for t in range(1, len(items))]
        wanted += [(user, [], items[0])] if single and len(items) == 1 else []
    found = [pair for batch in made for pair in pairs(batch)]
    assert sorted(found) == sorted(wanted)
    assert len(found) == sum(int((np.asarray(batch.targets_T) > 0).sum()) for batch in made)


def test_the_whole_sequence_alone_is_distilled_and_has_teachers():
    corpus = tiny.ragged(2)
    made, _, _ = epoch(corpus)
    met = []
    for batch in made:
        rows = tiny.items_by_row(batch.teachers)
        given = zip(batch.distils_B, batch.teacher_rows_BxN, np.asarray(batch.users_B), pairs(batch))
        for distils, own, user, (_, inputs, target) in given:
            items = tiny.training(corpus, user)
            assert bool(distils) == ((inputs, target) == (items[:-1][-MAX_LEN:], items[-1]))
            assert all(bool(rows[r]) == bool(distils) for r in own)
            met += [int(user)] * bool(distils)
    assert sorted(met) == [u for u in range(corpus.num_users) if len(tiny.training(corpus, u)) > 1]


def test_negatives_shared_within_a_batch_have_the_share_of_targets_that_an_epoch_has():
    corpus = tiny.ragged(5)
    made, _, data = epoch(corpus, Needs(), negatives="in_batch", single_item_students=True)
    targets = np.concatenate([np.asarray(batch.targets_T) for batch in made])
    counts = np.bincount(targets[targets > 0] - 1, minlength=corpus.num_items)
    np.testing.assert_allclose(np.exp(data.target_log_shares_V), counts / counts.sum(), rtol=1e-5)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_lengths_on_the_host_are_those_of_the_samples(lengths, longest):
    corpus = tiny.corpus([list(range(1, n + 3)) for n in lengths])
    config = DataConfig(batch_size=2, max_len=longest, prefixes=True, single_item_students=True)
    plan = epoch_plan.plan_epochs(corpus, config, "last", 0.0, Needs(), None)
    found = sorted(epoch_plan.student_lengths(corpus, plan.plan, plan.samples_N).tolist())
    assert found == sorted(min(k, longest) for n in lengths for k in range(1 if n > 1 else 0, max(n, 1)))
    assert epoch_plan.student_lengths(corpus, plan.plan, np.array([-1])).tolist() == [0]


def test_a_backbone_that_learns_from_hidden_positions_is_refused():
    with pytest.raises(InputError, match="data.prefixes=True is for backbones that can learn from the last position"):
        epoch_plan.plan_epochs(tiny.ragged(1), DataConfig(prefixes=True), "masked", 0.5, Needs(), None)


def test_prefixes_of_a_causal_backbone_have_together_the_loss_of_all_positions():
    """SASRec in LLM-ESR's form: a position sees what its prefix holds, at the same places; softmax over all items."""
    settings = {"ranking": "softmax", "batch_size": 24, "max_len": 14, "blocks": 2}
    whole = tiny.case("sasrec", "none", **settings)
    apart = tiny.case("sasrec", "none", prefixes=True, **settings)
    params, sums = whole.params(), []
    for case in (whole, apart):
        total = 0.0
        for step, samples in enumerate(case.epochs.order(0, 1)):
            batch = tiny.make_batch(case.epochs.plan, case.data, case.tables, samples, jax.random.key(step))
            assert batch.newest_only == (case is apart)
            mean = loss(case.model, params, case.tables, batch)
            total += float(mean) * int((np.asarray(batch.targets_T) > 0).sum())
        sums.append(total)
    assert len(apart.epochs.samples_N) > 3 * len(whole.epochs.samples_N)
    assert sums[1] == pytest.approx(sums[0], rel=1e-5)


@functools.partial(jax.jit, static_argnames="model")
def loss(model, params, tables, batch):
    return loss_fn(model, params, tables, batch, None)[0]


def test_more_prefixes_than_numbers_are_refused(monkeypatch):
    corpus = tiny.ragged(1)
    monkeypatch.setattr(epoch_plan, "_MOST_SAMPLES", corpus.num_users * 3)
    with pytest.raises(InputError, match="set data.prefixes=False"):
        epoch_plan.plan_epochs(corpus, DataConfig(prefixes=True), "last", 0.0, Needs(), None)

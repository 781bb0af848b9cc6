"""LOAM: the graph, the walks and the mixtures as loops, what they move, and when it is `none`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.data import groups
from llmesr_jax.models import recommender
from llmesr_jax.models.methods import loam
from llmesr_jax.models.types import Sizes

RATIO = 0.5  # of a batch of 8: 4 walks


def case(backbone="gru4rec", **changes):
    return tiny.case(backbone, "loam", **{"walk_ratio": RATIO, **changes})


@functools.partial(jax.jit, static_argnames="model")
def values(model, params, tables, batch):
    return {name: term.value for name, term in model.terms(params, tables, batch, None).items()}


def edges_by_loop(corpus):
    """{item: its predecessors}."""
    found = {}
    for user in range(corpus.num_users):
        items = tiny.training(corpus, user)
        for before, item in zip(items, items[1:]):
            found.setdefault(item, set()).add(before)
    return found


@pytest.mark.parametrize("most", [0, 1, 2])
def test_the_graph_has_each_neighbours_edge_once_rarest_first_and_cuts_those_into_head_items(most):
    corpus = tiny.ragged(4, users=40, items=15)
    wanted, head = edges_by_loop(corpus), groups.head_items(corpus)
    cut = most or round(sum(map(len, wanted.values())) / corpus.num_items)
    found = loam.tables(corpus, loam.Config(edges=most))["predecessors"]
    assert len(found) == corpus.num_items + 2 and found.dtype == np.int32
    counts = np.pad(corpus.item_counts_V, 1)
    was_cut = 0
    for item, row in enumerate(found):
        near, all_near = row[row > 0].tolist(), wanted.get(item, set())
        assert near == sorted(near, key=lambda i: (counts[i], i)) and not row[len(near) :].any()
        assert len(set(near)) == len(near) and set(near) <= all_near
        is_cut = 0 < item <= corpus.num_items and head[item - 1]
        assert len(near) == (min(len(all_near), cut) if is_cut else len(all_near))
        was_cut += len(near) < len(all_near)
    assert was_cut
    np.testing.assert_array_equal(found, loam.tables(corpus, loam.Config(edges=most))["predecessors"])


def test_a_walk_takes_the_rarest_or_any_predecessor_that_is_a_member():
    corpus = tiny.ragged(4, users=40, items=60)
    graph = loam.tables(corpus, loam.Config())["predecessors"]
    rng = np.random.default_rng(0)
    member = rng.random(len(graph)) < 0.6
    member[[0, -1]] = False
    starts, draws = rng.integers(1, corpus.num_items + 1, 60), rng.random((60, 6, 2)).astype(np.float32)
    found = loam.walk(jnp.asarray(graph), jnp.asarray(member), jnp.asarray(starts, jnp.int32), jnp.asarray(draws), 0.4)
    ways = set()
    for path, start, draw in zip(np.asarray(found).tolist(), starts, draws):
        wanted = [int(start)]
        for use, which in draw:
            near = [i for i in graph[wanted[-1]] if i and member[i]] if wanted[-1] else []
            at = int(which * len(near)) if use < 0.4 else 0
            wanted.append(int(near[at]) if near else 0)
            ways.add((len(near) > 1, at > 0))
        assert path == wanted
    assert ways == {(False, False), (True, True), (True, False)}


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.parametrize("layout", ["bucketed", "padded"])
def test_walks_of_a_batch(backbone, layout):
    """From targets of the batch, backwards along edges, through its items; the loss is at the end."""
    one = case(backbone, layout=layout, batch_size=24)
    corpus, masked = one.corpus, backbone == "bert4rec"
    near, token, met = edges_by_loop(corpus), corpus.num_items + 1, 0
    for seed in range(4):
        batch = one.batch(seed)
        shown, targets = np.asarray(batch.students.items_T), np.asarray(batch.targets_T)
        members = {*shown.tolist(), *targets.tolist()} - {0, token}
        walks = batch.extra["walks"]
        assert len(walks.last_R) == int(RATIO * 24)
        rows = zip(
            tiny.items_by_row(walks), batch.extra["targets"].ids.tolist(), batch.extra["sources"].astype(int).tolist()
        )
        for items, target, source in rows:
            assert bool(items) == bool(target)
            if not target:
                continue
            met += 1
            assert target == targets[batch.students.last_R[source]]
            if masked:
                assert items.pop() == token
                assert (targets[tiny.slots(batch.students)[source]] > 0).sum() == 1
            path = [*items, target]
            assert 2 <= len(items) <= 9 and set(items) <= members
            assert all(before in near[item] for before, item in zip(path, path[1:]))
    assert met > 8


def test_no_walk_is_longer_than_a_sequence_may_be():
    path = jnp.asarray([[9, 1, 2, 3, 4, 0], [8, 7, 6, 0, 0, 0], [5, 0, 0, 0, 0, 0]], jnp.int32)
    length = jnp.asarray([4, 2, 0], jnp.int32)
    assert loam.as_input(path, length, Sizes(9, 9)).tolist() == [[4, 3, 2, 1, 0], [6, 7, 0, 0, 0], [0] * 5]
    assert loam.as_input(path, length, Sizes(9, 3)).tolist() == [[3, 2, 1], [6, 7, 0], [0] * 3]
    masked = Sizes(9, 3, bidirectional=True)
    assert loam.as_input(path, length, masked).tolist() == [[2, 1, 10], [6, 7, 10], [0] * 3]


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_partners_by_loop(similarity):
    h = np.random.default_rng(2).normal(size=(9, 3)).astype(np.float32)
    there = np.array([True, True, False, True, True, True, False, True, True])
    partner, is_one = loam.partners(jnp.asarray(h), jnp.asarray(there), similarity)
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    for i in np.flatnonzero(there):
        if similarity == "cosine":
            wanted = max((j for j in np.flatnonzero(there) if j != i), key=lambda j: unit[i] @ unit[j])  # noqa: B023
        else:
            wanted = sorted(np.flatnonzero(there), key=lambda j: -(h[i] @ h[j]))[1]  # noqa: B023
        assert int(partner[i]) == wanted
    np.testing.assert_array_equal(is_one, there)
    alone = np.arange(9) == 3
    assert not np.asarray(loam.partners(jnp.asarray(h), jnp.asarray(alone), similarity)[1]).any()


def bpr(positive, negatives):
    return np.mean(np.logaddexp(0, negatives - positive))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
def test_both_terms_by_hand(backbone):
    """Loop over targets: of slots, of walks, and of mixtures of rows with a tail target. BPR."""
    one = case(backbone, batch_size=24)
    plain = tiny.case(backbone, "none", blocks=1, batch_size=24)
    with tiny.float64():
        params, tables = tiny.as_float64((one.drawn_params(), one.tables))
        batch = one.batch(2)
        found = values(one.model, params, tables, batch)
        # Of `none`, from here: the vectors of slots by the loss of one slot after the other would take long, so the
        # students' newest ones and the walks' by `user_vectors`, and the batch's own loss as a whole.
        served = lambda rows: np.asarray(plain.model.user_vectors(params, {}, rows))  # noqa: E731
        plain_batch = batch.replace(extra=None)
        own = float(values(plain.model, params, {}, plain_batch)["ranking"])
        table, last = np.asarray(params["table"]["items"]), np.asarray(batch.students.last_R)
        walks, newest = served(batch.extra["walks"]), served(batch.students)
    targets, negatives = np.asarray(batch.targets_T), np.asarray(batch.negatives_TxK)
    rows = zip(walks, batch.extra["targets"].ids.tolist(), batch.extra["sources"].astype(int).tolist())
    losses = [bpr(h @ table[y], table[negatives[last[at]]] @ h) for h, y, at in rows if y]
    count = (targets > 0).sum()
    assert losses and float(found["ranking"]) == pytest.approx(
        (own * count + sum(losses)) / (count + len(losses)), rel=1e-9
    )

    alone = [(targets[at] > 0).sum() == 1 if backbone == "bert4rec" else True for at in tiny.slots(batch.students)]
    has = [i for i, slot in enumerate(last) if targets[slot] and alone[i]]
    unit = newest / np.maximum(np.linalg.norm(newest, axis=1, keepdims=True), 1e-12)  # nobody has a vector of zeros
    mixed = []
    for i in has:
        y = targets[last[i]]
        if not one.tables["tail_item"][y]:
            continue
        j = max((j for j in has if j != i), key=lambda j: unit[i] @ unit[j])  # noqa: B023
        z = 0.8 * newest[i] + 0.2 * newest[j]
        mixed.append(bpr(z @ table[y], table[negatives[last[i]]] @ z))
    assert 0 < len(mixed) < len(has)
    assert float(found["mixture"]) == pytest.approx(np.mean(mixed), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"ranking": "sampled_softmax", "log_q": True}, {"ranking": "softmax"}, {"ranking": "bce", "negatives": "uniform"}],
)
def test_each_ranking_loss_has_walks_and_mixtures(changes):
    one = case(**changes)
    found = values(one.model, one.drawn_params(), one.tables, one.batch())
    without = values(one.model, one.drawn_params(), one.tables, one.batch().replace(extra=None))
    assert all(np.isfinite(x) for x in found.values()) and float(found["mixture"]) > 0
    assert found["ranking"] != without["ranking"] and found["mixture"] == without["mixture"]


def test_gradients_reach_the_walks_and_both_parts_of_a_mixture():
    one = case(batch_size=24)
    params, batch = one.drawn_params(), one.batch(1)

    def gradient(name):
        run = jax.jit(jax.grad(lambda p: one.model.terms(p, one.tables, batch, None)[name].value))
        return run(params)

    by_ranking, by_mixture = gradient("ranking"), gradient("mixture")
    assert all(np.abs(x).max() > 1e-7 for x in jax.tree.leaves((by_ranking["backbone"], by_mixture["backbone"])))
    walked = set(np.asarray(batch.extra["walks"].items_T).tolist()) - {0}
    moved = set(np.flatnonzero(np.abs(by_ranking["table"]["items"]).sum(axis=1)).tolist())
    assert walked and walked <= moved


def test_no_tail_target_no_mixture():
    one = case()
    tables = {**one.tables, "tail_item": jnp.zeros_like(one.tables["tail_item"])}
    assert float(values(one.model, one.drawn_params(), tables, one.batch())["mixture"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["sasrec", "narm"])
def test_without_walks_and_mixtures_it_is_none(backbone):
    one, plain = case(backbone, walk_ratio=0.0, mixture_weight=0.0), tiny.case(backbone, "none", blocks=1)
    assert not one.tables
    params, batch = plain.params(), plain.batch()
    tiny.assert_equal(one.params(), params)
    run = lambda model: jax.jit(  # noqa: E731
        jax.value_and_grad(lambda p: recommender.loss_fn(model, p, {}, batch, jax.random.key(1))[0])
    )
    tiny.assert_equal(run(one.model)(params), run(plain.model)(params))

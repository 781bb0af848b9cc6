"""What every backbone under every method must hold to, over whatever files there are (preset `paper`)."""

import dataclasses
import functools
import itertools
import os

import encoders
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models import backbones, losses, methods, recommender, types
from llmesr_jax.models.axes import check_tables, in_steps, path_of
from llmesr_jax.models.kernels import touched_rows
from llmesr_jax.models.types import Batch
from llmesr_jax.training import config, experiment, steps

BACKBONES, METHODS = backbones.PLUGINS.names(), methods.PLUGINS.names()
PAIRS = list(itertools.product(BACKBONES, METHODS))
# Numbers for each backbone alone, each method on one backbone, and what stands between stem and encoder (LLM-ESR's
# cross-attention, FAERec's gate) under every supervision; LLMESR_ALL_PAIRS=1 computes those of all pairs (a quarter
# of a minute each).
NUMBERS = sorted(
    {(backbone, "none") for backbone in BACKBONES}
    | {("sasrec", method) for method in METHODS}
    | {(backbone, method) for backbone in ("gru4rec", "bert4rec") for method in ("llmesr", "faerec")}
    | set(PAIRS if os.environ.get("LLMESR_ALL_PAIRS") else ())
)
# These trace and compile long; the plain model under each backbone and the papers' own methods stay among the fast tests.
_SLOW = ("cities", "loam", "melt", "rlmrec_con", "rlmrec_gen")
_SLOW_PAIRS = [("bert4rec", "faerec"), ("bert4rec", "llmesr")]


def _marked(pairs):
    slow = lambda pair: pair[1] in _SLOW or pair in _SLOW_PAIRS  # noqa: E731
    return [pytest.param(*pair, marks=pytest.mark.slow if slow(pair) else ()) for pair in pairs]


SUPERVISION = {
    name: backbones.PLUGINS.load(name).supervision(tiny.plugin_config("backbone", name)) for name in BACKBONES
}


@functools.cache
def started(backbone, method):
    """A case, a batch, and parameters no entry of which is special (a bias that starts at 0, say)."""
    with jax.enable_x64(False):  # cached, so it must not depend on who asks first
        return _started(tiny.case(backbone, method, **({} if backbone == "sasrec" else {"blocks": 1})))


def _started(case):
    return case, case.batch(step=1), case.drawn_params()


def floats(tables):
    return {name: table for name, table in tables.items() if jnp.issubdtype(table.dtype, jnp.floating)}


@pytest.mark.parametrize("backbone, method", _marked(PAIRS))
def test_every_pair_has_the_shapes_of_the_contract(backbone, method):
    case = tiny.case(backbone, method)
    model, plan = case.model, case.epochs.plan
    key = jax.random.key(0)
    batch = jax.eval_shape(lambda d, t: steps.example_batch(plan, d, t), case.data, case.tables)
    params = jax.eval_shape(model.init, key, case.tables, batch)
    total, values = jax.eval_shape(
        lambda p, t, b, k: recommender.loss_fn(model, p, t, b, k), params, case.tables, batch, key
    )
    assert total.shape == () and total.dtype == jnp.float32
    assert "ranking" in values and all(v.shape == () for v in values.values())
    users = jax.eval_shape(model.user_vectors, params, case.tables, batch.students)
    items = jax.eval_shape(model.item_vectors, params, case.tables)
    assert items.shape[0] == case.corpus.num_items and users.shape == (plan.config.batch_size, items.shape[1])
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((params, users, items)))
    axes = model.axes(case.tables, batch)
    assert [name for name, _ in axes.params] == [
        path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    check_tables(case.tables, axes)
    touched_rows.check(params, in_steps(case.tables, model.kinds), axes, batch)  # what has rows of items says so


def unread_settings(kind, name, monkeypatch):
    """The fields of a plug-in's `Config` that nothing reads, from its tables to what it serves."""
    read = set()

    class Recorder:
        def __init__(self, config):
            self._config = config

        def __getattr__(self, field):
            read.add(field)
            return getattr(self._config, field)

    backbone, method = (name, "none") if kind == "backbone" else ("sasrec", name)
    made = {"backbone": tiny.plugin_config("backbone", backbone), "method": tiny.plugin_config("method", method)}
    made[kind] = Recorder(made[kind])
    monkeypatch.setattr(recommender.knobs, "fixed", lambda section: section)  # which copies, and so reads all of them
    case = tiny.case(backbone, method)
    recommender.needs(method, made["method"])
    if hasattr(methods.PLUGINS.load(method), "tables"):
        methods.PLUGINS.load(method).tables(case.corpus, made["method"])
    backbones.PLUGINS.load(backbone).needs_padding(made["backbone"])
    model = recommender.build(method, made["method"], backbone, made["backbone"], losses.LossConfig(), case.model.sizes)
    plan, key = case.epochs.plan, jax.random.key(0)
    batch = jax.eval_shape(lambda d, t: steps.example_batch(plan, d, t), case.data, case.tables)
    if model.extra is not None:
        jax.eval_shape(model.extra, case.data, case.tables, batch, key)
    params = jax.eval_shape(model.init, key, case.tables, batch)
    jax.eval_shape(lambda p, t, b, k: recommender.loss_fn(model, p, t, b, k), params, case.tables, batch, key)
    for hook, more in ((model.before_epoch, (1.0,)), (model.for_serving, ())):
        if hook is None:
            continue
        changed = jax.eval_shape(hook, params, case.tables, case.data, *more)
        assert jax.tree.map(jnp.shape, changed) == jax.tree.map(jnp.shape, params)
    jax.eval_shape(model.user_vectors, params, case.tables, batch.students)
    fields = {
        f.name for f in dataclasses.fields({"backbone": backbones, "method": methods}[kind].PLUGINS.load(name).Config)
    }
    return fields - read


@pytest.mark.parametrize("kind, name", [("backbone", b) for b in BACKBONES] + [("method", m) for m in METHODS])
def test_every_setting_of_a_plug_in_is_read(kind, name, monkeypatch):
    """A setting that nothing reads would be a switch without effect."""
    elsewhere = {"mask_share"}  # read by `experiment.prepare`, see below
    assert unread_settings(kind, name, monkeypatch) <= elsewhere


def test_the_cloze_tasks_mask_share_reaches_the_batches(tmp_path):
    (tmp_path / "inter.txt").write_text("".join(f"{u} {i}\n" for u in range(1, 5) for i in range(1, 7)))
    flags = {"dataset": "tiny", "data_dir": str(tmp_path), "backbone": "bert4rec", "method": "none"}
    run = experiment.prepare(config.build({"bert4rec.mask_share": 0.25}, flags))
    assert run.epochs.plan.mask_share == 0.25 and run.epochs.plan.supervision == "masked"


@pytest.mark.parametrize(
    "flags, overrides, supervision, layout",
    [
        ({"backbone": "gmlp"}, {}, "every", "bucketed"),
        ({"backbone": "gmlp"}, {"gmlp.causal": False}, "last", "bucketed"),
        ({"backbone": "narm"}, {"narm.supervision": "every"}, "every", "bucketed"),
        ({"backbone": "fmlprec"}, {}, "last", "bucketed"),
        ({"backbone": "fmlprec", "preset": "release"}, {}, "every", "padded"),
    ],
)
def test_a_backbones_settings_decide_what_is_learnt_from(tmp_path, flags, overrides, supervision, layout):
    (tmp_path / "inter.txt").write_text("".join(f"{u} {i}\n" for u in range(1, 5) for i in range(1, 7)))
    flags = {"dataset": "tiny", "data_dir": str(tmp_path), "method": "none", **flags}
    run = experiment.prepare(config.build(overrides, flags))
    assert run.recommender.supervision == run.epochs.plan.supervision == supervision
    assert run.epochs.plan.config.layout == layout


@functools.partial(jax.jit, static_argnames="model")
def in_two_parts(model, params, tables, sequences):
    views = model.slot_views(params, tables, sequences)
    return views, model.encode(params, tables, views, sequences)


@pytest.mark.parametrize(
    "backbone, method",
    _marked(("gru4rec", m) for m in METHODS) + [pytest.param(b, "faerec", marks=pytest.mark.slow) for b in BACKBONES],
)
def test_users_are_the_encoders_of_the_views(backbone, method):
    """Views of slots, then the encoder: the vectors of `user_vectors`. Views read items alone."""
    case, batch, params = started(backbone, method)
    views, users = in_two_parts(case.model, params, case.tables, batch.students)
    wanted = tiny.user_vectors(case.model, params, case.tables, batch.students)
    np.testing.assert_allclose(users, wanted, atol=1e-6)
    assert views.shape[-2] == len(batch.students.items_T)
    every = jnp.arange(case.corpus.num_items + 2, dtype=jnp.int32)
    row = tiny.lay([[1]], ((1, len(every)),)).replace(items_T=every)
    rows, _ = in_two_parts(case.model, params, case.tables, row)
    np.testing.assert_allclose(jnp.take(rows, batch.students.items_T, axis=-2), views, atol=1e-6)


def test_what_a_method_may_add_is_there_where_its_file_has_it():
    for method in METHODS:
        model, module = tiny.case("sasrec", method).model, methods.PLUGINS.load(method)
        for name in ("optimizer", "extra", "before_epoch", "for_serving"):
            assert (getattr(model, name) is not None) == hasattr(module, name)
        assert hasattr(module, "trains") or model.trains("table/items")


@functools.cache
def in_float64(backbone, method):
    """(model, params, tables, batch, what the model says of it)."""
    case, batch, params = started(backbone, method)
    params, tables = tiny.as_float64((params, case.tables))
    return case.model, params, tables, batch, tiny.outputs(case.model, params, tables, batch)


@pytest.mark.slow
@pytest.mark.parametrize("backbone, method", _marked(NUMBERS))
def test_results_do_not_depend_on_padding(backbone, method):
    """Bucketed rows, and rows padded to any one length on either side: same losses, gradients and user vectors."""
    with tiny.float64():
        model, params, tables, batch, wanted = in_float64(backbone, method)
        assert all(x.dtype == jnp.float64 for x in jax.tree.leaves(wanted))
        for left in (False, True):
            ours = tiny.outputs(model, params, tables, tiny.padded_batch(batch, 13, left))
            tiny.assert_close(ours, wanted, 1e-10)


def test_results_do_not_depend_on_padding_in_float32():
    case, batch, params = started("gru4rec", "llmesr")
    wanted = tiny.outputs(case.model, params, case.tables, batch)
    for left in (False, True):
        ours = tiny.outputs(case.model, params, case.tables, tiny.padded_batch(batch, 13, left))
        tiny.assert_close(ours, wanted, 1e-5)


@functools.partial(jax.jit, static_argnames="model")
def sensitivities(model, params, tables, rest, batch, targets_LxT, negatives_LxTxK):
    """Gradients of the ranking loss of one slot at a time, in parameters and tables: leading axis L."""

    def ranking(trees, targets_T, negatives_TxK):
        params, tables = trees
        b = batch.replace(targets_T=targets_T, negatives_TxK=negatives_TxK)
        return model.terms(params, {**tables, **rest}, b, None)["ranking"].value

    return jax.vmap(jax.grad(ranking), in_axes=(None, 0, 0))((params, tables), targets_LxT, negatives_LxTxK)


@functools.cache
def sensitivity_by_slot(backbone, method):
    """{leaf: (L, length)}: how the loss at slot t depends on the item, or the position, of slot s.

    One row holds items 1..L, each once; target and negative stand elsewhere, so the loss at slot t reads the user
    vector out with the difference of two arbitrary vectors.
    """
    case, _, params = started(backbone, method)
    length, num_items = 7, case.corpus.num_items
    row = list(range(1, length + 1))
    students = tiny.lay([row], ((1, length + 2),))
    teachers = tiny.lay([[num_items]] * 2, ((2, 1),))
    targets = np.zeros((length, length + 2), np.int32)
    negatives = np.zeros((length, length + 2, 1), np.int32)
    at = np.arange(length)
    targets[at, at], negatives[at, at, 0] = num_items - 1, num_items - 2
    batch = Batch(
        students,
        targets[0],
        negatives[0],
        jnp.ones(1, bool),
        teachers,
        jnp.arange(2, dtype=jnp.int32).reshape(1, 2),
        users_B=jnp.zeros(1, jnp.int32),
    )
    tables = floats(case.tables)
    rest = {name: table for name, table in case.tables.items() if name not in tables}
    gradients = sensitivities(case.model, params, tables, rest, batch, targets, negatives)
    out = {}
    for path, x in jax.tree_util.tree_flatten_with_path(gradients)[0]:
        if x.ndim == 3 and x.shape[1] in (num_items + 2, case.config.max_len + 2):
            out[jax.tree_util.keystr(path)] = np.abs(x[:, 1 : length + 1]).sum(axis=2)
    # Of tables, one only starts another, one may be there for other terms of the loss, and one has its gradient stopped.
    more = {"rlmrec_con": "item_llm", "rlmrec_gen": "item_llm", "alphafuse": "['semantic']"}
    aside = ("item_pca", *([more[method]] if method in more else []))
    return {name: value for name, value in out.items() if not any(table in name for table in aside)}


CAUSAL = [pair for pair in PAIRS if pair in NUMBERS and SUPERVISION[pair[0]] != "masked"]


@pytest.mark.slow
@pytest.mark.parametrize("backbone, method", CAUSAL)
def test_no_position_with_a_loss_sees_a_later_one(backbone, method):
    """Zero gradient from every later item (in each of its tables) and position; never zero from earlier ones.

    Where the last position alone has a loss, an encoder may look ahead: then others have no gradient at all.
    """
    found = sensitivity_by_slot(backbone, method)
    assert len(found) >= {"llmesr": 2, "faerec": 2}.get(method, 1)
    for name, value_LxL in found.items():
        assert not np.triu(value_LxL, 1).any(), name
        earlier = value_LxL[np.tril_indices_from(value_LxL)] if SUPERVISION[backbone] == "every" else value_LxL[-1]
        assert (earlier > 1e-9).all(), name


@pytest.mark.parametrize("backbone", [b for b in BACKBONES if SUPERVISION[b] == "last"])
def test_the_last_position_alone_has_a_loss(backbone):
    batch = tiny.case(backbone, "none").batch()
    with_loss = np.flatnonzero(batch.targets_T)
    assert len(with_loss) and set(with_loss) <= set(np.asarray(batch.students.last_R))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_views_and_seeds_side_by_side_are_as_each_alone(backbone):
    """Two views of one sequence, two seeds under `vmap`, and newest positions alone: the numbers of the plain call."""
    module = backbones.PLUGINS.load(backbone)
    encoder = module.Backbone(tiny.plugin_config("backbone", backbone, blocks=1), types.Sizes(30, 9))
    sequences = tiny.lay([[1, 2, 3, 4, 5], [6, 7], [8], []], ((4, 6),))
    x_2xTxD = jax.random.normal(jax.random.key(1), (2, 24, 4))

    def encode(params, x, last_only):
        stem = encoder.apply({"params": params}, x, sequences, True, method="stem")
        return encoder.apply({"params": params}, stem, sequences, True, last_only)

    @jax.jit
    def run(params):
        second = jax.tree.map(lambda x: x[1], params)
        seeds = jax.vmap(encode, in_axes=(0, None, None))(params, x_2xTxD, True)
        every = encode(second, x_2xTxD, False)[:, sequences.last_R]
        return seeds, every, encode(second, x_2xTxD[1], True)

    drawn = [encoders.init(encoder, x_2xTxD, sequences, seed) for seed in (0, 1)]
    seeds, every, alone = run(jax.tree.map(lambda *x: jnp.stack(x), *drawn))
    real = np.asarray(sequences.valid_R)
    np.testing.assert_allclose(every[:, real], seeds[1][:, real], atol=1e-5)
    np.testing.assert_allclose(alone[real], seeds[1, 1, real], atol=1e-5)
    assert np.isfinite(seeds).all() and np.abs(seeds[1, 0, real] - seeds[1, 1, real]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [b for b in BACKBONES if SUPERVISION[b] == "masked"])
@pytest.mark.parametrize("method", ["none", "llmesr", "faerec"])
def test_the_cloze_task_sees_both_sides(backbone, method):
    for name, value_LxL in sensitivity_by_slot(backbone, method).items():
        assert (value_LxL > 1e-9).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("backbone, method", _marked(NUMBERS))
def test_the_losss_score_is_users_dot_items(backbone, method):
    """With targets at the newest slots only, the ranking loss is that of user_vectors . item_vectors."""
    _, batch, _ = started(backbone, method)
    rows = np.flatnonzero(np.asarray(batch.students.valid_R))
    last = np.asarray(batch.students.last_R)[rows]
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, tiny.case(backbone, method).corpus.num_items + 1, (3, len(rows))).astype(np.int32)
    targets, negatives = np.zeros_like(batch.targets_T), np.zeros_like(batch.negatives_TxK)
    targets[last], negatives[last] = drawn[0], drawn[1:].T
    with tiny.float64():
        model, params, tables, same_batch, said = in_float64(backbone, method)
        if "tail_user" in tables:  # a method may serve them another vector than it learns with
            tables = {**tables, "tail_user": jnp.zeros_like(tables["tail_user"])}
            said = tiny.outputs(model, params, tables, same_batch)
        scores = np.asarray(said["users"] @ said["items"].T)[rows]
        # What a method adds to a batch, or hides in it, has no part in how a user is served.
        new = batch.replace(targets_T=jnp.asarray(targets), negatives_TxK=jnp.asarray(negatives), extra=None)
        found = float(tiny.outputs(model, params, tables, new)["values"]["ranking"])
    at = np.arange(len(rows))
    pairs = [scores[at, negative - 1] - scores[at, drawn[0] - 1] for negative in drawn[1:]]
    assert len(rows) and found == pytest.approx(np.logaddexp(0, pairs).mean(), rel=1e-10)


@pytest.mark.parametrize("backbone, method", _marked(NUMBERS))
def test_every_parameter_learns_and_no_table_is_one(backbone, method):
    with tiny.float64():
        model, params, tables, _, said = in_float64(backbone, method)
    gradients = jax.tree_util.tree_leaves_with_path(said["gradients"])
    assert jax.tree.structure(said["gradients"]) == jax.tree.structure(params)
    for path, gradient in gradients:
        name = jax.tree_util.keystr(path)
        assert (np.abs(gradient).max() > 1e-7) == model.trains(path_of(path)), name
        assert not [table for table in tables if table in name], name

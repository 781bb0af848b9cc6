"""A tiny catalogue, its tables, batches and models: what the tests of models, batches and losses share."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus, from_pairs
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models import backbones, methods, recommender, types
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.types import Batch, Sequences, Sizes
from llmesr_jax.training import batches, epoch_plan, interactions

LLM_WIDTH = 6
_SMALL = {
    "width": 4,
    "similar": 2,
    "null_width": 2,
    "expansion": 2,
    "walk_ratio": 0.5,
    "window": 3,  # of CITIES, as the next two
    "shots": 4,
    "head_items": 16,
}


def corpus(histories: list[list[int]]) -> Corpus:
    """Users with these items; ids are made to be 1..V."""
    _, items = np.unique(np.concatenate(histories), return_inverse=True)
    return from_pairs("tiny", np.repeat(np.arange(1, len(histories) + 1), [len(h) for h in histories]), items + 1)


def ragged(seed: int, users: int = 24, items: int = 30, longest: int = 14) -> Corpus:
    """Users with 1 to `longest` items, repeats among them; some have one training item only."""
    rng = np.random.default_rng(seed)
    lengths = [longest, 1, 2, 3, *rng.integers(1, longest + 1, users - 4)]
    return corpus([rng.integers(1, items + 1, n).tolist() for n in lengths])


def ints(x: Any) -> jax.Array:
    return jnp.asarray(x, jnp.int32)


def history(data: Corpus, user: int) -> list[int]:
    return data.items[data.offsets[user] : data.offsets[user + 1]].tolist()


def training(data: Corpus, user: int) -> list[int]:
    return history(data, user)[: data.train_lengths_U[user]]


def tables(data: Corpus, needs: types.Needs, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tables of the kinds that a method needs."""
    rng = np.random.default_rng([seed, data.num_items])
    made = {}
    for name, width in (("item_llm", LLM_WIDTH), ("item_pca", needs.pca_width)):
        if name in needs.tables:
            inner = rng.normal(size=(data.num_items, width)).astype(np.float32)
            made[name] = np.pad(inner, ((1, 1), (0, 0)))
    if "item_popularity" in needs.tables:
        made["item_popularity"] = np.pad(np.maximum(data.item_counts_V, 1).astype(np.int32), 1)
    if "tail_item" in needs.tables:
        made["tail_item"] = np.pad(~groups.head_items(data), 1)
    if "tail_user" in needs.tables:
        made["tail_user"] = ~groups.head_users(data)
    if "user_llm" in needs.tables:
        made["user_llm"] = rng.normal(size=(data.num_users, LLM_WIDTH)).astype(np.float32)
    if "similar_users" in needs.tables:
        others = [rng.permutation(np.delete(np.arange(data.num_users), u)) for u in range(data.num_users)]
        made["similar_users"] = np.stack(others)[:, : needs.similar].astype(np.int32)
    return made


class Case(NamedTuple):
    """A system over a corpus, as `llmesr_jax.training.experiment.prepare` makes it from a configuration."""

    corpus: Corpus
    tables: dict[str, Any]
    model: recommender.Recommender
    epochs: epoch_plan.Epochs
    data: interactions.Interactions
    config: DataConfig

    def batch(self, seed: int = 0, step: int = 0) -> Batch:
        """A batch of epoch 1, float tables or not."""
        return make_batch(
            self.epochs.plan, self.data, self.tables, self.epochs.order(seed, 1)[step], jax.random.key(seed)
        )

    def params(self, seed: int = 0):
        """As training starts with them."""
        return init(self.model, jax.random.key(seed), self.tables, self.batch())

    def drawn_params(self, seed: int = 0):
        """See `drawn_params`."""
        return drawn_params(self.model, self.tables, self.batch(), seed)


def plugin_config(kind: str, name: str, **changes):
    """The `Config` of a backbone or method in the preset `paper` (its defaults), small."""
    cls = {"backbone": backbones, "method": methods}[kind].PLUGINS.load(name).Config
    fields = {field.name for field in dataclasses.fields(cls)}
    return cls(**{key: value for key, value in {**_SMALL, **changes}.items() if key in fields})


@functools.cache
def case(backbone: str, method: str, layout: str = "bucketed", ranking: str = "bpr", **changes) -> Case:
    """One system; `changes` are settings of data, method or backbone."""
    changes = {"blocks": 2 if method == "none" else 1, **changes}
    users_items = ragged(3)
    knobs = {f.name for f in dataclasses.fields(DataConfig)}
    data = {"batch_size": 8, "max_len": 9, "buckets": 2, "num_negatives": 2, "layout": layout}
    data |= {key: value for key, value in changes.items() if key in knobs}
    data_config = DataConfig(**data)
    method_config = plugin_config("method", method, **changes)
    backbone_config = plugin_config("backbone", backbone, **changes)
    needs = recommender.needs(method, method_config)
    host = tables(users_items, needs)
    if needs.own:
        host |= methods.PLUGINS.load(method).tables(users_items, method_config)
        host = {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in host.items()}
    llm_width = LLM_WIDTH if "item_llm" in host else 0
    sizes = Sizes(users_items.num_items, data_config.max_len, llm_width, num_users=users_items.num_users)
    model = recommender.build(method, method_config, backbone, backbone_config, _loss(ranking, changes), sizes)
    mask_share = getattr(backbone_config, "mask_share", 0.0)
    epochs = epoch_plan.plan_epochs(
        users_items, data_config, model.supervision, mask_share, needs, host.get("similar_users"), model.extra
    )
    on_device = {name: jnp.asarray(table) for name, table in host.items()}
    return Case(users_items, on_device, model, epochs, interactions.resident(users_items, epochs.plan), data_config)


def _loss(ranking, changes):
    knobs = {field.name for field in dataclasses.fields(LossConfig)} - {"ranking"}
    return LossConfig(ranking, **{key: value for key, value in changes.items() if key in knobs})


make_batch = jax.jit(batches.make_batch, static_argnames="plan")


@functools.partial(jax.jit, static_argnames="plan")
def make_batches(plan, data, tables, samples_SxB, keys_S):
    """Batches of several seeds, stacked."""
    return jax.vmap(functools.partial(batches.make_batch, plan, data, tables))(samples_SxB, keys_S)


@functools.partial(jax.jit, static_argnames="model")
def init(model, key, tables, batch):
    return model.init(key, tables, batch)


def drawn_params(model, tables, batch, seed: int = 0):
    """Parameters none of which is special (a bias that starts at 0, say), for tests that hold for any: without the
    program that starts a model, which takes longer to compile than most of these tests.
    """
    rng = np.random.default_rng(seed)

    def drawn(path, like):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(centre + 0.5 * rng.normal(size=like.shape), like.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), tables, batch)
    params = jax.tree_util.tree_map_with_path(drawn, shapes)
    return as_float64(params) if jax.config.jax_enable_x64 else params


@functools.partial(jax.jit, static_argnames="model")
def outputs(model, params, tables, batch, key=None):
    """{total, values by term, gradients, users, items}: all that a model says of a batch."""
    run = jax.value_and_grad(recommender.loss_fn, argnums=1, has_aux=True)
    (total, values), gradients = run(model, params, tables, batch, key)
    users, items = model.user_vectors(params, tables, batch.students), model.item_vectors(params, tables)
    return {"total": total, "values": values, "gradients": gradients, "users": users, "items": items}


@functools.partial(jax.jit, static_argnames="model")
def user_vectors(model, params, tables, sequences):
    return model.user_vectors(params, tables, sequences)


@contextlib.contextmanager
def float64():
    """64-bit numbers. Flax's LayerNorm and optax's Adam then promote dtypes, which `conftest.py` otherwise forbids."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def in_float64(test):
    """A test in 64-bit numbers, where rounding hides no wrong factor."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        with float64():
            test(*args, **kwargs)

    return run


def as_float64(tree):
    """Float leaves as float64 (inside `float64()`)."""
    return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def slots(sequences: Sequences) -> list[np.ndarray]:
    """For each row, the slots that hold items, in time order."""
    real, starts = np.asarray(sequences.valid_T), [0]
    for rows, length in sequences.buckets:
        starts += [starts[-1] + length * (i + 1) for i in range(rows)]
    return [a + np.flatnonzero(real[a:b]) for a, b in zip(starts[:-1], starts[1:])]


def items_by_row(sequences: Sequences) -> list[list[int]]:
    return [np.asarray(sequences.items_T)[at].tolist() for at in slots(sequences)]


def lay(rows: list[list[int]], groups: tuple[tuple[int, int], ...], left: bool = False) -> Sequences:
    """Lists of items laid out one by one, as `groups` says."""
    widths = [length for count, length in groups for _ in range(count)]
    items, positions, last = [], [], []
    for row, width in zip(rows, widths, strict=True):
        empty = [0] * (width - len(row))
        numbers = list(range(1, len(row) + 1))
        last.append(len(items) + (width - 1 if left else max(len(row) - 1, 0)))
        items += empty + row if left else row + empty
        positions += empty + numbers if left else numbers + empty
    return Sequences(*(jnp.asarray(x, jnp.int32) for x in (items, positions, last)), groups)


def padded(sequences: Sequences, length: int, left: bool, *more_T):
    """The same rows, each `length` slots long, and arrays over slots moved along with them."""
    old = slots(sequences)
    new = [row * length + np.arange(len(at)) + (length - len(at) if left else 0) for row, at in enumerate(old)]
    before, after = np.concatenate(old), np.concatenate(new)

    def move(x_T):
        x_T = np.asarray(x_T)
        out = np.zeros((len(old) * length, *x_T.shape[1:]), x_T.dtype)
        out[after] = x_T[before]
        return jnp.asarray(out)

    last = [row * length + (length - 1 if left else max(len(at) - 1, 0)) for row, at in enumerate(old)]
    moved = Sequences(
        move(sequences.items_T),
        move(sequences.positions_T),
        jnp.asarray(last, jnp.int32),
        ((len(old), length),),
        place_R=sequences.place_R,
        user_R=sequences.user_R,
    )
    return moved, *map(move, more_T)


def padded_batch(batch: Batch, length: int, left: bool) -> Batch:
    """The same batch in rows of one length."""
    students, targets, negatives = padded(batch.students, length, left, batch.targets_T, batch.negatives_TxK)
    batch = batch.replace(students=students, targets_T=targets, negatives_TxK=negatives)
    return batch if batch.teachers is None else batch.replace(teachers=padded(batch.teachers, length, left)[0])


def assert_close(ours, wanted, tolerance: float):
    """Every array agrees within `tolerance`, relative to its largest entry."""
    ours, wanted = jax.tree_util.tree_flatten_with_path(ours)[0], jax.tree_util.tree_flatten_with_path(wanted)[0]
    assert [name for name, _ in ours] == [name for name, _ in wanted]
    for (name, x), (_, y) in zip(ours, wanted):
        x, y = np.asarray(x), np.asarray(y)
        assert x.shape == y.shape, name
        assert np.abs(x - y).max() <= tolerance * max(1.0, np.abs(y).max()), jax.tree_util.keystr(name)


def assert_equal(ours, wanted):
    """Every array is the same, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)

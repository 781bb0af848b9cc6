"""A backbone under a method, as pure functions over (params, tables)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from llmesr_jax.core import knobs
from llmesr_jax.core.axes import TABLES, Table
from llmesr_jax.core.errors import InputError
from llmesr_jax.models import axes, backbones, methods
from llmesr_jax.models.layers.tables import score_scale, score_vectors
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.types import (
    Array,
    Batch,
    Needs,
    Sequences,
    Sizes,
    Tables,
    Term,
    wide,
)

Params = Any


class Recommender(NamedTuple):
    """What training, evaluation, export and gradient analysis need to know of a model. All functions are pure.

    Attributes:
      init: (key, tables, batch) -> params.
      terms: (params, tables, batch, key, epoch, numbers) -> {name: Term}; key None switches dropout off. `numbers`,
        {key: value}, stand in for traced settings (`core.knobs`); None for those that it was built with.
      user_vectors: (params, tables, sequences) -> (R, E).
      item_vectors: (params, tables) -> (V, E), row 0 = id 1. A score is user vector . item vector, everywhere. With a
        third argument, True, one row more: the mask token's.
      supervision: which positions the backbone may learn from: every, last or masked.
      sizes: the numbers it was built from.
      slot_views: (params, tables, sequences) -> (..., T, D): the method's views of each slot's item, before the encoder,
        with a leading axis where there are several. Reads `items_T` alone.
      encode: (params, tables, views, sequences) -> (R, E): the views to user vectors; `user_vectors` is the one after
        the other.
      axes: (tables, batch) -> `Axes`: which arrays are over items and users. Of shapes alone, arrays or not; wants all
        tables, those too that only start a parameter.
      parts: (params, tables, views) -> {name: (n, E)}: what the vectors of n items consist of, from their `slot_views`;
        they add up to `item_vectors`. The first names are those of the views, in their order.
      tables: what each frozen table is that it asks for, see `kinds`.
      trains: path of a parameter, such as table/items -> whether steps update it.
      optimizer: learning rate -> the method's own optimiser; None where it has none.
      extra: (data, tables, batch, key) -> `Batch.extra`; None where the method adds nothing to batches.
      before_epoch: (params, tables, data, epoch) -> params, before the first step of an epoch; None: nothing changes.
      for_serving: (params, tables, data) -> params that vectors are made from; None: the trained ones.
    """

    init: Callable[[Array, Tables, Batch], Params]
    terms: Callable[..., dict[str, Term]]
    user_vectors: Callable[[Params, Tables, Sequences], Array]
    item_vectors: Callable[..., Array]
    supervision: str
    sizes: Sizes
    slot_views: Callable[[Params, Tables, Sequences], Array]
    encode: Callable[[Params, Tables, Array, Sequences], Array]
    axes: Callable[[Tables, Batch], axes.Axes]
    parts: Callable[[Params, Tables, Array], dict[str, Array]]
    tables: tuple[tuple[str, Table], ...] = ()
    trains: Callable[[str], bool] = lambda path: True
    optimizer: Callable[[Any], Any] | None = None
    extra: Callable[[Any, Tables, Batch, Array], Mapping[str, Any]] | None = None
    before_epoch: Callable[[Params, Tables, Any, Array], Params] | None = None
    for_serving: Callable[[Params, Tables, Any], Params] | None = None

    @property
    def kinds(self) -> dict[str, Table]:
        """What each frozen table is, by name."""
        return dict(self.tables)


def needs(method: str, method_config: Any) -> Needs:
    """What the method wants prepared on the host."""
    return methods.PLUGINS.load(method).needs(method_config)


def kinds(needs: Needs) -> dict[str, Table]:
    """What each frozen table is that a method asks for or makes, by name.

    Raises:
      InputError: the method makes a table under the name of one of `core.axes.TABLES`.
    """
    if both := sorted(TABLES.keys() & needs.own.keys()):
        raise InputError(f"table {both[0]}: a method's own table has the name of a table for all methods; rename it")
    return {name: TABLES[name] for name in sorted(needs.tables & TABLES.keys())} | dict(needs.own)


def build(
    method: str,
    method_config: Any,
    backbone: str,
    backbone_config: Any,
    loss: LossConfig,
    sizes: Sizes,
    precision: str = "float32",
) -> Recommender:
    """Composes a backbone and a method, by name.

    Args:
      precision: of activations and of the matrices that meet them. Parameters, their gradients and the optimiser stay
        as they are (float32), so do sums, softmax, losses, and the vectors that ranking gets.

    Raises:
      InputError: unknown names, or LLM embeddings that a method needs and there are none.
    """
    method_module, backbone_module = methods.PLUGINS.load(method), backbones.PLUGINS.load(backbone)
    wants, supervision = method_module.needs(method_config), backbone_module.supervision(backbone_config)
    if "item_llm" in wants.tables and sizes.llm_width < 1:
        raise InputError(f"method {method!r} needs LLM embeddings of the items, and there are none")
    declared = tuple(kinds(wants).items())
    sizes = dataclasses.replace(
        sizes, bidirectional=supervision == "masked", normed=wants.normed, all_slots=wants.all_slots
    )

    def with_numbers(numbers):
        of_method, of_backbone, of_loss = (
            knobs.put(section, name, numbers)
            for section, name in ((method_config, method), (backbone_config, backbone), (loss, "loss"))
        )
        of_loss = dataclasses.replace(of_loss, own=knobs.put(loss.settings, loss.ranking, numbers))
        make_backbone = functools.partial(backbone_module.Backbone, of_backbone, sizes)
        return method_module.Method(of_method, of_loss, sizes, make_backbone)

    module, zero = with_numbers({}), jnp.zeros(())

    def boxed(key, tables, batch):
        _, variables = module.apply(
            {"tables": tables},
            batch,
            zero,
            True,
            method="terms",
            mutable=["params"],
            rngs={"params": key},
        )
        return variables["params"]

    def init(key, tables, batch):
        return axes.plain(boxed(key, tables, batch))

    def axes_of(tables, batch):
        shapes = jax.eval_shape(boxed, jax.random.key(0), tables, batch)
        return axes.collect(shapes, declared, sizes.num_items + 2, sizes.num_users)

    def apply(params, tables, *arguments, method):
        return module.apply(in_precision({"params": params, "tables": tables}, precision), *arguments, method=method)

    def terms(params, tables, batch, key, epoch=zero, numbers=None):
        rngs = {} if key is None else {"dropout": key}
        variables = in_precision({"params": params, "tables": tables}, precision)
        model = with_numbers(numbers) if numbers else module
        return model.apply(variables, batch, epoch, key is None, method="terms", rngs=rngs)

    def user_vectors(params, tables, sequences):
        users = apply(params, tables, sequences, True, method="users")
        return score_vectors(loss, users.astype(wide(users)))

    def slot_views(params, tables, sequences):
        return apply(params, tables, sequences, True, method="slot_views")

    def encode(params, tables, views, sequences):
        users = apply(params, tables, views, sequences, True, True, method="encode")
        return score_vectors(loss, users.astype(wide(users)))

    def item_vectors(params, tables, with_mask=False):
        ids = jnp.arange(1, sizes.num_items + 1 + with_mask, dtype=jnp.int32)
        items = apply(params, tables, ids, method="items")
        return score_vectors(loss, items.astype(wide(items)))

    def parts(params, tables, views):
        found = apply(params, tables, in_precision(views, precision), method="parts")
        found = {name: x.astype(wide(x)) for name, x in found.items()}
        total = functools.reduce(jnp.add, found.values())
        scale = jnp.ones_like(total[:, :1]) if loss.score == "dot" else score_scale(total)
        return {name: x * scale for name, x in found.items()}

    more = {}
    for name in ("trains", "optimizer", "extra", "before_epoch", "for_serving"):
        if function := getattr(method_module, name, None):
            first = {"extra": (sizes,), "before_epoch": (apply,), "for_serving": (apply,)}.get(name, ())
            more[name] = functools.partial(function, knobs.fixed(method_config), *first)
    made = (init, terms, user_vectors, item_vectors, supervision, sizes, slot_views, encode, axes_of, parts, declared)
    return Recommender(*made, **more)


def in_precision(tree: Any, precision: str) -> Any:
    """The tree with float arrays in bfloat16, if that is the precision; else as it is."""
    if precision == "float32":
        return tree
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def loss_fn(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    key: Array | None,
    epoch: Array | float = 0.0,
    numbers: Mapping[str, Array] | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The total loss, sum of weight * value over the named terms, and the values. Pure; differentiate in `params`.

    Args:
      key: for dropout; None switches it off.
      epoch: from 1, for methods whose weights move.
      numbers: see `Recommender.terms`.
    """
    given = () if numbers is None else (numbers,)
    terms = recommender.terms(params, tables, batch, key, jnp.asarray(epoch, jnp.float32), *given)
    total = functools.reduce(jnp.add, [term.weight * term.value for term in terms.values()])
    return total, {name: term.value for name, term in terms.items()}


def parameter_count(params: Params) -> int:
    """Trained numbers in all."""
    return sum(x.size for x in jax.tree.leaves(params))

"""A backbone under a method, as pure functions over (params, tables)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.models import backbones, methods
from llmesr_jax.models.layers.tables import score_vectors
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
      before_epoch: (params, tables, data, epoch) -> params, before the first step of an epoch; None: nothing changes.
      for_serving: (params, tables, data) -> params that vectors are made from; None: the trained ones.
    """

    init: Callable[[Array, Tables, Batch], Params]
    terms: Callable[..., dict[str, Term]]
    user_vectors: Callable[[Params, Tables, Sequences], Array]
    item_vectors: Callable[..., Array]
    supervision: str
    sizes: Sizes
    before_epoch: Callable[..., Params] | None = None
    for_serving: Callable[..., Params] | None = None


def needs(method: str, method_config: Any) -> Needs:
    """What the method wants prepared on the host."""
    return methods.PLUGINS.load(method).needs(method_config)


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
    sizes = dataclasses.replace(sizes, bidirectional=supervision == "masked", normed=wants.normed)

    def with_numbers(numbers):
        of_method, of_backbone, of_loss = (
            knobs.put(section, name, numbers)
            for section, name in ((method_config, method), (backbone_config, backbone), (loss, "loss"))
        )
        of_loss = dataclasses.replace(of_loss, own=knobs.put(loss.settings, loss.ranking, numbers))
        make_backbone = functools.partial(backbone_module.Backbone, of_backbone, sizes)
        return method_module.Method(of_method, of_loss, sizes, make_backbone)

    module, zero = with_numbers({}), jnp.zeros(())

    def init(key, tables, batch):
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

    def terms(params, tables, batch, key, epoch=zero, numbers=None):
        rngs = {} if key is None else {"dropout": key}
        variables = in_precision({"params": params, "tables": tables}, precision)
        model = with_numbers(numbers) if numbers else module
        return model.apply(variables, batch, epoch, key is None, method="terms", rngs=rngs)

    def user_vectors(params, tables, sequences):
        variables = in_precision({"params": params, "tables": tables}, precision)
        users = module.apply(variables, sequences, True, method="users")
        return score_vectors(loss, users.astype(wide(users)))

    def item_vectors(params, tables, with_mask=False):
        ids = jnp.arange(1, sizes.num_items + 1 + with_mask, dtype=jnp.int32)
        items = module.apply(in_precision({"params": params, "tables": tables}, precision), ids, method="items")
        return score_vectors(loss, items.astype(wide(items)))

    return Recommender(init, terms, user_vectors, item_vectors, supervision, sizes)


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

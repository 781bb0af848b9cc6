"""A backbone under a method, as pure functions over (params, tables)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
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


@dataclasses.dataclass(frozen=True)
class MakeBackbone:
    """Makes a new backbone for each module that holds one; equal to any other with the same settings.

    Attributes:
      kind: the `Backbone` of its file.
      name, method: names of backbone and method, which are also the names of their settings' sections.
      config: the backbone's settings.
      sizes: the numbers it is built from.
    """

    kind: Callable[..., nn.Module]
    name: str
    method: str
    config: Any
    sizes: Sizes

    def __call__(self) -> nn.Module:
        return self.kind(self.config, self.sizes)


class Outline(NamedTuple):
    """What is known of a model before its parameters are drawn.

    Attributes:
      axes: which arrays are over items and users.
      params: shapes of the parameters of one seed.
      terms: names of the terms of the loss.
    """

    axes: axes.Axes
    params: Params
    terms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Recommender:
    """A model as pure functions, for training, evaluation, export and gradient analysis; `build` makes it.

    It is a static argument of jitted functions: two that are equal share compiled code.

    Attributes:
      plugin, kind: the file of the method, and its `Method`.
      config: the method's settings.
      make_backbone: makes the backbone.
      loss: settings of the ranking loss.
      sizes: the numbers it was built from.
      supervision: which positions the backbone may learn from: every, last or masked.
      precision: see `build`.
    """

    plugin: Any = dataclasses.field(compare=False)  # `kind` identifies the file, also if it is loaded again
    kind: Callable[..., nn.Module]
    config: Any
    make_backbone: MakeBackbone
    loss: LossConfig
    sizes: Sizes
    supervision: str
    precision: str

    def init(self, key: Array, tables: Tables, batch: Batch) -> Params:
        """Random parameters.

        Args:
          key: random key.
          tables: all frozen tables, also those that only start a parameter.
          batch: any batch; only its shapes matter.
        """
        return axes.plain(self._boxed(key, tables, batch)[1])

    def terms(
        self,
        params: Params,
        tables: Tables,
        batch: Batch,
        key: Array | None,
        epoch: Array | float = 0.0,
        numbers: Mapping[str, Array] | None = None,
    ) -> dict[str, Term]:
        """The terms of the loss by name.

        Args:
          params, tables: parameters and frozen tables, by name.
          batch: one training batch.
          key: for dropout; None switches dropout off.
          epoch: from 1, for methods whose weights depend on it.
          numbers: {key: value} that replace traced settings (`core.knobs`); None: the model's own.
        """
        rngs = {} if key is None else {"dropout": key}
        variables = in_precision({"params": params, "tables": tables}, self.precision)
        model = self._with(numbers) if numbers else self.module
        return model.apply(variables, batch, jnp.asarray(epoch, jnp.float32), key is None, method="terms", rngs=rngs)

    def user_vectors(self, params: Params, tables: Tables, sequences: Sequences) -> Array:
        """(R, E), of at least float32, without dropout. A score is user vector . item vector, everywhere."""
        users = self.apply(params, tables, sequences, True, method="users")
        return score_vectors(self.loss, users.astype(wide(users)))

    def item_vectors(self, params: Params, tables: Tables, with_mask: bool = False) -> Array:
        """(V, E), row 0 = id 1; with `with_mask` one more row: the mask token's."""
        return self.vectors(params, tables, jnp.arange(1, self.sizes.num_items + 1 + with_mask, dtype=jnp.int32))

    def vectors(self, params: Params, tables: Tables, ids_n: Array) -> Array:
        """(n, E), of at least float32: the vectors of the items with these int32 ids."""
        items = self.apply(params, tables, ids_n, method="items")
        return score_vectors(self.loss, items.astype(wide(items)))

    def slot_views(self, params: Params, tables: Tables, sequences: Sequences) -> Array:
        """(..., T, D): the method's views of each slot's item, before the encoder; a leading axis if several.

        A function of `items_T` alone.
        """
        return self.apply(params, tables, sequences, True, method="slot_views")

    def encode(self, params: Params, tables: Tables, views: Array, sequences: Sequences) -> Array:
        """(R, E): user vectors from `slot_views`; `user_vectors` is both in one."""
        users = self.apply(params, tables, views, sequences, True, True, method="encode")
        return score_vectors(self.loss, users.astype(wide(users)))

    def parts(self, params: Params, tables: Tables, views: Array) -> dict[str, Array]:
        """{name: (n, E)}: the parts of the vectors of n items, from their `slot_views`.

        The parts add up to `vectors`. The first names are those of the views, in their order.
        """
        found = self.apply(params, tables, in_precision(views, self.precision), method="parts")
        found = {name: x.astype(wide(x)) for name, x in found.items()}
        total = functools.reduce(jnp.add, found.values())
        scale = jnp.ones_like(total[:, :1]) if self.loss.score == "dot" else score_scale(total)
        return {name: x * scale for name, x in found.items()}

    def outline(self, tables: Tables, batch: Batch) -> Outline:
        """What is known before parameters are drawn, by one trace; needs all tables, as `init` does.

        Raises:
          InputError: a parameter over items or users has a wrong number of rows.
        """
        key = jax.eval_shape(lambda: jax.random.key(0))
        terms, boxed = jax.eval_shape(self._boxed, key, tables, batch)
        found = axes.collect(boxed, self.tables, self.sizes.num_items + 2, self.sizes.num_users)
        return Outline(found, axes.plain(boxed), tuple(terms))

    def axes(self, tables: Tables, batch: Batch) -> axes.Axes:
        """Which arrays are over items and users; see `outline`."""
        return self.outline(tables, batch).axes

    def apply(self, params: Params, tables: Tables, *arguments: Any, method: str) -> Any:
        """Calls a method of the linen module, in the run's precision."""
        variables = in_precision({"params": params, "tables": tables}, self.precision)
        return self.module.apply(variables, *arguments, method=method)

    @functools.cached_property
    def tables(self) -> tuple[tuple[str, Table], ...]:
        """(name, `Table`) of each frozen table that the method needs, sorted as in `kinds`."""
        return tuple(kinds(self.plugin.needs(self.config)).items())

    @property
    def kinds(self) -> dict[str, Table]:
        """{name: `Table`} of the frozen tables that the method needs."""
        return dict(self.tables)

    @functools.cached_property
    def trains(self) -> Callable[[str], bool]:
        """Path of a parameter, such as table/items -> whether steps update it."""
        return self._own("trains") or (lambda path: True)

    @functools.cached_property
    def optimizer(self) -> Callable[[Any], Any] | None:
        """Learning rate -> the method's own optimiser; None if it has none."""
        return self._own("optimizer")

    @functools.cached_property
    def extra(self) -> Callable[[Any, Tables, Batch, Array], Mapping[str, Any]] | None:
        """(data, tables, batch, key) -> `Batch.extra`; None if the method adds nothing to batches."""
        return self._own("extra", self.sizes)

    @functools.cached_property
    def before_epoch(self) -> Callable[[Params, Tables, Any, Array], Params] | None:
        """(params, tables, data, epoch) -> params, before the first step of an epoch; None if nothing changes."""
        return self._keeping_form("before_epoch")

    @functools.cached_property
    def for_serving(self) -> Callable[[Params, Tables, Any], Params] | None:
        """(params, tables, data) -> params that vectors are computed from; None: the trained ones."""
        return self._keeping_form("for_serving")

    def _own(self, name: str, *first: Any) -> Callable[..., Any] | None:
        function = getattr(self.plugin, name, None)
        return function and functools.partial(function, knobs.fixed(self.config), *first)

    @functools.cached_property
    def module(self) -> nn.Module:
        """The method's linen module, around its backbone."""
        return self._with({})

    def _keeping_form(self, name: str) -> Callable[..., Params] | None:
        """A function of the method's file from parameters to parameters, checked to keep their shapes and dtypes."""
        function = self._own(name, self.apply)
        if function is None:
            return None

        def checked(params: Params, *more: Any) -> Params:
            found = function(params, *more)
            wanted, given = _form(params), _form(found)
            if given != wanted:
                other = sorted(path for path in wanted.keys() | given.keys() if wanted.get(path) != given.get(path))[0]
                raise InputError(
                    f"method {self.make_backbone.method!r}: {name} returned {other or 'parameters'} as "
                    f"{given.get(other, 'nothing')}, expected {wanted.get(other, 'nothing')}; it must return all "
                    "parameters that it got, with their shapes and types"
                )
            return found

        return checked

    def _with(self, numbers: Mapping[str, Array]) -> nn.Module:
        """The module, with numbers (maybe traced arrays) that replace those of its settings."""
        make = self.make_backbone
        return self.kind(
            knobs.put(self.config, make.method, numbers),
            dataclasses.replace(
                knobs.put(self.loss, "loss", numbers), own=knobs.put(self.loss.settings, self.loss.ranking, numbers)
            ),
            self.sizes,
            dataclasses.replace(make, config=knobs.put(make.config, make.name, numbers)),
        )

    def _boxed(self, key: Array, tables: Tables, batch: Batch) -> tuple[dict[str, Term], Params]:
        """The terms of the loss, and random parameters with the metadata that declares their first axis."""
        apply = functools.partial(self.module.apply, method="terms", mutable=["params"], rngs={"params": key})
        terms, variables = apply({"tables": tables}, batch, jnp.zeros(()), True)
        return terms, variables["params"]


def needs(method: str, method_config: Any) -> Needs:
    """What a method with these settings needs from the host.

    Raises:
      InputError: an unknown method, or settings that it refuses.
    """
    return methods.PLUGINS.load(method).needs(method_config)


def kinds(needs: Needs) -> dict[str, Table]:
    """{name: `Table`} of the frozen tables that a method needs or makes.

    Raises:
      InputError: the method makes a table under the name of one of `core.axes.TABLES`.
    """
    if both := sorted(TABLES.keys() & needs.own.keys()):
        raise InputError(
            f"table {both[0]}: the method's own table has the name of a table for all methods; rename the method's "
            "table"
        )
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
      method, backbone: names of their files.
      method_config, backbone_config: the `Config` of each file.
      loss: the ranking loss.
      sizes: of the data; what follows from method and backbone is added.
      precision: "float32" or "bfloat16", of activations and of the matrices that they are multiplied by. Parameters,
        gradients and the optimiser stay float32, and so do sums, softmax, losses, and the vectors for ranking.

    Raises:
      InputError: an unknown name, settings that the method refuses, no LLM embeddings for a method that needs them, or
        a table of the method under the name of a table for all methods.
    """
    method_module, backbone_module = methods.PLUGINS.load(method), backbones.PLUGINS.load(backbone)
    wants, supervision = method_module.needs(method_config), backbone_module.supervision(backbone_config)
    if "item_llm" in wants.tables and sizes.llm_width < 1:
        raise InputError(
            f"method {method!r} needs LLM embeddings of the items, but there are none; expected sizes.llm_width of at "
            "least 1; make embeddings (docs/embeddings.md), or choose a method that needs none, such as none"
        )
    kinds(wants)
    sizes = dataclasses.replace(
        sizes, bidirectional=supervision == "masked", normed=wants.normed, all_slots=wants.all_slots
    )
    make_backbone = MakeBackbone(backbone_module.Backbone, backbone, method, backbone_config, sizes)
    kind = method_module.Method
    return Recommender(method_module, kind, method_config, make_backbone, loss, sizes, supervision, precision)


def in_precision(tree: Any, precision: str) -> Any:
    """The tree, with float arrays cast to bfloat16 if that is the precision, else unchanged."""
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
    """The total loss, the sum of weight * value over the named terms, and the values. Pure; differentiate in `params`.

    Args:
      recommender: the model.
      params, tables: its parameters and frozen tables.
      batch: one training batch.
      key: for dropout; None switches dropout off.
      epoch: from 1, for methods whose weights depend on it.
      numbers: see `Recommender.terms`.
    Returns: the loss, (), and {name: value ()} without weights; of at least float32.
    """
    terms = recommender.terms(params, tables, batch, key, epoch, numbers)
    total = functools.reduce(jnp.add, [term.weight * term.value for term in terms.values()])
    return total, {name: term.value for name, term in terms.items()}


def _form(tree: Any) -> dict[str, str]:
    """{path: dtype and shape} of a tree of arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{jnp.result_type(x)}{list(jnp.shape(x))}"
        for path, x in leaves
    }


def parameter_count(params: Params) -> int:
    """The number of parameters, as numbers, not arrays."""
    return sum(x.size for x in jax.tree.leaves(params))

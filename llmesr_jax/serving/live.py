"""A served model from a run's folder: the same functions as in a bundle, compiled here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.version import VERSION
from llmesr_jax.data import groups, raw_ids
from llmesr_jax.models import recommender
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.models.types import Array, Sequences, Tables
from llmesr_jax.ranking import inference
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.serving.bundle import blockwise
from llmesr_jax.serving.catalogue import Catalogue
from llmesr_jax.serving.model import ServedModel
from llmesr_jax.serving.programs import Programs, lengths_up_to, view_names
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import runs, state
from llmesr_jax.training.experiment import Experiment

MAPPED = 256  # embeddings of which the semantic view is computed at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Functions:
    """The functions of a model as JAX traces them: what `Programs` compiles and `export` writes.

    Attributes:
      user: (views, ids (L,), length ()) -> (E,), for one history.
      parts: views -> (P, n, E).
      names: of the parts, views first.
      semantic: (MAPPED, F) -> (MAPPED, D); None without a semantic view.
      lengths: the static lengths of histories.
      longest: maximum number of items of a history that are read.
    """

    user: Any
    parts: Any
    names: tuple[str, ...]
    semantic: Any
    lengths: tuple[int, ...]
    longest: int

    def encode(self, views_WxVxD: Array, ids_BxL: Array, lengths_B: Array) -> Array:
        """(B, E): `user` for each history."""
        with jax.default_matmul_precision("highest"):
            return jax.vmap(self.user, in_axes=(None, 0, 0))(views_WxVxD, ids_BxL, lengths_B)


def served(run: runs.Run, seed: int | None = None) -> ServedModel:
    """A served model of the best parameters of one seed.

    Args:
      run: of `runs.load`.
      seed: None for the seed that was best in validation.
    Raises:
      InputError: the run has no such seed, or its method cannot be served.
    """
    seed = _seed(run, seed)
    params = state.take(run.served_S, run.seeds.index(seed))
    return of_params(run.experiment, params, run.tables, {"seed": seed, "epochs": run.progress.epoch})


def _seed(run: runs.Run, seed: int | None) -> int:
    if seed is None:
        best = dict(zip(run.experiment.seeds, run.progress.best, strict=True))
        return max(run.seeds, key=lambda one: best[one])
    if seed not in run.seeds:
        raise InputError(
            f"{run.experiment.config.workdir}: has no seed {seed}; expected one of: {', '.join(map(str, run.seeds))}"
        )
    return seed


def of_params(experiment: Experiment, params: Any, tables: Tables, trained: Mapping[str, Any]) -> ServedModel:
    """A served model of these parameters.

    Args:
      experiment: of `prepare`.
      params: of one seed.
      tables: the frozen tables, on the device.
      trained: JSON values about the training, for `about`.
    Raises:
      InputError: the method has no function `parts`.
    """
    model, corpus = experiment.recommender, experiment.corpus
    views = item_views(model, params, tables)
    found = functions(experiment, params, tables)
    compiled = jax.jit(found.encode)
    semantic = blockwise(jax.jit(found.semantic), MAPPED) if found.semantic else None
    programs = Programs(
        {length: compiled for length in found.lengths}, jax.jit(found.parts), found.names, semantic, found.longest
    )
    tail_V = ~groups.head_items(corpus)
    catalogue = Catalogue(
        raw_ids.every(corpus, "item"), corpus.item_counts_V, tail_V, corpus.item_titles, corpus.item_records
    )
    items = np.asarray(inference.item_vectors(model, params, tables), np.float32)
    return ServedModel(about(experiment, trained), catalogue, programs, views, items, embeddings(experiment))


def about(experiment: Experiment, trained: Mapping[str, Any]) -> dict[str, Any]:
    """A description of the model, as JSON values."""
    config = experiment.config
    return {
        "method": config.method,
        "backbone": config.backbone,
        "dataset": experiment.corpus.name,
        "preset": config.preset,
        **trained,
        "data": experiment.identity(),
        "score": config_lib.section(config, "loss").score,
        "llmesr_jax": VERSION,
        "jax": jax.__version__,
    }


def functions(experiment: Experiment, params: Any, tables: Tables) -> Functions:
    """The functions of a trained model, with its parameters and frozen tables as constants.

    Raises:
      InputError: the method has no function `parts`.
    """
    model, data = experiment.recommender, experiment.epochs.plan.config
    left_padded, masked, max_len = data.layout == "padded", model.supervision == "masked", model.sizes.max_len
    views = jax.eval_shape(functools.partial(item_views, model), params, tables)
    one = jax.eval_shape(lambda p, t: model.slot_views(p, t, _of_ids(jnp.zeros(1, jnp.int32))), params, tables)
    of_model = (lambda x: x[0]) if one.ndim == 2 else (lambda x: x)  # a method of one view has no axis of views
    try:
        names = jax.eval_shape(lambda p, t, v: _Named(model.parts(p, t, of_model(v))), params, tables, views).names
    except AttributeError as error:  # Flax raises it for a method that a module does not have
        raise InputError(
            f"method {experiment.config.method!r} has no function `parts`; expected one that returns the parts of the "
            "items' vectors, because serving needs it; add it to the method (docs/forking.md)"
        ) from error

    def user(views_WxVxD, ids_L, length):
        encode = lambda x, sequences: model.encode(params, tables, of_model(x), sequences)  # noqa: E731
        return one_user(encode, views_WxVxD, ids_L, length, max_len, left_padded=left_padded, masked=masked)

    def parts(views_WxnxD):
        with jax.default_matmul_precision("highest"):
            found = model.parts(params, tables, of_model(views_WxnxD))
        return jnp.stack(list(found.values()))

    semantic = semantic_view(experiment, params, names) if "semantic" in view_names(names, views.shape[0]) else None
    longest = max_len - masked
    return Functions(user, parts, names, semantic, (longest,) if left_padded else lengths_up_to(longest), longest)


def one_user(encode, views_WxVxD, ids_L, length, max_len: int, *, left_padded: bool, masked: bool) -> Array:
    """(E,): the vector of a user with the first `length` of these item ids, oldest first.

    Equal to a row of `ranking.inference`: if the backbone learns from hidden positions, a mask token follows the newest
    item, and with `left_padded` the padding precedes the oldest item.
    """
    ids_L = jnp.pad(ids_L, (0, int(masked)))
    place_L = jnp.arange(len(ids_L), dtype=jnp.int32)
    if masked:
        ids_L = jnp.where(place_L == length, views_WxVxD.shape[1] - 1, ids_L)
        length = length + 1
    if left_padded:
        place_L = place_L - (len(ids_L) - length)
    valid_L = (place_L >= 0) & (place_L < length)
    ids_L = jnp.where(valid_L, jnp.take(ids_L, place_L, mode="clip"), 0).astype(jnp.int32)
    last = len(ids_L) - 1 if left_padded else jnp.maximum(length - 1, 0)
    sequences = Sequences(
        ids_L,
        jnp.where(valid_L, place_L + 1, 0),
        jnp.asarray(last, jnp.int32)[None],
        ((1, len(ids_L)),),
        None if left_padded else (max_len - length)[None],
        items_first=not left_padded,
    )
    x_WxLxD = jnp.take(views_WxVxD, ids_L, axis=1, mode="clip")
    return encode(x_WxLxD, sequences)[0]


def _of_ids(ids_n: Array) -> Sequences:
    """Item ids as one row of slots, to compute their vectors."""
    n = len(ids_n)
    return Sequences(ids_n, (ids_n > 0).astype(jnp.int32), jnp.zeros(1, jnp.int32), ((1, n),))


@functools.partial(jax.jit, static_argnames="model")
def item_views(model: Recommender, params, tables) -> Array:
    """float32 (W, V + 2, D): each item's vector in each view, for the encoder; row 0: padding, last row: mask token."""
    with jax.default_matmul_precision("highest"):
        ids = jnp.arange(model.sizes.num_items + 2, dtype=jnp.int32)
        views = model.slot_views(params, tables, _of_ids(ids)).astype(jnp.float32)
    return views if views.ndim == 3 else views[None]


@jax.tree_util.register_pytree_node_class
class _Named:
    """A dictionary that keeps its order in `eval_shape`."""

    def __init__(self, values: dict[str, Any]):
        self.names, self.values = tuple(values), tuple(values.values())

    def tree_flatten(self):
        return self.values, self.names

    @classmethod
    def tree_unflatten(cls, names, values):
        return cls(dict(zip(names, values, strict=True)))


def semantic_view(experiment: Experiment, params: Any, names: tuple[str, ...]):
    """A function (MAPPED, F) embeddings -> (MAPPED, D) rows of the view "semantic".

    The method's own code computes the view, for a catalogue of MAPPED items: the embeddings are its frozen table, and
    trained tables of items are zeros.
    """
    config, sizes = experiment.config, experiment.recommender.sizes
    section = functools.partial(config_lib.section, config)
    small = recommender.build(
        config.method,
        section(config.method),
        config.backbone,
        section(config.backbone),
        section("loss"),
        dataclasses.replace(sizes, num_items=MAPPED),
        config.precision,
    )
    place = names.index("semantic")
    popularity = {"item_popularity": jnp.ones(MAPPED + 2, jnp.int32)} if "item_popularity" in experiment.tables else {}

    def view(embeddings_nxF: Array) -> Array:
        llm = jnp.pad(embeddings_nxF, ((1, 1), (0, 0)))

        def replaced(path, leaf):
            keys = [getattr(key, "key", "") for key in path]
            if keys[-1] != "items":
                return leaf
            return llm if "llm_table" in keys else jnp.zeros((MAPPED + 2, *leaf.shape[1:]), leaf.dtype)

        small_params = jax.tree_util.tree_map_with_path(replaced, params)
        with jax.default_matmul_precision("highest"):
            views = small.slot_views(
                small_params, {"item_llm": llm, **popularity}, _of_ids(jnp.arange(1, MAPPED + 1, dtype=jnp.int32))
            )
        return (views if views.ndim == 3 else views[None])[place].astype(jnp.float32)

    return view


def embeddings(experiment: Experiment) -> np.ndarray | None:
    """float32 (V, F): the frozen embeddings of the items; None if the data have none, or only random ones."""
    semantic = config_lib.section(experiment.config, "semantic")
    if semantic.encoder == "random":
        return None
    if "item_llm" in experiment.tables:
        return experiment.tables["item_llm"][1:-1]
    try:
        found, _ = tables_lib.prepare(experiment.corpus, semantic, needs=frozenset({"item_llm"}), pca_width=0)
    except InputError:  # there are no texts, or items do not differ in them
        return None
    return found["item_llm"][1:-1]

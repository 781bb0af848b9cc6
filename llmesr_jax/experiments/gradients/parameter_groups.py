"""The part of a model that a parameter belongs to, by its path: the same rules for every method and backbone."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from llmesr_jax.models.types import Array, wide

ALL = "all"
# (pattern, group): the outermost name in a parameter's path that matches a pattern decides. If no name matches, the
# outermost name is the group, so a fork's own modules appear under their own names.
_RULES = (
    ("table|ids", "collaborative table"),
    ("llm_table|semantic", "semantic table"),
    ("adapter|mapper", "adapter"),
    ("cross_.*", "cross-attention"),
    ("(.*_)?backbone", "encoder"),
)


def group_of(path: tuple[Any, ...]) -> str:
    """The group of the parameter at `path`, a key path of `jax.tree_util`."""
    names = [str(getattr(part, "key", part)) for part in path]
    found = (group for name in names for rule, group in _RULES if re.fullmatch(rule, name))
    return next(found, names[0])


def names(params: Any) -> list[str]:
    """The groups of a tree of parameters: those of the rules in their order, then others; `all` first."""
    found = {group_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]}
    known = [group for _, group in _RULES if group in found]
    return [ALL, *known, *sorted(found - set(known))]


def inner(a: Any, b: Any) -> dict[str, Array]:
    """Inner products of two trees of the same structure: {group: ()}, `all` among them.

    Sums are taken in float32 at least.
    """
    found: dict[str, Array] = {}
    for (path, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        product = jnp.sum(x.astype(wide(x)) * y.astype(wide(y)))
        group = group_of(path)
        found[group] = found[group] + product if group in found else product
    return {ALL: sum(found.values()), **found}


def only(params: Any, group: str) -> Any:
    """The tree with zeros outside a group: for example a direction within one part of the model."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x if group in (ALL, group_of(path)) else jnp.zeros_like(x), params
    )

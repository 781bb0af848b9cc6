"""The loss by terms, users and items, as pure functions of (params, tables, batch, key), for jit and vmap over seeds.

    from llmesr_jax import gradients

    by_term = gradients.term_gradients(model, params, tables, batch, key)  # {"ranking": tree, "distillation": tree}
    gradients.cosines(gradients.gram(by_term)["all"])  # (2, 2)

A model is static, so `jax.jit(gradients.term_gradients, static_argnums=0)`. Every method, backbone and stage has the same
functions. `llmesr_jax.loop_parts` gives a model with its parameters, tables and batches; docs: `docs/gradients.md`.

| name | what |
| --- | --- |
| `term_values`, `term_gradients`, `total` | the loss's terms times their weights, their gradients, the sum of these |
| `gram`, `norms`, `cosines`, `group_of`, `only` | angles and sizes of gradients, by part of the model |
| `user_means`, `map_user_gradients`, `user_shares`, `block_size`, `alignment`, `noise_scale` | the part of each user |
| `some_targets`, `item_tables`, `row_squares`, `row_gram`, `by_role` | gradients by group of items, and by item |
| `mean_loss`, `hvp`, `eigenpairs`, `Eigenpairs`, `random_direction`, `surface` | the Hessian and the loss around a point |
| `influence_along`, `target_gradient`, `item_rows`, `item_product`, `solve` | influence of users on targets |
| `spectrum`, `Spectrum`, `line`, `barrier` | the Hessian's spectrum; the line between two models |
| `gnvp`, `Split`, `ranking`, `is_ranking`, `ranking_gnvp` | the Gauss-Newton matrix |

Names are imported at their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmesr_jax.core.lazy import lazily

if TYPE_CHECKING:
    from llmesr_jax.experiments.gradients.curvature import (
        Eigenpairs,
        eigenpairs,
        hvp,
        mean_loss,
        random_direction,
        surface,
    )
    from llmesr_jax.experiments.gradients.gauss_newton import (
        Split,
        gnvp,
        is_ranking,
        ranking,
        ranking_gnvp,
    )
    from llmesr_jax.experiments.gradients.influence import along as influence_along
    from llmesr_jax.experiments.gradients.influence import (
        item_product,
        item_rows,
        solve,
        target_gradient,
    )
    from llmesr_jax.experiments.gradients.items import by_role, row_gram, row_squares
    from llmesr_jax.experiments.gradients.items import tables_of as item_tables
    from llmesr_jax.experiments.gradients.landscape import (
        Spectrum,
        barrier,
        line,
        spectrum,
    )
    from llmesr_jax.experiments.gradients.parameter_groups import group_of, only
    from llmesr_jax.experiments.gradients.terms import (
        cosines,
        gram,
        norms,
        some_targets,
        total,
    )
    from llmesr_jax.experiments.gradients.terms import gradients as term_gradients
    from llmesr_jax.experiments.gradients.terms import weighted as term_values
    from llmesr_jax.experiments.gradients.users import (
        alignment,
        block_size,
        noise_scale,
    )
    from llmesr_jax.experiments.gradients.users import (
        map_gradients as map_user_gradients,
    )
    from llmesr_jax.experiments.gradients.users import shares as user_shares
    from llmesr_jax.experiments.gradients.users import splits as user_means

_IN = {
    "terms": {
        "term_values": "weighted",
        "term_gradients": "gradients",
        **{name: name for name in ("total", "gram", "norms", "cosines", "some_targets")},
    },
    "parameter_groups": {name: name for name in ("group_of", "only")},
    "users": {
        "user_means": "splits",
        "user_shares": "shares",
        "map_user_gradients": "map_gradients",
        **{name: name for name in ("block_size", "alignment", "noise_scale")},
    },
    "items": {"item_tables": "tables_of", **{name: name for name in ("row_squares", "row_gram", "by_role")}},
    "curvature": {
        name: name for name in ("mean_loss", "hvp", "eigenpairs", "Eigenpairs", "random_direction", "surface")
    },
    "landscape": {name: name for name in ("spectrum", "Spectrum", "line", "barrier")},
    "influence": {
        "influence_along": "along",
        **{name: name for name in ("target_gradient", "item_rows", "item_product", "solve")},
    },
    "gauss_newton": {name: name for name in ("gnvp", "Split", "ranking", "is_ranking", "ranking_gnvp")},
}
_NAMES = {
    name: f"experiments.gradients.{module}:{function}"
    for module, names in _IN.items()
    for name, function in names.items()
}
__all__ = [
    "term_values",
    "term_gradients",
    "total",
    "gram",
    "norms",
    "cosines",
    "group_of",
    "only",
    "user_means",
    "user_shares",
    "map_user_gradients",
    "block_size",
    "alignment",
    "noise_scale",
    "some_targets",
    "item_tables",
    "row_squares",
    "row_gram",
    "by_role",
    "mean_loss",
    "hvp",
    "eigenpairs",
    "Eigenpairs",
    "random_direction",
    "surface",
    "spectrum",
    "Spectrum",
    "line",
    "barrier",
    "influence_along",
    "target_gradient",
    "item_rows",
    "item_product",
    "solve",
    "gnvp",
    "Split",
    "ranking",
    "is_ranking",
    "ranking_gnvp",
]
__getattr__, __dir__ = lazily(__name__, _NAMES)

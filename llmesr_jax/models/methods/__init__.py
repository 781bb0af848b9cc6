"""Methods, one file each, found by its name (`--method=llmesr`). Such a file has the members of `Method`.

It may have any of these functions. All are pure; each has a default that does nothing. In `config` a traced number that
is not 0 reads nan, since runs that differ in it share a program: only `terms` may calculate with those.

    tables(corpus, config) -> {name: array}
        The tables that `Needs.own` names, made on the host: over items V + 2 rows (padding, items, mask token), over
        users U. Kept in the cache, and made again when the interactions, the method's settings, the text of this file or
        its `TABLES_VERSION` (default 1) change; raise that when code elsewhere that it calls does. Integers are int32.

    trains(config, path) -> bool
        Whether steps update the parameter at `path`, such as table/items. Default: all. What is not trained has no
        moments and gets no decay; stop its gradient, too, where that saves work.

    optimizer(config, learning_rate) -> optax.GradientTransformation
        An optimiser of its own, used where `train.optimizer` is auto. See `llmesr_jax.training.optimizers`.

    extra(config, sizes, data, tables, batch, key) -> {name: Sequences | Ids | array}
        What the method adds to each batch, as `Batch.extra`, on the device, in each step. `data` is
        `training.batches.Interactions` (its `unseen_items` draws negatives), `tables` are all, those that hold ids too,
        but not those that only start a parameter. Shapes must be static. Make sequences
        with `types.from_rows`; in `terms` encode them with gradient, as students are:
        `self.encode(self.slot_views(rows, deterministic), rows, deterministic, last_only=True)`. Wrap other ids in
        `types.Ids`: updates of touched rows renumber both. On several devices students' rows are moved after this call,
        and what is added stays as it is; so name a row by its place in the order of length, for which
        `Sequences.row_at` gives the row in `terms`, and say `ON_A_MESH = True` in the file. Without it, a mesh with
        several devices along `data` is refused.

    before_epoch(config, apply, params, tables, data, epoch) -> params
        Parameters to begin an epoch with (epochs count from 1), before its first step; not when a run is continued in the
        middle of one.

    for_serving(config, apply, params, tables, data) -> params
        Parameters that are validated, tested, exported and served, made of those that are trained. Shapes stay.

`apply(params, tables, *arguments, method="users")` calls a function of `Method` in the run's precision, as
`Method.apply` would.

A parameter over items or users is made by `models.axes.parameter`, which says so; then updates of touched rows, the study
of gradients and the placement on devices know of it. `Sequences.users_R` has the row of each sequence's user, -1 where it
is not known: what reads a table over users must do without for those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    from llmesr_jax.models.types import Array, Batch, Needs, Sequences, Term


class Method(Protocol):
    """What the file of a method must have. It owns tables, item and user vectors and loss terms, and uses any backbone."""

    @property
    def Config(self) -> type:
        """Frozen dataclass; every field a `knob(default, help)`, set as `--config.<file>.<field>`."""
        ...

    @property
    def Method(self) -> Callable[..., Any]:
        """`Method(config, loss, sizes, make_backbone)`, a linen module with the methods of `Model`.

        `loss` is `losses.LossConfig`, `sizes` is `types.Sizes`, `make_backbone()` gives a new backbone.
        """
        ...

    def needs(self, config: Any, /) -> Needs:
        """What the method needs from the host: frozen tables, similar users."""
        ...


class Model(Protocol):
    """The methods of a method's linen module. A score is user vector . item vector, everywhere."""

    def items(self, ids: Array) -> Array:
        """int32 (n,) -> (n, E): item vectors."""
        ...

    def slot_views(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(..., T, D): its views of each slot's item, of `items_T` alone; a leading axis where there are several."""
        ...

    def encode(self, views: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        """The views to user vectors after each slot, (T, E), or after each row's newest item, (R, E)."""
        ...

    # Serving also wants `parts(views) -> {name: (n, E)}`: from the `slot_views` of n items what their vectors consist of,
    # the first names being those of the views. `layers.tables.SingleView` has it.
    #
    # A method of one view may have `llm_views(ids) -> (n, D)`: what it maps the LLM embeddings of items to, for figures.

    def users(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(R, E): the user vector after each row's newest item, `encode` of `slot_views`."""
        ...

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms of the loss by name, "ranking" among them; `epoch` counts from 1, as a float."""
        ...


PLUGINS: Plugins[Method] = Plugins("method", __name__, Method, parts={"Method": Model})

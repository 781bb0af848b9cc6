"""Methods, one file each, found by its name (`--method=llmesr`). Such a file has the members of `Method`.

It may also have any of these functions. All are pure; the default of each does nothing. In their `config` a traced
number that is not 0 is nan, because runs that differ in it share a program: only `terms` may calculate with traced
numbers.

    tables(corpus, config) -> {name: array}
        The tables that `Needs.own` names, made on the host: over items V + 2 rows (padding, items, mask token), over
        users U. Integers are int32. They are kept in the cache, and made again if the interactions, the method's
        settings, code that this function uses in its own file, or the file's `TABLES_VERSION` (default 1) change. Raise
        `TABLES_VERSION` when code that it uses in other files changes.

    trains(config, path) -> bool
        Whether steps update the parameter at `path`, such as table/items. Default: all. A parameter that is not trained
        has no moments and no weight decay; also stop its gradient where that saves work.

    optimizer(config, learning_rate) -> optax.GradientTransformation
        The method's own optimiser, used if `train.optimizer` is auto. See `llmesr_jax.training.optimizers`.

    extra(config, sizes, data, tables, batch, key) -> {name: Sequences | Ids | array}
        What the method adds to each batch, as `Batch.extra`, on the device, in each step. `data` is
        `training.interactions.Interactions` (its `unseen_items` draws negatives). `tables` has all frozen tables, also
        those that hold ids, but not those that only start a parameter. Shapes must be static. Make sequences with
        `types.from_rows`; in `terms` encode them with gradient, as students are:
        `self.encode(self.slot_views(rows, deterministic), rows, deterministic, last_only=True)`. Wrap other ids in
        `types.Ids`: updates of touched rows renumber both. On several devices the students' rows are moved after this
        call, but what is added is not. So refer to a row by its place in the order of length, from which
        `Sequences.row_at` finds the row in `terms`, and set `ON_A_MESH = True` in the file. Without it, a mesh with
        several devices along `data` is refused.

    before_epoch(config, apply, params, tables, data, epoch) -> params
        The parameters at the start of an epoch (epochs count from 1), before its first step. It is not called when a
        run continues in the middle of an epoch.

    for_serving(config, apply, params, tables, data) -> params
        The parameters that are validated, tested, exported and served, made from the trained ones, with the same
        shapes.

`apply(params, tables, *arguments, method="users")` calls a function of `Method` in the run's precision, as
`Method.apply` would.

Make a parameter over items or users with `models.axes.parameter`, which declares this to updates of touched rows, the
study of gradients and the placement on devices. `Sequences.users_R` has the row of each sequence's user, -1 where it is
not known: code that reads a table over users must handle -1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    from llmesr_jax.models.types import Array, Batch, Needs, Sequences, Term


class Method(Protocol):
    """What the file of a method must have. It owns tables, item and user vectors and loss terms; any backbone fits."""

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
        """(..., T, D): the views of each slot's item, a function of `items_T` alone; a leading axis if several."""
        ...

    def encode(self, views: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        """Turns views into user vectors after each slot, (T, E), or with `last_only` each row's newest, (R, E)."""
        ...

    # Serving also needs `parts(views) -> {name: (n, E)}`: from the `slot_views` of n items, the parts that add up to
    # their vectors; the first names are those of the views. `layers.tables.SingleView` has it.
    #
    # A method of one view may have `llm_views(ids) -> (n, D)`: what it maps the LLM embeddings of items to, for
    # figures.

    def users(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(R, E): the user vector after each row's newest item, `encode` of `slot_views`."""
        ...

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms of the loss by name, "ranking" among them; `epoch` counts from 1, as a float."""
        ...


PLUGINS: Plugins[Method] = Plugins("method", __name__, Method, parts={"Method": Model})

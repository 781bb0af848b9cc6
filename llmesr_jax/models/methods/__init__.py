"""Methods, one file each, found by its name (`--method=llmesr`).

A file has

    Config                        frozen dataclass; every field a `knob`
    needs(config) -> Needs        the frozen tables that it wants, and those that it makes itself (`own`)
    Method(config, loss, sizes, make_backbone)
                                  a linen module with
      items(ids)                                       int32 (n,) -> (n, E): item vectors
      slot_views(sequences, deterministic=True)        (..., T, D): its views of each slot's item, of `items_T` alone,
                                                       with a leading axis where there are several
      encode(views, sequences, deterministic, last_only)
                                                       the views to user vectors, (T, E) or (R, E) with `last_only`
      users(sequences, deterministic=True)             (R, E): `encode` of `slot_views`
      terms(batch, epoch, deterministic=False)         {name: Term(value, weight)}

and may have any of these functions. All are pure; each has a default that does nothing. In `config` a traced number that
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
        `types.Ids`: updates of touched rows renumber both.

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

from llmesr_jax.core.plugins import Plugins

PLUGINS = Plugins("method", __name__)

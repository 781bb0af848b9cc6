"""Updates of the rows that a step touches, and of no others: the cost does not grow with the catalogue or the users.

The step's batch is renumbered: its distinct items become ids 0, 1, ... and its distinct users rows 0, 1, ... of small
arrays, which are cut out of everything over items and users: parameters, frozen tables and the optimiser's moments.
Loss, gradient and optimiser then run as always, on small arrays, and the rows that a gradient belongs to are written
back.

What differs from dense updates: an item that is neither input, target nor negative of a step keeps its row and its
moments as they are. Dense Adam lets moments decay at every step and moves rows by them after their last gradient.
Both count steps alike for the bias correction. PyTorch calls this SparseAdam, TensorFlow Addons LazyAdam.

Where rows are split over devices (`split_rows`), a step cuts rows out with dense updates too. The gradient of the small
arrays is then spread into one as large as the parameters (`spread`).

Arrays over items or users declare it (`models.axes`). Any other array with as many rows would be read with renumbered
ids, so `check` refuses it. `check_optimizer` refuses an optimiser for which rows are not independent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.axes import ITEM, USER, Axes, path_of
from llmesr_jax.models.kernels import search, split_rows
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.types import Array, Batch, Ids, Sequences

_SETTING = "config: train.table_updates=touched"


class Rows(NamedTuple):
    """The rows of one axis that a batch touches.

    Attributes:
      ids_n: int32, distinct rows in ascending order (of items the first is 0, the padding), filled up with the number
        of rows, which is no row.
      trained_n: bool, rows that a gradient may belong to; the others occur in teachers only.
    """

    ids_n: Array
    trained_n: Array


Touched = dict[str, Rows]  # by axis


def touched(batch: Batch, axes: Axes, whole: bool = False) -> tuple[Touched, Batch]:
    """The items and users that a batch touches, and the batch with ids and user rows replaced by places in `ids_n`.

    The cost depends on the batch, not on the catalogue. Users are not renumbered if no array is over users.

    Args:
      batch: with ids of the catalogue.
      axes: of the model.
      whole: how places are searched, see `search`.
    """
    shared = [] if batch.shared_K is None else [batch.shared_K]
    extra = [x for x in _parts(batch.extra) if isinstance(x, (Sequences, Ids))]
    bags = [x for x in extra if isinstance(x, Sequences)]
    own = lambda axis: [x.ids.reshape(-1) for x in extra if isinstance(x, Ids) and x.axis == axis]  # noqa: E731
    trained = [batch.students.items_T, batch.targets_T, batch.negatives_TxK.reshape(-1), *shared]
    trained += [*(bag.items_T for bag in bags), *own(ITEM)]
    items = _rows(trained, [] if batch.teachers is None else [batch.teachers.items_T], axes.items, np.zeros(1), whole)
    found, users = {ITEM: items}, None
    if axes.has(USER):
        trained = [batch.students.users_R, *(bag.users_R for bag in bags), *own(USER)]
        other = [] if batch.users_B is None else [batch.users_B]
        other += [] if batch.teachers is None else [batch.teachers.users_R]
        nobody = lambda parts: [jnp.where(x < 0, axes.users, x) for x in parts]  # noqa: E731
        users = found[USER] = _rows(nobody(trained), nobody(other), axes.users, np.zeros(0), whole)

    def item_places(ids):
        return _places(items, ids, whole)

    def user_places(rows):
        return rows if users is None else jnp.where(rows < 0, rows, _places(users, rows, whole))

    def renumbered(bag):
        user_R = None if bag.user_R is None else user_places(bag.user_R)
        return bag.replace(items_T=item_places(bag.items_T), user_R=user_R)

    def of_extra(x):
        if isinstance(x, Sequences):
            return renumbered(x)
        if isinstance(x, Ids):
            return x.replace(ids=(item_places if x.axis == ITEM else user_places)(x.ids))
        return x

    batch = batch.replace(
        students=renumbered(batch.students),
        targets_T=item_places(batch.targets_T),
        negatives_TxK=item_places(batch.negatives_TxK),
        shared_K=item_places(batch.shared_K) if shared else None,
        teachers=batch.teachers and renumbered(batch.teachers),
        users_B=None if batch.users_B is None else user_places(batch.users_B),
        extra=jax.tree.map(of_extra, batch.extra, is_leaf=_is_part),
        catalogue_n=items.ids_n,
    )
    return found, batch


def touched_by(sequences: Sequences, axes: Axes) -> tuple[Touched, Sequences]:
    """`touched` for sequences alone."""
    slots = len(sequences.items_T)
    nothing_T, nobody_R = jnp.zeros(slots, jnp.int32), jnp.zeros(len(sequences.last_R), bool)
    rows, batch = touched(Batch(sequences, nothing_T, jnp.zeros((slots, 0), jnp.int32), nobody_R), axes)
    return rows, batch.students


def _rows(trained: list[Array], other: list[Array], count: int, first: np.ndarray, whole: bool) -> Rows:
    """The distinct rows of `trained`, `other` and `first`; numbers from `count` on are ignored."""
    trained_n = jnp.concatenate(trained)
    every_n = jnp.concatenate([trained_n, *other]) if other else trained_n
    ordered = jnp.sort(jnp.concatenate([first.astype(every_n.dtype), every_n]))
    new = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    room = min(count, len(ordered))
    ids_n = jnp.full(room, count, jnp.int32).at[jnp.where(new, jnp.cumsum(new) - 1, room)].set(ordered, mode="drop")
    rows = Rows(ids_n, jnp.zeros(room, bool))
    trained_n = rows.trained_n.at[_places(rows, trained_n, whole)].set(True, mode="drop")
    return Rows(ids_n, trained_n & (ids_n < count))


def _places(rows: Rows, ids: Array, whole: bool) -> Array:
    if not whole:
        return jnp.searchsorted(rows.ids_n, ids).astype(jnp.int32)
    room = len(rows.ids_n)
    return search.at_most(rows.ids_n, jnp.zeros_like(ids), jnp.full_like(ids, room), ids - 1, room, True)


def _is_part(x: Any) -> bool:
    return isinstance(x, (Sequences, Ids))


def _parts(extra: Any) -> list[Any]:
    return jax.tree.leaves(extra, is_leaf=_is_part)


def cut(tree: Any, rows: Touched, axes: Axes, split: bool = False) -> Any:
    """A tree of parameters, or an optimiser's state, with arrays over items or users cut to their touched rows.

    Args:
      split: these arrays are split by rows over devices.
    """
    take = split_rows.take if split else take_rows

    def one(path, x):
        axis = axes.at(path)
        return take(x, rows[axis].ids_n) if axis else x

    return jax.tree_util.tree_map_with_path(one, tree)


def cut_tables(tables: dict[str, Array], rows: Touched, axes: Axes, split: bool = False) -> dict[str, Array]:
    """The frozen tables that the model reads in such a step, cut as `cut` does; those that hold ids are left out."""
    kinds, found = dict(axes.tables), {}
    take = split_rows.take if split else take_rows
    for name, table in tables.items():
        if name in kinds and kinds[name].holds_ids:
            continue
        axis = axes.of_table(name)
        found[name] = take(table, rows[axis].ids_n) if axis else table
    return found


def put_back(tree: Any, small: Any, rows: Touched, axes: Axes, split: bool = False) -> Any:
    """The large tree: arrays over items or users get the trained rows of `small`, all others are those of `small`."""

    def put(path, x, y):
        axis = axes.at(path)
        if not axis:
            return y
        ids_n = jnp.where(rows[axis].trained_n, rows[axis].ids_n, len(x))
        return split_rows.put(x, ids_n, y) if split else x.at[ids_n].set(y, mode="drop")

    return jax.tree_util.tree_map_with_path(put, tree, small)


def spread(gradient: Any, params: Any, rows: Touched, axes: Axes) -> Any:
    """The gradient of parameters that are split over devices, from that of the touched rows: zeros in all others."""
    empty = jax.tree.map(jnp.zeros_like, params)
    return put_back(empty, gradient, rows, axes, split=True)


def check(
    params: Any,
    tables: dict[str, Array],
    axes: Axes,
    batch: Batch | None = None,
    setting: str = _SETTING,
    instead: str = "train.table_updates=dense",
) -> None:
    """Raises InputError for an array that may be read with renumbered ids but does not declare its axis.

    Args:
      params, tables: of one lane; arrays or shapes. V, V + 1 or V + 2 rows may be the items', U rows the users'.
      axes: what is declared.
      batch: any batch, to check what the method adds to it; None: that is not checked.
      setting, instead: for messages: why ids are renumbered, and what to set where they must not be.
    """
    found = [(f"parameter {path_of(p)}", axes.at(p), x) for p, x in jax.tree_util.tree_flatten_with_path(params)[0]]
    found += [(f"table {name}", axes.of_table(name), x) for name, x in tables.items()]
    for name, axis, x in found:
        num_items = axes.items - 2
        of_items = bool(x.shape) and x.shape[0] - num_items in (0, 1, 2)
        of_users = bool(x.shape) and x.shape[0] == axes.users and axes.has(USER)
        if axis is None and (of_items or of_users):
            count, kind = (num_items, "items") if of_items else (axes.users, "users")
            raise InputError(
                f"{setting}, but {name} of shape {tuple(x.shape)} may have a row for each of the {count} {kind} and "
                "does not declare it; make it by models.axes.parameter, or name it in the method's needs, with its "
                f"axis (item, user, or '' for neither), or set {instead}"
            )
    for x in _parts(batch.extra if batch is not None else None):
        if not _is_part(x) and jnp.issubdtype(x.dtype, jnp.integer):
            raise InputError(
                f"{setting}, but the method adds integers of shape {tuple(x.shape)} to a batch, which may be ids; "
                f"expected ids as models.types.Ids, and other numbers as floats; or set {instead}"
            )


def check_optimizer(optimizer: optax.GradientTransformation, params: Any, axes: Axes) -> None:
    """Raises InputError for an optimiser that does not keep rows apart.

    Its state for a parameter over items or users must have the parameter's shape, and it must not move parameters whose
    gradient is zero, as weight decay does.

    Args:
      optimizer: to be checked.
      params: of one lane; arrays or shapes.
      axes: of the model.
    """
    shapes = {path_of(path): tuple(x.shape) for path, x in jax.tree_util.tree_flatten_with_path(params)[0]}
    for path, x in jax.tree_util.tree_flatten_with_path(jax.eval_shape(optimizer.init, params))[0]:
        name = axes.parameter_at(path)
        if axes.at(path) and tuple(x.shape) != shapes[name]:
            raise InputError(
                f"{_SETTING}, but the optimiser's state for {name} has the shape {tuple(x.shape)}, not the "
                f"parameter's {shapes[name]}, so it has no rows to cut out; set train.table_updates=dense, or choose "
                "another train.optimizer, such as adam"
            )
    sample = jax.tree.map(lambda x: jnp.ones([min(n, 2) for n in x.shape], x.dtype), params)
    with jax.numpy_dtype_promotion("standard"):  # optax's own
        still = optimizer.update(jax.tree.map(jnp.zeros_like, sample), optimizer.init(sample), sample)[0]
    if any(bool(jnp.any(x != 0)) for x in jax.tree.leaves(still)):
        raise InputError(
            f"{_SETTING}, but the optimiser also moves parameters without a gradient (by weight decay), so every row "
            "at each step; expected train.table_updates=dense, or an optimiser without weight decay"
        )

"""Methods, one file each, found by its name (`--method=llmesr`). What such a file has is `Method`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    from llmesr_jax.models.types import Array, Batch, Needs, Sequences, Term


class Method(Protocol):
    """What the file of a method has. It owns tables, item and user vectors and loss terms, and holds any backbone."""

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
        """What it wants prepared on the host: frozen tables, similar users."""
        ...


class Model(Protocol):
    """The methods of a method's linen module. A score is user vector . item vector, everywhere."""

    def items(self, ids: Array) -> Array:
        """int32 (n,) -> (n, E): item vectors."""
        ...

    def users(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(R, E): the user vector after each row's newest item."""
        ...

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms of the loss by name, "ranking" among them; `epoch` counts from 1, as a float."""
        ...


PLUGINS: Plugins[Method] = Plugins("method", __name__, Method, parts={"Method": Model})

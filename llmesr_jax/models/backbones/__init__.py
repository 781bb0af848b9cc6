"""Sequence encoders, one file each, found by its name (`--backbone=sasrec`), with the members of `Backbone`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    from llmesr_jax.models.types import Array, Sequences


class Backbone(Protocol):
    """What the file of a backbone must have. It sees vectors and masks, never ids, tables or losses."""

    @property
    def Config(self) -> type:
        """Frozen dataclass; every field a `knob(default, help)`, set as `--config.<file>.<field>`."""
        ...

    @property
    def Backbone(self) -> Callable[..., Any]:
        """`Backbone(config, sizes)`, a linen module with the methods of `Encoder`; `sizes` is `types.Sizes`."""
        ...

    def supervision(self, config: Any, /) -> str:
        """The positions that a loss may use: "every"; "last", which an encoder that looks ahead requires; or "masked",
        positions that are hidden from the encoder, which may then look both ways."""
        ...

    def needs_padding(self, config: Any, /) -> bool:
        """Whether results depend on padding that only the padded layout has."""
        ...


def packs(file: Backbone, config: Any) -> bool:
    """Whether the backbone keeps several sequences in one row apart, as attention does and a recurrence does not.

    This is the answer of `packs(config)` in its file; without that function, each sequence gets a row of its own.
    """
    says = getattr(file, "packs", None)
    return bool(says and says(config))


class Encoder(Protocol):
    """The methods of a backbone's linen module. `...` stands for leading axes, such as that of an item's views."""

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """(..., T, D) -> (..., T, D): scale, positions, dropout. Has no norm if `sizes.normed`: the method has one."""
        ...

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`."""
        ...


PLUGINS: Plugins[Backbone] = Plugins("backbone", __name__, Backbone, parts={"Backbone": Encoder})

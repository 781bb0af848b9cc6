"""ACE: `llminit` from a start whose spectrum is flattened (Lee et al., SIGIR 2026, Anisotropy-Controllable Embedding).

LLM embeddings vary much in a few directions and little in most. A linear autoencoder with an L2 penalty lambda keeps
the share s^2 / (s^2 + lambda) of a direction with singular value s. The table starts at U sqrt(s^2 / (s^2 + lambda)), U
the left singular vectors of the centred embeddings, and is trained freely. lambda = 0 makes all directions equally
strong (whitening); a large lambda leaves their proportions as they are, which is `llminit`.

Our choices, where the abstract and this formula leave something open: lambda (`ridge`) is in units of the mean s^2 of
the directions kept, so that one value fits embeddings of any scale. The table is scaled to the root mean square of the
PCA, so that it starts as large as that of `llminit`. The D strongest directions are kept; the formula does not change
their order.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.layers.tables import SingleView
from llmesr_jax.models.types import Array, Needs

_FLAT = 1e-10  # share of the strongest direction's s^2 below which items differ by rounding alone


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder", least=1)
    ridge: float = knob(
        1.0, "lambda, in units of the mean s^2: 0 makes all directions alike, a large one is llminit", least=0
    )


def needs(config: Config) -> Needs:
    """The PCA of the items' LLM embeddings, as wide as the table."""
    return Needs(frozenset({"item_pca"}), pca_width=config.width)


def reshaped(pca_nxD: Array, ridge: float) -> Array:
    """U sqrt(s^2 / (s^2 + lambda)) at the root mean square of U s: (V + 2, D) -> (V + 2, D), from U s.

    A direction in which items do not differ stays as it is.
    """
    square_D = jnp.sum(jnp.square(pca_nxD), axis=0)
    varies_D = square_D > _FLAT * jnp.max(square_D)
    mean = jnp.sum(jnp.where(varies_D, square_D, 0)) / jnp.maximum(jnp.sum(varies_D.astype(pca_nxD.dtype)), 1)
    new_nxD = pca_nxD / jnp.sqrt(jnp.where(varies_D, square_D + ridge * mean, 1))[None]  # U s / sqrt(s^2 + lambda)
    size = lambda x_nxD: jnp.sum(jnp.where(varies_D[None], jnp.square(x_nxD), 0))  # noqa: E731
    scale = jnp.sqrt(size(pca_nxD) / jnp.maximum(size(new_nxD), 1e-30))
    return jnp.where(varies_D[None], new_nxD * scale, pca_nxD)


def Method(config: Config, loss, sizes, make_backbone) -> Reshaped:
    """See `Reshaped`."""
    return Reshaped(config, loss, sizes, make_backbone, start="item_pca")


class Reshaped(SingleView):
    """A `SingleView` whose table starts at the reshaped PCA."""

    def table_start(self) -> Array | None:
        """(V + 2, D) when parameters are made; None later."""
        pca_nxD = super().table_start()
        return None if pca_nxD is None else reshaped(pca_nxD, self.config.ridge)

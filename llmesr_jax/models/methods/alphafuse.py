"""AlphaFuse: IDs learnt in the null space of the LLM embeddings (Hu et al., SIGIR 2025).

The D strongest principal components of the LLM embeddings are kept, D the width of the table, strongest first. Each is
divided by its standard deviation, so all have the same weight. An item's vector is these D numbers, frozen, plus a
trained ID in the last `null_width` of them, where the embeddings vary least: [semantic : semantic + ID]. There is no
adapter.

The frozen part is a parameter that no step trains. It is made once, from the same PCA as the start of `llminit`, and is
stored in checkpoints and exports; the PCA is not.

Deviations. Nothing in the result: the release first scales the embeddings by 40, which the division undoes, and starts
the IDs at N(0, 1), as `id_std=1` does. A direction in which items do not differ is zeros. With `null_width` as wide as
the table and `null_semantics=False`, this is `none`, started at N(0, id_std^2).
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.models import axes
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.layers.tables import SingleView
from llmesr_jax.models.types import Array, Needs

_FLAT = 1e-5  # share of the strongest direction's deviation below which items differ by rounding alone


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder", least=1)
    null_width: int = knob(64, "number of directions in which IDs are learnt, the weakest; at most the width", least=1)
    null_semantics: bool = knob(True, "IDs are added to the embeddings in these directions; False: IDs replace them")
    standardize: bool = knob(True, "each direction is divided by its standard deviation; False: the plain PCA")
    id_std: float = knob(1.0, "standard deviation of the IDs at the start", least=0)


def needs(config: Config) -> Needs:
    """The PCA of the items' LLM embeddings, as wide as the table.

    Raises:
      InputError: the null space is wider than the table.
    """
    if config.null_width > config.width:
        raise InputError(
            f"config: alphafuse.null_width is {config.null_width} and alphafuse.width {config.width}; expected at most "
            "the width, because IDs are learnt in some of the table's directions; lower null_width or raise width"
        )
    return Needs(frozenset({"item_pca"}), pca_width=config.width)


def trains(config: Config, path: str) -> bool:
    """All but the frozen directions."""
    return not path.startswith("semantic")


def standardized(pca_nxD: Array) -> Array:
    """Principal components, divided by their standard deviation over items: (V + 2, D) -> (V + 2, D).

    Rows 0 and V + 1 are zeros, and so is a component in which items do not differ.
    """
    deviation_D = jnp.sqrt(jnp.mean(jnp.square(pca_nxD[1:-1]), axis=0))  # components are centred
    varies_D = deviation_D > _FLAT * jnp.max(deviation_D)
    return jnp.where(varies_D[None], pca_nxD / jnp.where(varies_D, deviation_D, 1)[None], jnp.zeros_like(pca_nxD))


def Method(config: Config, loss, sizes, make_backbone) -> Fused:
    """See `Fused`."""
    return Fused(config, loss, sizes, make_backbone)


class Fused(SingleView):
    """A `SingleView` over a table that is partly frozen."""

    def setup(self):
        c, rows = self.config, self.sizes.num_items + 2
        # The PCA is read only when parameters are made.
        self.semantic = axes.parameter(self, "semantic", self._semantic, (rows, c.width), axes.ITEM)
        ids = nn.initializers.normal(c.id_std)
        self.ids = axes.parameter(self, "ids", ids, (rows, c.null_width), axes.ITEM)
        self.backbone = self.make_backbone()

    def _semantic(self, key: Array, shape: tuple[int, int], dtype=jnp.float32) -> Array:
        pca_nxD = self.get_variable("tables", "item_pca").reshape(shape)
        start_nxD = standardized(pca_nxD) if self.config.standardize else pca_nxD
        kept_D = jnp.arange(shape[1]) < shape[1] - self.config.null_width * (not self.config.null_semantics)
        return jnp.where(kept_D[None], start_nxD, 0).astype(dtype)

    def items(self, ids: Array) -> Array:
        """int32 (n,) -> (n, D): item vectors."""
        fixed_nxD = jax.lax.stop_gradient(take_rows(self.semantic, ids))
        learnt_nxN = take_rows(self.ids, ids)
        rich = self.config.width - self.config.null_width
        return jnp.concatenate([fixed_nxD[:, :rich], fixed_nxD[:, rich:] + learnt_nxN], axis=1)

    def parts(self, x_nxD: Array) -> dict[str, Array]:
        """{name: (n, D)} that add up to x: the directions with IDs, and those that are frozen."""
        is_rich_1xD = (jnp.arange(x_nxD.shape[1]) < self.config.width - self.config.null_width)[None]
        zeros = jnp.zeros_like(x_nxD)
        return {"id": jnp.where(is_rich_1xD, zeros, x_nxD), "semantic": jnp.where(is_rich_1xD, x_nxD, zeros)}

"""LLMInit: the item table starts at the PCA of the LLM embeddings and is trained freely (LLM2BERT4Rec, SAID)."""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.layers.tables import SingleView
from llmesr_jax.models.types import Needs


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder", least=1)


def needs(config: Config) -> Needs:
    """The PCA of the items' LLM embeddings, as wide as the table."""
    return Needs(frozenset({"item_pca"}), pca_width=config.width)


def Method(config: Config, loss, sizes, make_backbone) -> SingleView:
    """See `llmesr_jax.models.layers.tables.SingleView`."""
    return SingleView(config, loss, sizes, make_backbone, start="item_pca")

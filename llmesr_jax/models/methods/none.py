"""No enhancement: the plain backbone over one trainable item table (rows without a method's name in the papers).

Width 128, so that its budget equals LLM-ESR's two views of 64. The table starts Xavier-normal, as in LLM-ESR's release,
or with `table_start=normal` at N(0, 0.02), as FAERec's "Base".
"""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.tables import SingleView
from llmesr_jax.models.types import Needs


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder", least=1)
    table_start: str = settings.table_start()


def needs(config: Config) -> Needs:
    """Nothing from an LLM."""
    return Needs()


def Method(config: Config, loss, sizes, make_backbone) -> SingleView:
    """See `llmesr_jax.models.layers.tables.SingleView`."""
    return SingleView(config, loss, sizes, make_backbone, drawn=config.table_start)

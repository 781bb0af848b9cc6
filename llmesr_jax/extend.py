"""What the file of a plug-in imports: functions for settings, the type of a batch, and the layers that models share.

    from llmesr_jax.extend import Array, Sequences, Sizes, dense, knob, newest

The Protocols say what a plug-in of each kind must have: `BackboneFile` and its `Encoder`, `MethodFile` and its `Model`,
`LossFile`, `OptimizerFile`, `SurgeryFile` and its `Terms`, `MetricOfRanks` and `MetricOfLists`, `LoggerFile` and its
`Writer`, `EncoderOfTexts` and `EncoderOfCorpus`, `ImporterFile`. `plugin("method", "llmesr")` returns the file of
another plug-in, for a plug-in that wraps it.

Names are imported at their first use, so a logger or an importer imports no JAX through this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmesr_jax.core.lazy import lazily

if TYPE_CHECKING:
    from llmesr_jax.core.axes import ITEM, TABLES, USER, Table
    from llmesr_jax.core.errors import InputError
    from llmesr_jax.core.knobs import knob
    from llmesr_jax.data.corpus import Corpus
    from llmesr_jax.data.importers import Downloads
    from llmesr_jax.data.importers import Importer as ImporterFile
    from llmesr_jax.models.axes import parameter
    from llmesr_jax.models.backbones import Backbone as BackboneFile
    from llmesr_jax.models.backbones import Encoder
    from llmesr_jax.models.kernels.dropout import Dropout
    from llmesr_jax.models.layers.dense import LayerNorm, dense, newest, take_rows
    from llmesr_jax.models.layers.tables import (
        Adapter,
        ItemTable,
        SingleView,
        candidates,
        ranking_term,
    )
    from llmesr_jax.models.losses import (
        AllItems,
        Drawn,
        LossConfig,
        masked_mean,
        mean_drawn,
    )
    from llmesr_jax.models.losses import Loss as LossFile
    from llmesr_jax.models.methods import Method as MethodFile
    from llmesr_jax.models.methods import Model
    from llmesr_jax.models.types import (
        Array,
        Batch,
        Ids,
        Needs,
        Sequences,
        Sizes,
        Term,
        from_rows,
        join,
    )
    from llmesr_jax.ranking.metrics import Lists
    from llmesr_jax.ranking.metrics import OfLists as MetricOfLists
    from llmesr_jax.ranking.metrics import OfRanks as MetricOfRanks
    from llmesr_jax.semantic.encoders import OfCorpus as EncoderOfCorpus
    from llmesr_jax.semantic.encoders import OfTexts as EncoderOfTexts
    from llmesr_jax.semantic.encoders import TextEncoder
    from llmesr_jax.training.kinds import plugin
    from llmesr_jax.training.loggers import Logger as LoggerFile
    from llmesr_jax.training.loggers import Writer
    from llmesr_jax.training.optimizers import Optimizer as OptimizerFile
    from llmesr_jax.training.surgeries import Surgery as SurgeryFile
    from llmesr_jax.training.surgeries import Terms

_NAMES = {
    "InputError": "core.errors:InputError",
    "knob": "core.knobs:knob",
    "plugin": "training.kinds:plugin",
    "Array": "models.types:Array",
    "Batch": "models.types:Batch",
    "Ids": "models.types:Ids",
    "Needs": "models.types:Needs",
    "Sequences": "models.types:Sequences",
    "Sizes": "models.types:Sizes",
    "Term": "models.types:Term",
    "from_rows": "models.types:from_rows",
    "join": "models.types:join",
    "ITEM": "core.axes:ITEM",
    "USER": "core.axes:USER",
    "Table": "core.axes:Table",
    "TABLES": "core.axes:TABLES",
    "Corpus": "data.corpus:Corpus",
    "parameter": "models.axes:parameter",
    "Dropout": "models.kernels.dropout:Dropout",
    "LayerNorm": "models.layers.dense:LayerNorm",
    "dense": "models.layers.dense:dense",
    "newest": "models.layers.dense:newest",
    "take_rows": "models.layers.dense:take_rows",
    "Adapter": "models.layers.tables:Adapter",
    "ItemTable": "models.layers.tables:ItemTable",
    "SingleView": "models.layers.tables:SingleView",
    "candidates": "models.layers.tables:candidates",
    "ranking_term": "models.layers.tables:ranking_term",
    "AllItems": "models.losses:AllItems",
    "Drawn": "models.losses:Drawn",
    "LossConfig": "models.losses:LossConfig",
    "masked_mean": "models.losses:masked_mean",
    "mean_drawn": "models.losses:mean_drawn",
    "Lists": "ranking.metrics:Lists",
    "Downloads": "data.importers:Downloads",
    "TextEncoder": "semantic.encoders:TextEncoder",
    "BackboneFile": "models.backbones:Backbone",
    "Encoder": "models.backbones:Encoder",
    "MethodFile": "models.methods:Method",
    "Model": "models.methods:Model",
    "LossFile": "models.losses:Loss",
    "MetricOfRanks": "ranking.metrics:OfRanks",
    "MetricOfLists": "ranking.metrics:OfLists",
    "OptimizerFile": "training.optimizers:Optimizer",
    "SurgeryFile": "training.surgeries:Surgery",
    "Terms": "training.surgeries:Terms",
    "LoggerFile": "training.loggers:Logger",
    "Writer": "training.loggers:Writer",
    "EncoderOfTexts": "semantic.encoders:OfTexts",
    "EncoderOfCorpus": "semantic.encoders:OfCorpus",
    "ImporterFile": "data.importers:Importer",
}
__all__ = [
    "InputError",
    "knob",
    "plugin",
    "Array",
    "Batch",
    "Ids",
    "Needs",
    "Sequences",
    "Sizes",
    "Term",
    "from_rows",
    "join",
    "ITEM",
    "USER",
    "Table",
    "TABLES",
    "Corpus",
    "parameter",
    "Dropout",
    "LayerNorm",
    "dense",
    "newest",
    "take_rows",
    "Adapter",
    "ItemTable",
    "SingleView",
    "candidates",
    "ranking_term",
    "AllItems",
    "Drawn",
    "LossConfig",
    "masked_mean",
    "mean_drawn",
    "Lists",
    "Downloads",
    "TextEncoder",
    "BackboneFile",
    "Encoder",
    "MethodFile",
    "Model",
    "LossFile",
    "MetricOfRanks",
    "MetricOfLists",
    "OptimizerFile",
    "SurgeryFile",
    "Terms",
    "LoggerFile",
    "Writer",
    "EncoderOfTexts",
    "EncoderOfCorpus",
    "ImporterFile",
]
__getattr__, __dir__ = lazily(__name__, _NAMES)

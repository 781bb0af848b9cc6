"""The settings of a report."""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob
from llmesr_jax.data.groups import TailConfig
from llmesr_jax.ranking import metrics


@dataclasses.dataclass(frozen=True)
class Options(TailConfig):
    """What is compared, by which metric, and how much is shown."""

    baseline: str = knob(
        "", "what rows are tested against: a method (on the same backbone), the name of a row or of a folder"
    )
    ours: str = knob(
        "", "method whose improvement on the best of the others is shown; empty: the last of the papers' tables"
    )
    data_dir: tuple[str, ...] = knob((), "a folder of data that are not where they were at training")
    metric: str = knob("N@10", "what is tested and drawn", choices=metrics.names)
    resamples: int = knob(2000, "of the bootstrap", least=100)
    users: int = knob(6, "tail users whose lists are shown; 0: none", least=0)
    items: int = knob(800, "items in the pictures of item vectors (t-SNE); 0: none", least=0)

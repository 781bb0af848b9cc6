"""The settings of a report."""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob
from llmesr_jax.data.groups import TailConfig
from llmesr_jax.ranking import metrics


@dataclasses.dataclass(frozen=True)
class Options(TailConfig):
    """The content of a report."""

    baseline: str = knob(
        "",
        "baseline of the tests: a method (on the same backbone), or the name of a row or of a run's folder; empty: the "
        "plain backbone",
    )
    ours: str = knob(
        "", "method whose improvement over the best other method is shown; empty: the last in the papers' tables"
    )
    data_dir: tuple[str, ...] = knob((), "folder of the data, if it was moved after training; several by several flags")
    metric: str = knob("N@10", "metric of tests and figures", choices=metrics.names)
    resamples: int = knob(2000, "resamples of the bootstrap", least=100)
    users: int = knob(6, "number of tail users whose lists are shown; 0: none", least=0)
    items: int = knob(800, "number of items in the pictures of item vectors (t-SNE); 0: none", least=0)

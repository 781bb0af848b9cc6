"""Long-tail sequential recommendation with frozen LLM embeddings, in JAX and Flax.

    import llmesr_jax

    config = llmesr_jax.settings(dataset="demo", method="llmesr", train={"epochs": 3})
    results = llmesr_jax.train(llmesr_jax.prepare(config))

| name | what |
| --- | --- |
| `settings`, `default_settings` | the settings of a run |
| `prepare`, `Experiment` | data, tables, model and row plan of a run |
| `train`, `load_run`, `Run`, `evaluate` | train a run, read it back (and recommend from it), measure it again |
| `load_bundle` | loads a bundle that `launch.export` wrote; it recommends without the training data |
| `loss_fn`, `train_step`, `make_batch`, `step_keys`, `loop_parts`, `term_gradients`, `run_of` | a training loop of your own |
| `InputError` | a mistake in the input, described in one line |

Gradients by term, user and item, products with the Hessian and the Gauss-Newton matrix: `llmesr_jax.gradients`.
What a backbone, method, loss, metric, logger, optimiser, encoder or importer of your own imports: `llmesr_jax.extend`.

Names are imported at their first use: `import llmesr_jax` alone imports no JAX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmesr_jax.core.lazy import lazily
from llmesr_jax.core.version import VERSION as __version__

if TYPE_CHECKING:
    from llmesr_jax.core.errors import InputError
    from llmesr_jax.experiments.gradients.terms import gradients as term_gradients
    from llmesr_jax.models.recommender import loss_fn
    from llmesr_jax.serving.bundle import load as load_bundle
    from llmesr_jax.serving.run import Run
    from llmesr_jax.serving.run import load as load_run
    from llmesr_jax.serving.run import of as run_of
    from llmesr_jax.training.batches import make_batch
    from llmesr_jax.training.config import default as default_settings
    from llmesr_jax.training.config import settings
    from llmesr_jax.training.experiment import Experiment, prepare
    from llmesr_jax.training.loop import train
    from llmesr_jax.training.parts import loop_parts
    from llmesr_jax.training.runs import evaluate_run as evaluate
    from llmesr_jax.training.steps import step_keys, train_step

_NAMES = {
    "InputError": "core.errors:InputError",
    "default_settings": "training.config:default",
    "settings": "training.config:settings",
    "prepare": "training.experiment:prepare",
    "Experiment": "training.experiment:Experiment",
    "train": "training.loop:train",
    "load_run": "serving.run:load",
    "Run": "serving.run:Run",
    "evaluate": "training.runs:evaluate_run",
    "load_bundle": "serving.bundle:load",
    "loss_fn": "models.recommender:loss_fn",
    "term_gradients": "experiments.gradients.terms:gradients",
    "train_step": "training.steps:train_step",
    "make_batch": "training.batches:make_batch",
    "step_keys": "training.steps:step_keys",
    "loop_parts": "training.parts:loop_parts",
    "run_of": "serving.run:of",
}
__all__ = [
    "__version__",
    "InputError",
    "default_settings",
    "settings",
    "prepare",
    "Experiment",
    "train",
    "load_run",
    "Run",
    "evaluate",
    "load_bundle",
    "loss_fn",
    "term_gradients",
    "train_step",
    "make_batch",
    "step_keys",
    "loop_parts",
    "run_of",
]
__getattr__, __dir__ = lazily(__name__, _NAMES)

"""Optimisers, one file each, found by its name (`--config.train.optimizer=adamw`).

A file has `Config`, whose fields are the settings of its section, and `optimizer(config, learning_rate)`, which returns
any optax transformation. The learning rate is `train.learning_rate`: a number, or in training an array, as seeds and
runs that train together may differ in it; so no `if` may ask for it. A method may bring an optimiser of its own, by a
function of this name in its file (`llmesr_jax.models.methods`).
"""

from llmesr_jax.core.plugins import Plugins

PLUGINS = Plugins("optimizer", __name__)

"""An example to copy: the default config with three changes. Use it with `--config=`:

    python -m launch.train --config=configs/forkme.py

What this file sets overrides the data set's file and the preset, even if it equals the default; flags on the command
line override this file. A setting that this file does not set comes from the data set's file or the preset.
"""

import llmesr_jax


def get_config():
    config = llmesr_jax.default_settings()
    config.backbone = "gru4rec"
    config.data.max_len = 100
    config.train.learning_rate = 5e-4
    return config

"""Every setting with its default: the config of a command without `--config`.

The settings are defined beside the code that reads them, each with a line of help; this file only collects them. To
read them all, with defaults and help:

    python -m launch.train --helpfull

To change one: `--config.train.learning_rate=0.0005`. Of several values for a setting, the last in this list counts: the
default, the data set's file (`configs/<dataset>.py`), the preset's file (such as `configs/paper.py`), your own file
given with `--config=` (see `configs/forkme.py`), `--config.a.b=value`, and the short flags (`--epochs=3`).
"""

from llmesr_jax.training import config


def get_config():
    """All sections: data, semantic, loss, train, and one for each backbone, method and loss, under its file's name."""
    return config.default()

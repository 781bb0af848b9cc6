"""Every setting with its default: the config that `--config` loads where none is named.

The settings live beside the code that reads them, each with a line of help; this file only gathers them, so it
cannot go out of step. To read them all, with defaults and help:

    python -m launch.train --helpfull

To change one: `--config.train.learning_rate=0.0005`. Later beats earlier: these defaults, the data set's file
(`configs/<dataset>.py`), the preset's (`configs/paper.py`, `configs/release.py`), what an own file given with
`--config=` sets (see `configs/forkme.py`), `--config.a.b=value`, and the short flags (`--epochs=3`).
"""

from llmesr_jax.training import config


def get_config():
    """All sections: data, semantic, train, ..., and one for each backbone and method, under its file's name."""
    return config.default()

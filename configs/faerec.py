"""FAERec's own setting, for any method: what its tables 2 to 5 compare. Use it with `--config=`:

    python -m launch.train --config=configs/faerec.py --dataset=beauty --method=none,llminit,rlmrec_con,llmesr,faerec

The method `faerec` has this setting on beauty, grocery and yelp by default (`configs/beauty.py`); with this file, other
methods have it too, on any data set. `FOR` has what differs in FAERec's logs: values for the plain backbone ("Base"),
and first monitored epochs of single data sets.
"""

from typing import Any

import llmesr_jax

SASREC = {"sasrec.form": "faerec", "sasrec.heads": 2, "sasrec.dropout": 0.4}
TRAINING = {
    "data.max_len": 50,
    "data.batch_size": 256,
    "train.epochs": 500,
    "train.patience": 10,
    "train.valid_protocol": "full",
    "train.monitor": "N@20",
    "train.monitor_after": 60,
    "train.validate_unmonitored": False,
}

FIRST_MONITORED = {
    ("faerec", "sasrec", "yelp"): {"train.monitor_after": 50},
    ("faerec", "lrurec", "yelp"): {"train.monitor_after": 45},
    ("faerec", "lrurec", "grocery"): {"train.monitor_after": 50},
}


_BASE = {
    "sasrec": (0.5, 200),
    "fmlprec": (0.5, 300),
    "lrurec": (0.4, 100),
}  # dropout, epochs before the first monitored


def _base(method: str, trains_on: bool) -> dict:
    """The settings that FAERec's logs show for "Base", for a method whose item table has nothing from an LLM.

    A method that continues from a trained Base (`trains_on`) is monitored from the first epoch on.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {(method, "*"): {f"{method}.table_start": "normal"}}
    if trains_on:
        found[method, "*"] |= {"start": "@none", "train.monitor_after": 0}
    for backbone, (dropout, before) in _BASE.items():
        found[method, backbone] = {f"{backbone}.dropout": dropout}
        if not trains_on:
            found[method, backbone] |= {"train.monitor_after": before}
    return found


_PLAIN = {"none": False, "rlmrec_con": False, "rlmrec_gen": False, "cities": True, "melt": True, "loam": False}
FOR = {key: value for method, on in _PLAIN.items() for key, value in _base(method, on).items()} | FIRST_MONITORED


def get_config():
    config = llmesr_jax.default_settings()
    config.update_from_flattened_dict({**TRAINING, **SASREC, "loss.ranking": "bce"})
    return config

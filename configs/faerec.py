"""FAERec's own setting, for any method: what its tables 2 to 5 compare. Use it with `--config=`:

    python -m launch.train --config=configs/faerec.py --dataset=beauty --method=none,llminit,rlmrec_con,llmesr,faerec

The method `faerec` has this setting on beauty, grocery and yelp without being told (`configs/beauty.py`); this file
gives it to the others too, and on any data set.
"""

import llmesr_jax

SASREC = {"sasrec.form": "faerec", "sasrec.heads": 2, "sasrec.dropout": 0.4}
TRAINING = {
    "data.max_len": 50,
    "data.batch_size": 256,
    "train.epochs": 500,
    "train.patience": 10,
    "train.valid_protocol": "full",
    "train.monitor": "N@20",
    "train.monitor_after": 60,  # 50 on yelp
    "train.validate_unmonitored": False,
}


def get_config():
    config = llmesr_jax.default_settings()
    config.update_from_flattened_dict({**TRAINING, **SASREC, "loss.ranking": "bce"})
    return config

"""Preset `best`: the settings to use on any data: FAERec's two views under a softmax over many shared negatives, with
cosine scores, and a running average of the parameters. Chosen on validation data; `docs/best.md` has the trials.

    python -m launch.train --dataset=demo --preset=best

With `--method=`, another method has the same loss, average and stopping rule.
"""

from . import paper

OVERRIDES = {
    **paper.OVERRIDES,
    "method": "faerec",
    "backbone": "sasrec",
    "loss.ranking": "sampled_softmax",
    "loss.score": "cosine",
    "loss.temperature": 0.07,
    "data.negatives": "uniform",
    "data.num_negatives": 1024,
    "data.max_len": 50,
    "data.batch_size": 128,
    "train.average": 0.999,
    "train.epochs": 200,
    "train.patience": 6,
    "train.valid_protocol": "full",
    "train.monitor": "N@10",
    "train.monitor_after": 0,
    "train.validate_unmonitored": True,
    "faerec.width": 128,
    "llmesr.width": 128,  # of each of two views
    "llminit.width": 256,
    "rlmrec_con.width": 256,  # as of `none`, from which it differs only by a term of the loss
    "rlmrec_gen.width": 256,
    "loam.width": 256,
    "cities.width": 256,
    "melt.width": 256,
    "none.width": 256,
    "faerec.period": 30.0,
    "faerec.w_min": 0.9,
}
FOR = {
    ("cities", "*"): {"train.learning_rate": 1e-4},
    ("faerec", "sasrec"): {"sasrec.form": "faerec", "sasrec.heads": 2, "sasrec.dropout": 0.4},
}

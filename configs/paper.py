"""Preset `paper` (the default): what the papers describe. No position sees its own target, and padding affects nothing.
`docs/methods.md` has a table, "Paper against release".

    python -m launch.train --dataset=demo --preset=paper
"""

from .faerec import SASREC

OVERRIDES = {
    "gru4rec.through_padding": False,
    "data.teacher_input": "whole",
    "data.avoid": "training",
    "data.single_item_students": False,
    "loss.ranking": "bpr",
    "train.seen_items": "hidden",
    "sasrec.causal": True,
    "sasrec.mask_padding": True,
    "bert4rec.mask_padding": True,
    "bert4rec.dropout": 0.6,
    "fmlprec.supervision": "last",
    "fmlprec.through_padding": False,
    "llmesr.cross_heads": 1,
    "llmesr.cross_causal": True,
    "llmesr.cross_output": False,
    "llmesr.second_pass": False,
    "llmesr.teacher_dropout": False,
    "faerec.training_scores": "fused",
    "loam.similarity": "cosine",
    "cities.positions": "usual",
    "melt.renew_from": 1,
    "melt.square_weights": False,
}
FOR = {
    ("cities", "*"): {"train.learning_rate": 1e-4},
    ("faerec", "*"): {"loss.ranking": "bce"},
    ("faerec", "sasrec"): SASREC,
}

"""Preset `release`: what the authors' published code computes, including its deviations from the paper. Padding affects
results there, so GRU4Rec and FMLP-Rec run padded, and slower. Head, tail and groups remain as in `docs/protocol.md`.

    python -m launch.train --dataset=demo --preset=release
"""

from .faerec import SASREC

OVERRIDES = {
    "gru4rec.through_padding": True,
    "data.teacher_input": "input",
    "data.single_item_students": True,
    "loss.ranking": "bce",
    "sasrec.causal": False,
    "sasrec.mask_padding": False,
    "bert4rec.mask_padding": False,
    "bert4rec.dropout": 0.5,
    "fmlprec.supervision": "every",
    "fmlprec.through_padding": True,
    "llmesr.cross_heads": 2,
    "llmesr.cross_causal": False,
    "llmesr.cross_output": True,
    "llmesr.second_pass": True,
    "llmesr.teacher_dropout": True,
    "loam.similarity": "dot",
    "cities.positions": "release",
    "melt.renew_from": 0,
    "melt.square_weights": True,
}
FOR = {
    ("cities", "*"): {"train.learning_rate": 1e-4},
    # FAERec's release has other deviations.
    ("faerec", "*"): {
        "data.avoid": "history",
        "data.single_item_students": False,
        "train.seen_items": "zero",
        "faerec.training_scores": "id",
    },
    ("faerec", "sasrec"): {**SASREC, "sasrec.causal": True, "sasrec.mask_padding": True},
}

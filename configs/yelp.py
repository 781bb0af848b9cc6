"""Yelp, as in LLM-ESR and FAERec: 15,720 users, 11,383 items, 12.2 interactions a user.

python -m launch.prepare --dataset=yelp --raw_dir=path/to/yelp
python -m launch.train --dataset=yelp

OVERRIDES is LLM-ESR's setting, FOR is FAERec's: its length, batch and early stopping, and the curriculum by backbone.
"""

from .faerec import FIRST_MONITORED, TRAINING

OVERRIDES = {"data.max_len": 200}
FOR = {
    ("rlmrec_gen", "*"): {  # as RLMRec's release on Yelp
        "rlmrec_gen.hidden_share": 0.05,
        "rlmrec_gen.weight": 0.01,
        "rlmrec_gen.temperature": 0.1,
    },
    ("faerec", "*"): TRAINING,
    **FIRST_MONITORED,
    ("faerec", "sasrec"): {"faerec.period": 25.0, "faerec.w_min": 0.3},
    ("faerec", "fmlprec"): {"faerec.period": 30.0, "faerec.w_min": 0.3, "faerec.beta": 0.1},
    ("faerec", "lrurec"): {"faerec.period": 15.0, "faerec.w_min": 0.3},
}

"""Amazon Grocery and Gourmet Food (2014), as in FAERec: 32,126 users, 39,264 items, 8.6 interactions a user.

python -m launch.prepare --dataset=grocery --download
python -m launch.train --dataset=grocery

OVERRIDES is LLM-ESR's setting, FOR is FAERec's: its length, batch and early stopping, and the curriculum by backbone.
"""

from .faerec import FIRST_MONITORED, TRAINING

OVERRIDES = {"data.max_len": 200}
FOR = {
    ("melt", "*"): {"melt.item_weight": 0.3},
    ("melt", "fmlprec"): {"melt.user_weight": 0.2, "melt.item_weight": 0.2, "melt.curriculum_epochs": 200},
    ("faerec", "*"): TRAINING,
    **FIRST_MONITORED,
    ("faerec", "sasrec"): {"faerec.period": 20.0, "faerec.w_min": 0.7},
    ("faerec", "fmlprec"): {"faerec.period": 30.0, "faerec.w_min": 0.3},
    ("faerec", "lrurec"): {"faerec.period": 25.0, "faerec.w_min": 0.3},
}

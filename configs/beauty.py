"""Amazon Beauty (2014), as in LLM-ESR and FAERec: 52,204 users, 57,289 items, 7.6 interactions a user.

python -m launch.prepare --dataset=beauty --download
python -m launch.train --dataset=beauty

OVERRIDES is LLM-ESR's setting, FOR is FAERec's: its length, batch and early stopping, and the curriculum by backbone.
"""

from .faerec import TRAINING

OVERRIDES = {"data.max_len": 200}
FOR = {
    ("melt", "fmlprec"): {"melt.user_weight": 0.2, "melt.item_weight": 0.1, "melt.curriculum_epochs": 200},
    ("faerec", "*"): TRAINING,
    ("faerec", "sasrec"): {"faerec.period": 30.0, "faerec.w_min": 0.9},
    ("faerec", "fmlprec"): {"faerec.period": 30.0, "faerec.w_min": 0.7},
    ("faerec", "lrurec"): {"faerec.period": 15.0, "faerec.w_min": 0.9},
}

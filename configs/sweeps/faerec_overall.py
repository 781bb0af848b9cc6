"""FAERec's tables 2 and 5: three backbones, all methods in FAERec's setting. Table 5 is `coverage` in results.json.

python -m launch.sweep --sweep=faerec_overall --dataset=beauty
"""

from ..faerec import SASREC, TRAINING

BASE = {**TRAINING, **SASREC, "loss.ranking": "bce", "seeds": "42,43,44"}
GRIDS = [
    {
        "backbone": ["sasrec", "fmlprec", "lrurec"],
        "method": ["none", "llminit", "rlmrec_con", "llmesr", "faerec"],
    }
]

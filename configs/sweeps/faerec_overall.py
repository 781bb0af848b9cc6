"""FAERec's tables 2 and 5: three backbones, all methods in FAERec's setting. Table 5 is `coverage` in results.json.

python -m launch.sweep --sweep=faerec_overall --dataset=beauty
"""

from .. import faerec

BASE = {**faerec.TRAINING, **faerec.SASREC, "loss.ranking": "bce", "seeds": "42,43,44"}
FOR = faerec.FOR
GRIDS = [
    {
        "backbone": ["sasrec", "fmlprec", "lrurec"],
        "method": ["none", "llminit", "rlmrec_con", "rlmrec_gen", "cities", "melt", "loam", "llmesr", "faerec"],
    }
]

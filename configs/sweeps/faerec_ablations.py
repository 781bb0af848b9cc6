"""FAERec's table 3: FAERec without each of its parts, and the plain backbone, on three backbones in its setting.

python -m launch.sweep --sweep=faerec_ablations --dataset=beauty
"""

from .. import faerec

BASE = {**faerec.TRAINING, **faerec.SASREC, "loss.ranking": "bce", "seeds": "42,43,44"}
FOR = faerec.FOR
GRIDS = [
    {
        "backbone": ["sasrec", "fmlprec", "lrurec"],
        "variant": {
            "faerec": {"method": "faerec"},
            "wo-AGF": {"method": "faerec", "faerec.gate": False},
            "wo-AGF-mean": {"method": "faerec", "faerec.gate": False, "faerec.without_gate": "mean"},
            "wo-ILA": {"method": "faerec", "faerec.item_alignment": False},
            "wo-FLA": {"method": "faerec", "faerec.feature_alignment": False},
            "wo-CLS": {"method": "faerec", "faerec.curriculum": False},
            "wo-PG": {"method": "faerec", "faerec.popularity_groups": False},
            "base": {"method": "none"},
        },
    }
]

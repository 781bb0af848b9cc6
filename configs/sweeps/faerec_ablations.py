"""FAERec's table 3: FAERec without each of its parts, and the plain backbone, on three backbones in its setting.

python -m launch.sweep --sweep=faerec_ablations --dataset=beauty
"""

from ..faerec import SASREC, TRAINING

BASE = {**TRAINING, **SASREC, "loss.ranking": "bce", "seeds": "42,43,44"}
GRIDS = [
    {
        "backbone": ["sasrec", "fmlprec", "lrurec"],
        "variant": {
            "faerec": {"method": "faerec"},
            "wo-AGF": {"method": "faerec", "faerec.gate": False},
            "wo-ILA": {"method": "faerec", "faerec.item_alignment": False},
            "wo-FLA": {"method": "faerec", "faerec.feature_alignment": False},
            "wo-CLS": {"method": "faerec", "faerec.curriculum": False},
            "wo-PG": {"method": "faerec", "faerec.popularity_groups": False},
            "base": {"method": "none"},
        },
    }
]

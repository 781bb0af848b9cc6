"""FAERec's table 4: more backbones, plain and under FAERec, in its setting.

python -m launch.sweep --sweep=faerec_backbones --dataset=beauty
"""

from ..faerec import TRAINING

BASE = {**TRAINING, "loss.ranking": "bce", "seeds": "42,43,44"}
GRIDS = [{"backbone": ["narm", "lightsans", "gmlp"], "method": ["none", "faerec"]}]

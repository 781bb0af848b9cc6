"""FAERec's table 4: more backbones, plain and under FAERec, in its setting.

python -m launch.sweep --sweep=faerec_backbones --dataset=beauty
"""

from ..faerec import TRAINING

BASE = {
    **TRAINING,
    "loss.ranking": "bce",
    "narm.supervision": "every",  # it is causal: all prefixes in one pass, as its paper trains
    "seeds": "42,43,44",
}
GRIDS = [{"backbone": ["narm", "lightsans", "gmlp"], "method": ["none", "faerec"]}]

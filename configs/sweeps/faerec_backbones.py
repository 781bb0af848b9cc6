"""FAERec's table 4: more backbones, plain and under FAERec, in its setting.

python -m launch.sweep --sweep=faerec_backbones --dataset=beauty
"""

from .. import faerec

BASE = {
    **faerec.TRAINING,
    "loss.ranking": "bce",
    "narm.supervision": "every",  # it is causal: all prefixes in one pass, as its paper trains
    "seeds": "42,43,44",
}
FOR = faerec.FOR
GRIDS = [{"backbone": ["narm", "lightsans", "gmlp"], "method": ["none", "faerec"]}]

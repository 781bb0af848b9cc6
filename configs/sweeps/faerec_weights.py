"""FAERec's figure 3: the weight of both alignments, beta, and that of the off-diagonal correlations, lambda.

    python -m launch.sweep --sweep=faerec_weights --dataset=beauty

All cells share a program.
"""

from .. import faerec

BASE = {**faerec.TRAINING, **faerec.SASREC, "method": "faerec", "loss.ranking": "bce", "seeds": "42,43,44"}
FOR = faerec.FOR
GRIDS = [
    {"faerec.redundancy": [0.001, 0.005, 0.01, 0.05, 0.1]},
    {"faerec.beta": [0.05, 0.1, 0.2, 0.3, 0.5]},
]

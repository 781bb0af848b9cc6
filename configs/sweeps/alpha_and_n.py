"""LLM-ESR's figure 3: the weight of the distillation, alpha, and the number of similar users, N; three seeds.

    python -m launch.sweep --sweep=alpha_and_n --dataset=yelp

All values of alpha share a program: on an accelerator, they and their seeds are trained together.
"""

BASE = {"method": "llmesr", "seeds": "42,43,44"}
GRIDS = [
    {"llmesr.alpha": [1.0, 0.5, 0.1, 0.05, 0.01]},
    {"llmesr.similar": [2, 6, 10, 14, 18]},
]

"""LLM-ESR's table 1: three backbones, each plain, with CITIES, MELT, RLMRec, LLMInit and with LLM-ESR; three seeds.

    python -m launch.sweep --sweep=overall --dataset=fashion

The paper does not say which form of RLMRec its table shows, so both are here. On the demo, 15 epochs are enough to
distinguish the methods:

    python -m launch.sweep --sweep=overall --dataset=demo --epochs=15
"""

BASE = {"seeds": "42,43,44"}
FOR = {(method, "*"): {"start": "@none"} for method in ("cities", "melt")}
GRIDS = [
    {
        "backbone": ["gru4rec", "bert4rec", "sasrec"],
        "method": ["none", "cities", "melt", "rlmrec_con", "rlmrec_gen", "llminit", "llmesr"],
    }
]

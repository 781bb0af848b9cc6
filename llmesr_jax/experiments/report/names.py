"""The papers' names of methods, backbones and ablations, and the order of their tables."""

from __future__ import annotations

from typing import Any

# In the order of the papers' tables. A method of your own keeps the name of its file, and comes last.
METHODS = {
    "none": "Base",
    "cities": "CITIES",
    "loam": "LOAM",
    "melt": "MELT",
    "rlmrec_con": "RLMRec-Con",
    "rlmrec_gen": "RLMRec-Gen",
    "llminit": "LLMInit",
    "ace": "ACE",
    "alphafuse": "AlphaFuse",
    "llmesr": "LLM-ESR",
    "faerec": "FAERec",
}
BACKBONES = {
    "gru4rec": "GRU4Rec",
    "bert4rec": "BERT4Rec",
    "sasrec": "SASRec",
    "fmlprec": "FMLP-Rec",
    "lrurec": "LRURec",
    "narm": "NARM",
    "lightsans": "LightSANs",
    "gmlp": "gMLP",
    "bsarec": "BSARec",
}
# LLM-ESR's tables 2, 4, 5 and 6, then FAERec's table 3, in their order; the full methods have none of these settings.
VARIANTS = {
    ("llmesr.views", "semantic"): "w/o Co-view",
    ("llmesr.views", "collaborative"): "w/o Se-view",
    ("llmesr.alpha", 0.0): "w/o SD",
    ("llmesr.share", False): "w/o Share",
    ("llmesr.cross_attention", False): "w/o CA",
    ("llmesr.adapter_layers", 1): "1-layer Adapter",
    ("llmesr.collaborative_start", "random"): "Random Init",
    ("semantic.crop", True): "Crop",
    ("semantic.folder", "crop"): "Crop",
    ("llmesr.freeze_semantic", False): "w/o F",
    ("faerec.gate", False): "w/o AGF",
    ("faerec.without_gate", "mean"): "mean of both views",
    ("faerec.item_alignment", False): "w/o ILA",
    ("faerec.feature_alignment", False): "w/o FLA",
    ("faerec.curriculum", False): "w/o CLS",
    ("faerec.popularity_groups", False): "w/o PG",
}
SETTINGS = {"llmesr.similar": "N", "faerec.redundancy": "lambda"}
METRICS = {"N": "NDCG", "H": "hit rate", "MRR": "MRR"}


def method(name: str) -> str:
    """A method's name in the papers; its own name if it is in neither."""
    return METHODS.get(name, name)


def backbone(name: str) -> str:
    """A backbone's name in the papers; its own name if it is in neither."""
    return BACKBONES.get(name, name)


def place(method: str) -> int:
    """The position of a method in the papers' tables."""
    return list(METHODS).index(method) if method in METHODS else len(METHODS)


def variant(key: str, value: Any) -> str:
    """The papers' name for a setting's value; "" if they have none."""
    return VARIANTS.get((key, value), "") if isinstance(value, (str, int, float)) else ""


def variant_place(name: str) -> int:
    """The position of an ablation in the papers' tables; other ablations come last."""
    known = list(VARIANTS.values())
    return known.index(name) if name in known else len(known)


def metric(name: str) -> str:
    """`N@10` in words: NDCG@10."""
    kind, at, cutoff = name.partition("@")
    return f"{METRICS.get(kind, kind)}{at}{cutoff}"

"""Reads a golden file of FAERec's release into our parameters and a batch (see the folder's README)."""

from __future__ import annotations

import functools

import golden_backbones
import jax.numpy as jnp
import numpy as np
from golden_backbones import dense, feedforward, norm
from golden_release import sequences

from llmesr_jax.models import backbones, recommender
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.methods import faerec
from llmesr_jax.models.types import Batch, Sizes

SETTINGS = {  # of a backbone, beside sizes and dropout
    "sasrec": {"form": "faerec"},
    "fmlprec": {"supervision": "every", "through_padding": True},
}


def parts(meta):
    """The method's config, the backbone's, and the sizes that a file's `meta` describes, without dropout."""
    curriculum = meta["curriculum"]
    config = faerec.Config(
        width=meta["hidden_size"],
        beta=meta["alignment_weight"],
        period=float(curriculum["period"]),
        w_min=curriculum["w_min"],
        w_max=curriculum["w_max"],
        temperature=meta["temperature"],
        redundancy=meta["redundancy_weight"],
        training_scores="id",
    )
    cls = backbones.PLUGINS.load(meta["backbone"]).Config
    sizes = {"blocks": meta["num_layers"], "layers": meta["num_layers"], "heads": meta["num_heads"], "dropout": 0.0}
    known = {name: value for name, value in sizes.items() if name in cls.__dataclass_fields__}
    backbone = cls(**known, **SETTINGS.get(meta["backbone"], {}))
    return config, backbone, Sizes(meta["item_num"], meta["max_len"], meta["llm_dim"], normed=True)


def build(meta):
    """The recommender, in the preset `release`."""
    config, backbone, sizes = parts(meta)
    return recommender.build("faerec", config, meta["backbone"], backbone, LossConfig("bce"), sizes)


def method(meta):
    """The same model as a module."""
    config, backbone, sizes = parts(meta)
    make = functools.partial(backbones.PLUGINS.load(meta["backbone"]).Backbone, backbone, sizes)
    return faerec.Method(config, LossConfig("bce"), sizes, make)


class _Lookup:
    """Release name -> float64 or complex array, remembering which names were asked for."""

    def __init__(self, arrays, prefix):
        self.arrays, self.prefix, self.used = arrays, prefix, set()

    def __call__(self, name):
        self.used.add(name)
        return np.asarray(self.arrays[self.prefix + name])


def params(meta, arrays, prefix="param/"):
    """Our parameter tree from the release's arrays (`prefix="grad/"`: the tree of gradients), and the names used."""
    p = _Lookup(arrays, prefix)
    tree = {
        "table": {"items": p("item_embeddings.weight")},
        "mapper": {"inner": dense(p, "llm_mapper.proj1"), "outer": dense(p, "llm_mapper.proj2")},
        "gate": {"inner": dense(p, "gate_network.0"), "outer": dense(p, "gate_network.3")},
        "norm": norm(p, "LayerNorm"),
        "backbone": BACKBONES[meta["backbone"]](p, meta["num_layers"]),
    }
    return tree, p.used


def _sasrec(p, layers):
    blocks = {}
    for i in range(layers):
        theirs = f"item_encoder.layer.{i}"
        three = [dense(p, f"{theirs}.attention.{name}") for name in ("query", "key", "value")]
        blocks[f"attention_{i}"] = {
            "in_kernel": np.concatenate([d["kernel"] for d in three], axis=1),
            "in_bias": np.concatenate([d["bias"] for d in three]),
            "out": dense(p, f"{theirs}.attention.dense"),
        }
        blocks[f"attention_residual_{i}"] = {"norm": norm(p, f"{theirs}.attention.LayerNorm")}
        blocks[f"feedforward_{i}"] = feedforward(p, f"{theirs}.intermediate")
    return {"positions": {"table": p("position_embeddings.weight")}, "transformer": blocks}


BACKBONES = {"sasrec": _sasrec, "fmlprec": golden_backbones.fmlprec, "lrurec": golden_backbones.lrurec}


def tables(meta, arrays):
    """The frozen tables; the popularity of padding is 0 in ours."""
    llm = np.pad(np.asarray(arrays["in/llm_item_embedding"], np.float64), ((1, 1), (0, 0)))
    popularity = arrays["in/item_popularity"].astype(np.int32)
    popularity[0] = 0
    return {
        "item_llm": jnp.asarray(llm),
        "item_pca": jnp.zeros((meta["item_num"] + 2, meta["hidden_size"])),
        "item_popularity": jnp.asarray(popularity),
    }


def batch(arrays):
    """The training step's input."""
    seq, pos, neg = (arrays[f"in/{name}"] for name in ("seq", "pos", "neg"))
    positions = np.where(seq > 0, np.cumsum(seq > 0, axis=1), 0)
    return Batch(
        students=sequences(seq, positions),
        targets_T=jnp.asarray(pos.reshape(-1), jnp.int32),
        negatives_TxK=jnp.asarray(neg.reshape(-1, 1), jnp.int32),
        distils_B=jnp.ones(len(seq), bool),
    )

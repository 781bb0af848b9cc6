"""The encoders of FAERec's golden files: their parameters as ours, and their input (see the folder's README).

`p` is a function from a name in the release to its array, of a parameter or of a gradient.
"""

from __future__ import annotations

import math

import numpy as np


def fmlprec(p, layers):
    """Parameters of `fmlprec.Backbone`."""
    blocks = {"embedding": {"positions": p("position_embeddings.weight")}}
    for i in range(layers):
        theirs = f"item_encoder.layer.{i}"
        blocks[f"blocks_{i}"] = {
            "filter": p(theirs + ".filterlayer.complex_weight")[0],
            "filter_residual": {"norm": norm(p, theirs + ".filterlayer.LayerNorm")},
            "feedforward": feedforward(p, theirs + ".intermediate"),
        }
    return blocks


def lrurec(p, layers):
    """Parameters of `lrurec.Backbone`; the imaginary part of the output's bias has no effect."""
    blocks, both = {}, lambda x: np.stack([x.real, x.imag])
    for i in range(layers):
        theirs = f"lru_blocks.{i}.lru_layer"
        blocks[f"blocks_{i}"] = {
            "recurrence": {
                "logs": p(theirs + ".params_log"),
                "in_kernel": both(p(theirs + ".in_proj.weight").T),
                "in_bias": both(p(theirs + ".in_proj.bias")),
                "out_kernel": both(p(theirs + ".out_proj.weight").T),
                "out_bias": p(theirs + ".out_proj.bias").real,
            },
            "recurrence_residual": {"norm": norm(p, theirs + ".layer_norm")},
            "feedforward": feedforward(p, f"lru_blocks.{i}.feed_forward"),
        }
    return blocks


def dense(p, name):
    return {"kernel": p(name + ".weight").T, "bias": p(name + ".bias")}


def norm(p, name):
    return {"scale": p(name + ".weight"), "bias": p(name + ".bias")}


def feedforward(p, name):
    ours = {"in": dense(p, name + ".dense_1"), "out": dense(p, name + ".dense_2")}
    return {**ours, "out_residual": {"norm": norm(p, name + ".LayerNorm")}}


def encoder_input(arrays):
    """(rows * length, D): the two views of every slot, fused by the gate and normalised, in plain NumPy."""

    def affine(x, name):
        return x @ arrays[f"param/{name}.weight"].T + arrays[f"param/{name}.bias"]

    seq = arrays["in/seq"]
    llm = np.pad(np.asarray(arrays["in/llm_item_embedding"], np.float64), ((1, 1), (0, 0)))[seq]
    by_id = arrays["param/item_embeddings.weight"][seq]
    by_llm = affine(gelu(affine(llm, "llm_mapper.proj1")), "llm_mapper.proj2")
    places = arrays.get("param/position_embeddings.weight", np.zeros((1, 1)))
    by_id, by_llm = by_id + places, by_llm + places
    hidden = gelu(affine(np.concatenate([by_id, by_llm], -1), "gate_network.0"))
    gate = 1 / (1 + np.exp(-affine(hidden, "gate_network.3")))
    x = gate * by_id + (1 - gate) * by_llm
    return layer_norm(x, arrays["param/LayerNorm.weight"], arrays["param/LayerNorm.bias"]).reshape(-1, x.shape[-1])


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def layer_norm(x, scale, bias, epsilon=1e-12):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale + bias

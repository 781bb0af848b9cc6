"""Reads a golden file of LLM-ESR's release into our parameters and a batch (see the folder's README)."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np

from llmesr_jax.models import recommender
from llmesr_jax.models.backbones import bert4rec, gru4rec, sasrec
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.methods import llmesr
from llmesr_jax.models.types import Batch, Sequences, Sizes


def read(path):
    """meta (dict) and the other arrays by key."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return json.loads(str(arrays.pop("meta"))), arrays


def build(meta):
    """The recommender that a file's `meta` describes, in the preset `release`, without dropout."""
    backbone_config = {
        "sasrec": lambda: sasrec.Config(meta["num_layers"], meta["num_heads"], 0.0, False, False),
        "bert4rec": lambda: bert4rec.Config(meta["num_layers"], meta["num_heads"], 0.0, False),
        "gru4rec": lambda: gru4rec.Config(meta["num_layers"], through_padding=True),
    }[meta["backbone"]]()
    config = llmesr.Config(
        width=meta["hidden_size"],
        alpha=meta["alpha"],
        similar=meta["n_similar"],
        cross_attention=meta["use_cross_att"],
        cross_heads=meta["cross_attention_heads"],
        cross_causal=False,
        cross_output=True,
        distillation={"kd": "mse", "cl": "contrastive"}[meta["user_sim_func"]],
        second_pass=True,
        teacher_dropout=True,
        item_regularizer=meta.get("beta", 0.1) if meta.get("item_reg") else 0.0,
        freeze_semantic="llm_item_emb.weight" in meta["frozen"],
    )
    sizes = Sizes(meta["item_num"], meta["max_len"], meta["llm_dim"])
    return recommender.build("llmesr", config, meta["backbone"], backbone_config, LossConfig("bce"), sizes)


def _dense(name):
    return lambda p: {"kernel": p(name + ".weight").T, **({"bias": p(name + ".bias")} if p.has(name + ".bias") else {})}


class _Lookup:
    """Release name -> array, remembering which names were asked for."""

    def __init__(self, arrays, prefix):
        self.arrays, self.prefix, self.used = arrays, prefix, set()

    def has(self, name):
        return self.prefix + name in self.arrays

    def __call__(self, name):
        self.used.add(name)
        return np.asarray(self.arrays[self.prefix + name], np.float64)


def params(meta, arrays, prefix="param/"):
    """Our parameter tree from the release's arrays (`prefix="grad/"`: the tree of gradients), and the names used."""
    p = _Lookup(arrays, prefix)
    norm = lambda name: {"scale": p(name + ".weight"), "bias": p(name + ".bias")}  # noqa: E731
    tree = {
        "table": {"items": p("id_item_emb.weight")},
        "adapter": {
            f"{kind}_{i}": p(f"adapter.{i}.{name}").T
            for i in (0, 1)
            for kind, name in (("kernel", "weight"), ("bias", "bias"))
        },
    }
    if "llm_item_emb.weight" not in meta["frozen"]:
        tree["llm_table"] = {"items": p("llm_item_emb.weight")}
    if meta["use_cross_att"]:
        for ours, theirs in (("cross_collaborative", "llm2id"), ("cross_semantic", "id2llm")):
            names = {"query": "linear_q", "key": "linear_k", "value": "linear_v", "output": "linear_output"}
            tree[ours] = {name: _dense(f"{theirs}.{their}")(p) for name, their in names.items()}
    if meta["backbone"] == "gru4rec":
        tree["backbone"] = {}
        for i in range(meta["num_layers"]):
            tree["backbone"][f"input_kernel_{i}"] = p(f"backbone.gru.weight_ih_l{i}").T
            tree["backbone"][f"recurrent_kernel_{i}"] = p(f"backbone.gru.weight_hh_l{i}").T
        return tree, p.used
    conv = lambda name: {"kernel": p(name + ".weight")[..., 0].T, "bias": p(name + ".bias")}  # noqa: E731
    blocks = {}
    for i in range(meta["num_layers"]):
        attention = f"backbone.attention_layers.{i}"
        blocks[f"block_{i}"] = {
            "attention_norm": norm(f"backbone.attention_layernorms.{i}"),
            "attention": {
                "in_kernel": p(attention + ".in_proj_weight").T,
                "in_bias": p(attention + ".in_proj_bias"),
                "out": _dense(attention + ".out_proj")(p),
            },
            "feedforward_norm": norm(f"backbone.forward_layernorms.{i}"),
            "feedforward": {
                "in": conv(f"backbone.forward_layers.{i}.conv1"),
                "out": conv(f"backbone.forward_layers.{i}.conv2"),
            },
        }
    tree["backbone"] = {
        "positions": {"table": p("pos_emb.weight")[: meta["max_len"] + 2]},
        "transformer": {**blocks, "last_norm": norm("backbone.last_layernorm")},
    }
    return tree, p.used


def sequences(items_RxL, positions_RxL):
    """Left-padded rows as one group."""
    rows, length = items_RxL.shape
    last = np.arange(rows) * length + length - 1
    as_int = lambda x: jnp.asarray(x.reshape(-1), jnp.int32)  # noqa: E731
    return Sequences(as_int(items_RxL), as_int(positions_RxL), as_int(last), ((rows, length),))


def batch(meta, arrays):
    """The training step's input."""
    seq, similar = arrays["in/seq"], arrays["in/sim_seq"]
    rows, length = seq.shape
    if meta["backbone"] == "gru4rec":  # one target a user, at the newest position
        pos, neg = np.zeros_like(seq), np.zeros_like(seq)
        pos[:, -1], neg[:, -1] = arrays["in/pos"], arrays["in/neg"][:, 0]
    else:
        pos, neg = arrays["in/pos"], arrays["in/neg"]
    return Batch(
        students=sequences(seq, arrays["in/positions"]),
        targets_T=jnp.asarray(pos.reshape(-1), jnp.int32),
        negatives_TxK=jnp.asarray(neg.reshape(-1, 1), jnp.int32),
        distils_B=jnp.ones(rows, bool),
        teachers=sequences(similar.reshape(-1, length), arrays["in/sim_positions"].reshape(-1, length)),
        teacher_rows_BxN=jnp.arange(rows * similar.shape[1], dtype=jnp.int32).reshape(rows, -1),
    )


def evaluation(meta, arrays):
    """The prediction's input; BERT4Rec drops the oldest position and appends the mask token."""
    seq, positions = arrays["in/eval_seq"], arrays["in/eval_positions"]
    if meta["backbone"] == "bert4rec":
        seq = np.concatenate([seq[:, 1:], np.full((len(seq), 1), meta["item_num"] + 1)], axis=1)
        positions = np.concatenate([positions[:, 1:], positions[:, -1:] + 1], axis=1)
    return sequences(seq, positions)

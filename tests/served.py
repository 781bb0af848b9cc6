"""Untrained models, ready to answer: what the tests of serving share."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from llmesr_jax.data.corpus import Corpus, from_pairs
from llmesr_jax.models import methods, recommender
from llmesr_jax.serving import live
from llmesr_jax.training import config, experiment, interactions, steps

SMALL = {
    "data.batch_size": 8,
    "data.max_len": 20,
    "data.buckets": 2,
    "none.width": 8,
    "llminit.width": 8,
    "rlmrec_con.width": 8,
    "rlmrec_gen.width": 8,
    "cities.width": 8,
    "melt.width": 8,
    "loam.width": 8,
    "ace.width": 8,
    "alphafuse.width": 8,
    "alphafuse.null_width": 4,
    "llmesr.width": 4,
    "llmesr.similar": 2,
    "faerec.width": 8,
}
ITEMS = 30


def corpus() -> Corpus:
    """Users with 3 to 14 of 30 items; titles in several scripts, prices, brands."""
    plain = tiny.ragged(3, items=ITEMS)
    names = ["tea", "Tee grün", "お茶", "чай", "mug"]
    records = [
        {
            "item_id": i,
            "title": f"{names[i % 5]} {i}",
            "raw_id": f"sku-{i}" if i % 3 else f"商品{i}",
            "brand": ["Acme", "Borg"][i % 2],
            "price": f"${i}.50",
            "tags": ["hot"] if i % 4 else ["hot", "cold"],
        }
        for i in range(1, plain.num_items + 1)
    ]
    users = np.repeat(np.arange(1, plain.num_users + 1), plain.lengths_U)
    return from_pairs("tiny", users, plain.items, item_records=records)


@functools.cache
def trained(method: str = "llmesr", backbone: str = "sasrec", **changes):
    """(experiment, params, tables): parameters that are drawn, so that no two rows are alike."""
    overrides = {**SMALL, "method": method, "backbone": backbone, "dataset": "demo", "semantic.encoder": "tfidf"}
    settings = config.build({**overrides, **{key.replace("__", "."): value for key, value in changes.items()}})
    users_items = corpus()
    needs = recommender.needs(method, config.section(settings, method))
    host = tiny.tables(users_items, needs)
    if needs.own:
        own = methods.PLUGINS.load(method).tables(users_items, config.section(settings, method))
        host |= {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in own.items()}
    if needs.similar:
        host["similar_users"] = host["similar_users"][:, : needs.similar]
    made = experiment.assemble(settings, users_items, host)
    tables = {name: jnp.asarray(x) for name, x in host.items()}
    data = interactions.resident(made.corpus, made.epochs.plan)
    example = steps.example_batch(made.epochs.plan, data, tables)
    params = tiny.drawn_params(made.recommender, tables, example, 5)
    return made, params, {name: x for name, x in tables.items() if name != "item_pca"}


@functools.cache
def model(method: str = "llmesr", backbone: str = "sasrec", **changes):
    """The served model of `trained`; `embeddings_VxF` are those of the tables, or noise."""
    made, params, tables = trained(method, backbone, **changes)
    found = live.of_params(made, params, tables, {"seed": 1})
    noise = np.random.default_rng(2).normal(size=(made.corpus.num_items, tiny.LLM_WIDTH)).astype(np.float32)
    llm = made.tables["item_llm"][1:-1] if "item_llm" in made.tables else noise
    return dataclasses.replace(found, embeddings_VxF=llm)


def run(method: str = "llmesr", backbone: str = "gru4rec", **changes):
    """A run of `trained` that was never in a folder, to be exported."""
    from llmesr_jax.serving.run import Run
    from llmesr_jax.training.progress import Progress

    made, params, _ = trained(method, backbone, **changes)
    stacked = jax.tree.map(lambda x: x[None], params)
    return Run(made, stacked, Progress(epoch=3, steps=0, active=[0], best=[0.5], best_epoch=[2]))


def histories(seed: int, count: int, longest: int = 40) -> list[list[int]]:
    """Random histories of item ids 1..30, of 0 to `longest` items, with repeats."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, ITEMS + 1, rng.integers(0, longest + 1)).tolist() for _ in range(count)]


def plain_users(made, params, tables, ids: list[list[int]]) -> np.ndarray:
    """(n, E): user vectors as evaluation computes them, from a corpus of these histories."""
    from llmesr_jax.ranking import inference

    flat = np.concatenate([np.asarray(h, np.int32) for h in ids])
    lengths = np.array([len(h) for h in ids])
    stand_in = dataclasses.replace(
        made.corpus, items=flat, offsets=np.concatenate([[0], np.cumsum(lengths)]), num_users=len(ids)
    )
    found = inference.histories(
        stand_in, np.arange(len(ids)), lengths, made.epochs.plan.config, made.recommender.supervision
    )
    found = found._replace(user_NxR=jnp.full_like(found.user_NxR, -1))
    return np.asarray(inference.user_vectors(made.recommender, params, tables, found))

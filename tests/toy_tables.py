"""A small corpus's tables: what the tests of tables, of their cache and of mapped ones share."""

import numpy as np

from llmesr_jax.core.axes import TABLES
from llmesr_jax.semantic.mapped import Access
from llmesr_jax.semantic.tables import SemanticConfig, prepare

ALL = frozenset(TABLES)
BUILDERS = ("tables.pca_start", "tables.similar_users", "encoders.tfidf.latent")


def save(corpus, items=None, users=None):
    rng = np.random.default_rng(5)
    item_llm = rng.normal(size=(corpus.num_items, 12)).astype(np.float32) if items is None else items
    user_llm = rng.normal(size=(corpus.num_users, 12)).astype(np.float32) if users is None else users
    np.save(corpus.folder / "item_emb.npy", item_llm)
    np.save(corpus.folder / "user_emb.npy", user_llm)
    return item_llm, user_llm


def tables_of(corpus, needs=ALL, pca_width=4, access=Access(), **settings):
    config = SemanticConfig(**{"num_similar": 7, **settings})
    return prepare(corpus, config, needs=needs, pca_width=pca_width, access=access)


def prepared(corpus, **settings):
    return tables_of(corpus, **settings).arrays


def without_builders(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("computed again")

    for name in BUILDERS:
        monkeypatch.setattr(f"llmesr_jax.semantic.{name}", fail)


def assert_same(got, wanted):
    assert got.keys() == wanted.keys()
    for name, table in wanted.items():
        np.testing.assert_array_equal(got[name], table, strict=True)

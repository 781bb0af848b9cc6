"""What the tests of the service share: the packages that it needs, and small models to serve."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llmesr_jax.serving.catalogue import Catalogue
from llmesr_jax.serving.model import ServedModel
from llmesr_jax.serving.programs import Programs

PACKAGES = ("starlette", "uvicorn", "httptools", "msgspec", "prometheus_client")
ITEMS, WIDTH = 30, 4


def required():
    """Skips the module that calls it, where a package of the extra is absent."""
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"needs {package}, of the extra `serve`")


@jax.jit
def encode(views, ids, lengths):
    """A user is the mean of the items' vectors, the newest counting twice."""
    x_BxLxE = jnp.concatenate(list(views), axis=1)[ids]
    weight_BxL = (jnp.arange(ids.shape[1])[None] < lengths[:, None]).astype(jnp.float32)
    weight_BxL = weight_BxL + (jnp.arange(ids.shape[1])[None] == lengths[:, None] - 1).astype(jnp.float32)
    return jnp.einsum("ble,bl->be", x_BxLxE, weight_BxL) / (lengths[:, None] + 1).astype(jnp.float32)


def model(seed):
    """30 items with titles in several scripts, brands and prices, and vectors by chance."""
    rng = np.random.default_rng(seed)
    views = rng.normal(size=(2, ITEMS + 2, WIDTH)).astype(np.float32)
    names = ["tea", "Tee grün", "お茶", "чай", "mug"]
    numbers = range(1, ITEMS + 1)
    ids = [f"sku-{i}" if i % 3 else f"商品{i}" for i in numbers]
    records = [{"item_id": i, "brand": ["Acme", "Borg"][i % 2], "price": f"${i}.50"} for i in numbers]
    counts = rng.integers(0, 50, ITEMS)
    catalogue = Catalogue(ids, counts, counts < 40, [f"{names[i % 5]} {i}" for i in numbers], records)
    sides = lambda v: np.stack(
        [np.pad(np.asarray(v)[0], ((0, 0), (0, WIDTH))), np.pad(np.asarray(v)[1], ((0, 0), (WIDTH, 0)))]
    )  # noqa: E731
    programs = Programs({16: encode, 20: encode}, sides, ("id", "semantic"), None, 20)
    about = {"method": "llmesr", "backbone": "sasrec", "dataset": "tiny"}
    vectors = np.concatenate(list(views[:, 1:-1]), axis=1)
    embeddings = rng.normal(size=(ITEMS, 5)).astype(np.float16)
    return ServedModel(about, catalogue, programs, jnp.asarray(views), vectors, embeddings)

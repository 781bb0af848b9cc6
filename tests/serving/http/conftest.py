"""A service in this process: two models behind the application, without a port."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

for package in ("starlette", "uvicorn", "httptools", "msgspec", "prometheus_client"):
    pytest.importorskip(package, reason=f"needs {package}, of the extra `serve`")

import httpx
import jax
import jax.numpy as jnp

from llmesr_jax.serving.catalogue import Catalogue
from llmesr_jax.serving.http import app, bundles, endpoints, guard, measures, ready
from llmesr_jax.serving.model import ServedModel
from llmesr_jax.serving.programs import Programs

ITEMS, WIDTH = 30, 4


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


@pytest.fixture(scope="package")
def models():
    """{name: model} of two models over the same items."""
    return {"one": model(1), "two": model(2)}


@pytest.fixture(scope="package")
def service(models):
    loaded = bundles.Bundles.of({name: ready.of(model, name) for name, model in models.items()})
    found = endpoints.Service(loaded, measures.Measures(), deadline=60)
    yield found
    found.close()


@pytest.fixture(scope="package")
def application(service):
    return app.application(service)


@pytest.fixture(scope="package")
def ask(application):
    """ask(*requests, rules=None) -> answers of requests, (method, path, options of httpx), sent at the same time."""

    def ask(*requests, to=application):
        async def all_of_them():
            transport = httpx.ASGITransport(app=to, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await asyncio.gather(*(client.request(one, path, **more) for one, path, more in requests))

        return asyncio.run(all_of_them())

    return ask


@pytest.fixture(scope="package")
def post(ask):
    """post(path, *bodies) -> answers."""
    return lambda path, *bodies, **more: ask(*(("POST", path, {"json": body}) for body in bodies), **more)


@pytest.fixture
def guarded(service):
    """guarded(**rules) -> an application with them."""
    return lambda **rules: app.application(service, guard.Rules(**rules))

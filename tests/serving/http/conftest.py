"""A service in this process: two models behind the application, without a port."""

from __future__ import annotations

import asyncio

import http_service
import httpx
import pytest


@pytest.fixture(scope="package")
def models():
    """{name: model} of two models over the same items."""
    return {"one": http_service.model(1), "two": http_service.model(2)}


@pytest.fixture(scope="package")
def service(models):
    from llmesr_jax.serving.http import bundles, endpoints, measures, ready

    loaded = bundles.Bundles.of({name: ready.of(model, name) for name, model in models.items()})
    found = endpoints.Service(loaded, measures.Measures(), deadline=60)
    yield found
    found.close()


@pytest.fixture(scope="package")
def application(service):
    from llmesr_jax.serving.http import app

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
    from llmesr_jax.serving.http import app, guard

    return lambda **rules: app.application(service, guard.Rules(**rules))

"""The service as an ASGI application: endpoints, their requests and answers."""

from __future__ import annotations

import functools
import logging
import re
import urllib.parse
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving.http import openapi, schema
from llmesr_jax.serving.http.bundles import UnknownBundle
from llmesr_jax.serving.http.endpoints import Service
from llmesr_jax.serving.http.guard import Guard, Rules
from llmesr_jax.serving.http.measures import CONTENT_TYPE
from llmesr_jax.serving.http.worker import Overloaded

_LOG = logging.getLogger(__name__)
_JSON = [("cache-control", "no-store")]
_TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_TYPES["svg"] = "image/svg+xml"
_STATIC = re.compile(r"[a-z]+\.(html|css|js|svg)")
# A client that is still sending when the connection closes does not see the answer. So a body that is a little too long
# is read to its end and dropped.
_MOST_DROPPED = 16 * schema.MOST_BYTES
_encode = msgspec.json.Encoder().encode


class _Problem(Exception):
    """An answer other than the requested one: a status and a message."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}


def _decoder(kind: type) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


async def _body(request: Request) -> bytes:
    """The body of a request.

    Raises:
      _Problem: the body is too long, or its content type is not JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _Problem(415, "the content type is not JSON; expected the header Content-Type: application/json")
    too_long = _Problem(413, f"the body is too long; expected at most {schema.MOST_BYTES:,} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length[:20]) > _MOST_DROPPED:
        raise too_long
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= schema.MOST_BYTES:
            parts.append(part)
        elif size > _MOST_DROPPED:
            raise too_long
        else:
            parts.clear()
    if size > schema.MOST_BYTES:
        raise too_long
    return b"".join(parts)


def _posted(kind: type, answer: Callable[[Any], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    decode = _decoder(kind)

    async def endpoint(request: Request) -> Response:
        return await _said(decode, await _body(request), answer)

    return endpoint


def _got(kind: type, answer: Callable[[Any], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await _said(functools.partial(_of_query, kind), request.scope["query_string"], answer)

    return endpoint


def _of_query(kind: type, query: bytes) -> Any:
    pairs = urllib.parse.parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=20)
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a parameter appears twice; expected each parameter once")
    return msgspec.convert(found, kind, strict=False)


async def _said(decode: Callable[[bytes], Any], given: bytes, answer: Callable[[Any], Awaitable[Any]]) -> Response:
    """The answer as JSON.

    Raises:
      _Problem: the request is wrong, or too many requests are waiting.
    """
    try:
        asked = decode(given)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # a ValueError: Unicode, parameters
        raise _Problem(400, f"the request is not understood: {str(error)[:300]}") from error
    try:
        found = await answer(asked)
    except UnknownBundle as error:
        raise _Problem(404, str(error)) from error
    except InputError as error:
        raise _Problem(400, str(error)) from error
    return Response(_encode(found), media_type="application/json", headers=dict(_JSON))


def application(service: Service, rules: Rules = Rules()) -> Any:
    """The ASGI application of a service, behind a `Guard` with these rules.

    Endpoints: POST /recommend and /explain, GET /similar, /items, /bundles, /health, /metrics, /openapi.json, and the
    pages / and /docs.
    """
    posts = {
        "/recommend": (schema.RecommendRequest, service.recommend),
        "/explain": (schema.ExplainRequest, service.explain),
    }
    gets = {"/similar": (schema.SimilarRequest, service.similar), "/items": (schema.ItemsRequest, service.items)}
    document = _encode(openapi.document())

    async def bundles(_: Request) -> Response:
        return Response(_encode(await service.about()), media_type="application/json", headers=dict(_JSON))

    async def health(_: Request) -> Response:
        return Response(_encode(schema.Health("ok")), media_type="application/json", headers=dict(_JSON))

    async def metrics(_: Request) -> Response:
        served = {name: (model.digest, len(model.catalogue)) for name, model in service.bundles.all().items()}
        waiting = {"lists": service.lists.waiting, "others": service.others.waiting}
        text = service.measures.text(waiting, served, bool(service.bundles.failed))
        return Response(text, headers={"content-type": CONTENT_TYPE, **dict(_JSON)})

    async def described(_: Request) -> Response:
        return Response(document, media_type="application/json")

    routes = [
        *(Route(path, _posted(*of), methods=["POST"]) for path, of in posts.items()),
        *(Route(path, _got(*of)) for path, of in gets.items()),
        Route("/bundles", bundles),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/openapi.json", described),
        Route("/", functools.partial(_file, name="index.html")),
        Route("/docs", functools.partial(_file, name="docs.html")),
        Route("/static/{name}", _file),
    ]
    handlers: dict[Any, Any] = {
        _Problem: _problem,
        Overloaded: _overloaded(service),
        HTTPException: _http,
        Exception: _failed,
    }
    handlers[ClientDisconnect] = _gone
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = False
    return Guard(inner, rules, service.measures, frozenset(route.path for route in routes))


async def _file(request: Request, name: str = "") -> Response:
    name = name or request.path_params["name"]
    if not _STATIC.fullmatch(name) or (text := _content(name)) is None:
        raise _Problem(404, "there is no such page")
    return Response(text, headers={"content-type": _TYPES[name.rpartition(".")[2]], "cache-control": "no-cache"})


@functools.cache
def _content(name: str) -> bytes | None:
    """The content of a static file; the caller has checked the name by `_STATIC`."""
    file = resources.files("llmesr_jax.serving.http").joinpath("static", name)
    return file.read_bytes() if file.is_file() else None


def _answered(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(schema.Problem(message)), status, {**(headers or {}), **dict(_JSON)}, "application/json")


async def _problem(_: Request, error: Any) -> Response:
    return _answered(error.status, str(error), {"connection": "close"} if error.status == 413 else error.headers)


def _overloaded(service: Service) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def overloaded(_: Request, error: Exception) -> Response:
        service.measures.refused.labels("overload").inc()
        return _answered(503, f"overloaded: {error}; try again", {"retry-after": "1"})

    return overloaded


async def _http(_: Request, error: Any) -> Response:
    said = {404: "there is no such page; /docs lists the endpoints"}
    said[405] = "this HTTP method is not allowed here; /docs lists the endpoints"
    return _answered(error.status_code, said.get(error.status_code, error.detail), dict(error.headers or {}))


async def _gone(_: Request, error: Exception) -> Response:
    return _answered(400, "the client closed the connection")


async def _failed(_: Request, error: Exception) -> Response:
    return _answered(500, "the service failed; see its log for the reason")

"""The OpenAPI document, made of the types that check requests."""

from __future__ import annotations

from typing import Any

import msgspec

import llmesr_jax
from llmesr_jax.serving.http import schema

# {path: (method, type of the request, type of the answer)}
_ENDPOINTS: dict[str, tuple[str, Any, Any]] = {
    "/recommend": ("post", schema.RecommendRequest, schema.RecommendAnswer),
    "/explain": ("post", schema.ExplainRequest, schema.ExplainAnswer),
    "/similar": ("get", schema.SimilarRequest, schema.SimilarAnswer),
    "/items": ("get", schema.ItemsRequest, schema.ItemsAnswer),
    "/bundles": ("get", None, schema.BundlesAnswer),
    "/health": ("get", None, schema.Health),
}
_PROBLEMS = {
    "400": "The request is not understood, or cannot be answered.",
    "401": "The bearer token is missing or wrong.",
    "404": "There is no such bundle.",
    "413": "The body is too long.",
    "429": "The client sends too many requests; Retry-After says when to try again.",
    "503": "Too many requests are waiting, or the answer would be too late; Retry-After says when to try again.",
}


def document() -> dict[str, Any]:
    """The document, OpenAPI 3.1, as JSON values."""
    kinds = [kind for _, *both in _ENDPOINTS.values() for kind in both if kind is not None] + [schema.Problem]
    references, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    of = dict(zip(kinds, references, strict=True))
    paths: dict[str, Any] = {
        path: {method: _operation(path, method, takes, gives, of, components)}
        for path, (method, takes, gives) in _ENDPOINTS.items()
    }
    paths["/metrics"] = {
        "get": {
            "operationId": "metrics",
            "summary": "Counters and times for Prometheus.",
            "responses": {"200": {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llmesr-jax",
            "version": llmesr_jax.__version__,
            "description": "Recommendations by history.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _operation(path: str, method: str, takes: Any, gives: Any, of: dict[Any, Any], components: dict[str, Any]) -> Any:
    problem = {"application/json": {"schema": of[schema.Problem]}}
    found: dict[str, Any] = {
        "operationId": path.strip("/"),
        "summary": ((takes or gives).__doc__ or "").strip().split("\n")[0],
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": {"schema": of[gives]}}},
            **{status: {"description": said, "content": problem} for status, said in _PROBLEMS.items()},
        },
    }
    if takes is not None and method == "post":
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": of[takes]}}}
    elif takes is not None:
        fields = components[takes.__name__]
        found["parameters"] = [
            {"name": name, "in": "query", "required": name in fields.get("required", ()), "schema": one}
            for name, one in fields["properties"].items()
        ]
    return found

"""The OpenAPI 3.1 document, made from the routes that route and the structs that decode and encode."""

from collections.abc import Sequence
from typing import Any

import msgspec

from email_gateway import __version__
from email_gateway.api.access import OPERATORS
from email_gateway.api.problems import STATUSES, Problem
from email_gateway.api.routing import Access, Route

REFERENCE = "#/components/schemas/{name}"
SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    Access.PUBLIC: [],
    Access.SENDING: [{"bearer": []}, {"apiKey": []}],
    Access.FULL: [{"bearer": []}, {"apiKey": []}],
    Access.ADMIN: [{"adminKey": []}],
    Access.PROBE: [{"adminKey": []}],
    Access.ROTATION: [{"adminKey": []}, {"rotationKey": []}],
}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, `eg_...`."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key, `eg_...`."},
    "adminKey": {"type": "apiKey", "in": "header", "name": "x-admin-key", "description": "The admin key."},
    "rotationKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-rotation-key",
        "description": "The rotation function's key.",
    },
}
TITLES = {status: title for _, status, title in STATUSES}


def build_document(routes: Sequence[Route]) -> bytes:
    """Return the document as JSON."""
    kinds = [kind for route in routes for kind in (route.body, route.answer) if kind not in (None, str, dict)]
    references, schemas = msgspec.json.schema_components([*kinds, Problem], ref_template=REFERENCE)
    by_kind = {repr(kind): reference for kind, reference in zip([*kinds, Problem], references, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Email Gateway",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Send transactional mail that carries personal data; nothing personal is stored in clear.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": SCHEMES},
    }
    return msgspec.json.encode(document)


def _operation(route: Route, by_kind: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "description": (route.handler.__doc__ or "").strip().partition("\n\n")[0],
        "security": SECURITY[route.access],
        "responses": _responses(route, by_kind),
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.is_body_optional,
            "content": {"application/json": {"schema": by_kind[repr(route.body)]}},
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.path_parameters
    ]
    return in_path + [
        {"name": one.name, "in": one.place, "description": one.description, "schema": one.schema}
        for one in route.parameters
    ]


def _responses(route: Route, by_kind: dict[str, Any]) -> dict[str, Any]:
    if route.answer is str:
        content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        schema = {"type": "object"} if route.answer is dict else by_kind[repr(route.answer)]
        content = {"application/json": {"schema": schema}}
    responses: dict[str, Any] = {str(route.status): {"description": "Done", "content": content}}
    if route.path.endswith("/readyz"):
        responses["503"] = {"description": "Mail cannot be accepted", "content": content}
    problem = {"application/json": {"schema": by_kind[repr(Problem)]}}
    for status in _problem_statuses(route):
        responses[str(status)] = {"description": TITLES[status], "content": problem}
    return responses


def _problem_statuses(route: Route) -> list[int]:
    statuses = set()
    if route.access in OPERATORS:
        statuses |= {401, 429, 503}
        statuses |= {409} if route.access is Access.ROTATION else set()
    elif route.access is not Access.PUBLIC:
        statuses |= {401, 403, 429, 503}
    if route.body is not None:
        statuses |= {413, 415, 422}
    if route.parameters:
        statuses.add(422)
    if route.path_parameters:
        statuses.add(404)
    if any(one.name == "Idempotency-Key" for one in route.parameters):
        statuses.add(409)
    return sorted(statuses)

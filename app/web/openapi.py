"""The OpenAPI document, completed by what FastAPI cannot derive from the routes.

Errors are problem+json and not FastAPI's own schema, most operations require a token, and a
`format` parameter changes the media type of the response. tests/app/web/test_openapi.py checks
the application against the document.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from app.auth.permissions import match
from app.web.problems import PROBLEM_JSON

METHODS = ("get", "post", "put", "patch", "delete")
MEDIA = {
    "json": "application/json",
    "csv": "text/csv",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "png": "image/png",
    "svg": "image/svg+xml",
}
PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "An error as an RFC 9457 problem document.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, where, and what to do."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["message"],
                "properties": {
                    "row": {"type": "integer", "description": "Row of the file, counted from 1."},
                    "field": {"type": "string", "description": "Dotted path of the field."},
                    "message": {"type": "string"},
                    "snippet": {"type": "string"},
                },
            },
        },
    },
}

COMMON_PROBLEMS = {
    401: "Missing or invalid access token.",
    403: "The token's role does not permit this, or the request comes from another site.",
    429: "Rate limit exceeded; Retry-After is the number of seconds to wait.",
    503: "The database does not answer; Retry-After is the number of seconds to wait.",
}


def install(app: FastAPI) -> None:
    """Replace the application's OpenAPI document by the completed one."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def complete(description: dict[str, Any]) -> dict[str, Any]:
    """Add problem schema, security scheme, error responses and media types, in place."""
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, calls in description["paths"].items():
        for method in METHODS:
            if method in calls:
                _complete_call(path, method, calls[method])
    return description


def _complete_call(path: str, method: str, call: dict[str, Any]) -> None:
    responses = call["responses"]
    for status, why in _problems(path, method, call):
        responses[str(status)] = {
            "description": why,
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    if match(method.upper(), path).rule.role is None:
        for refusal in ("401", "403"):
            responses.pop(refusal)
    else:
        call["security"] = [{"token": []}]
    for parameter in call.get("parameters", []):
        if parameter["name"] == "format":
            _type_by_format(responses["200"], _choices(parameter["schema"]))
    if path.endswith("/events"):
        responses["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}


def _problems(path: str, method: str, call: dict[str, Any]) -> Iterator[tuple[int, str]]:
    yield from (
        (status, why) for status, why in COMMON_PROBLEMS.items() if _is_undeclared(call, status)
    )
    if call.get("parameters") or call.get("requestBody"):
        yield 422, "Invalid request; `errors` names the fields."
    if "{" in path:
        yield 404, "Resource not found."
    if method != "get" or path.endswith("/weights"):
        yield 409, "Conflict with the current state of the resource."
    if call.get("requestBody"):
        yield 400, "The request body could not be parsed."
        yield 413, "The request body exceeds the size limit."


def _is_undeclared(call: dict[str, Any], status: int) -> bool:
    # GET /healthz declares its own 503.
    return str(status) not in call["responses"]


def _choices(schema: dict[str, Any]) -> list[str]:
    return list(schema.get("enum") or [schema.get("const", "json")])


def _type_by_format(response: dict[str, Any], formats: list[str]) -> None:
    content = response.setdefault("content", {})
    for name in formats:
        content.setdefault(MEDIA[name], {"schema": {"type": "string"}})

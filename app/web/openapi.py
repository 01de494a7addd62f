"""The API's description as OpenAPI, with what the framework cannot know of it.

Errors are problem+json and not the framework's own shape, every call may need a token, and a
`format` parameter changes the type of the answer. tests/app/web/test_openapi.py holds the
application to what is said here.
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
    "description": "What went wrong, as RFC 9457 has it.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong, where, and what to do."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["message"],
                "properties": {
                    "row": {"type": "integer", "description": "In the file, from 1."},
                    "field": {"type": "string", "description": "A dotted path."},
                    "message": {"type": "string"},
                    "snippet": {"type": "string"},
                },
            },
        },
    },
}

EVERYWHERE = {
    401: "No access token, or none that is known, where the server asks for one.",
    403: "The role of the token does not go so far, or the request is another site's.",
    429: "More requests than the server allows; Retry-After says how many seconds to wait.",
    503: "The database does not answer; Retry-After says when to try again.",
}


def install(app: FastAPI) -> None:
    """Complete what the application says of itself."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def complete(description: dict[str, Any]) -> dict[str, Any]:
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
    answers = call["responses"]
    for status, why in _problems(path, method, call):
        answers[str(status)] = {
            "description": why,
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    if match(method.upper(), path).rule.role is None:
        for refusal in ("401", "403"):
            answers.pop(refusal)
    else:
        call["security"] = [{"token": []}]
    for parameter in call.get("parameters", []):
        if parameter["name"] == "format":
            _type_by_format(answers["200"], _choices(parameter["schema"]))
    if path.endswith("/events"):
        answers["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}


def _problems(path: str, method: str, call: dict[str, Any]) -> Iterator[tuple[int, str]]:
    yield from ((status, why) for status, why in EVERYWHERE.items() if _is_free(call, status))
    if call.get("parameters") or call.get("requestBody"):
        yield 422, "Something in the request is not right; `errors` names the fields."
    if "{" in path:
        yield 404, "There is no such thing."
    if method != "get" or path.endswith("/weights"):
        yield 409, "Not possible in the present state of the thing."
    if call.get("requestBody"):
        yield 400, "The body could not be read."
        yield 413, "The body is larger than the server accepts."


def _is_free(call: dict[str, Any], status: int) -> bool:
    # GET /healthz says itself what its 503 is.
    return str(status) not in call["responses"]


def _choices(schema: dict[str, Any]) -> list[str]:
    return list(schema.get("enum") or [schema.get("const", "json")])


def _type_by_format(answer: dict[str, Any], formats: list[str]) -> None:
    content = answer.setdefault("content", {})
    for name in formats:
        content.setdefault(MEDIA[name], {"schema": {"type": "string"}})

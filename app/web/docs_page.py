"""GET /docs: the API reference as a static page, rendered from the OpenAPI document."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

METHODS = ("get", "post", "put", "patch", "delete")


@router.get("/docs", response_class=HTMLResponse)
def show_docs(request: Request) -> Response:
    openapi = request.app.openapi()
    page: Response = request.app.state.templates.TemplateResponse(
        request,
        "apidocs.html",
        {
            "title": openapi["info"]["title"],
            "version": openapi["info"]["version"],
            "openapi_url": request.app.openapi_url,
            "operations": operations(openapi),
            "schemas": openapi.get("components", {}).get("schemas", {}),
        },
    )
    return page


def operations(openapi: dict[str, Any]) -> list[dict[str, Any]]:
    """Every operation, sorted by path: {method, path, summary, description, parameters, body}."""
    return [
        {
            "method": method.upper(),
            "path": path,
            "summary": call.get("summary", ""),
            "description": call.get("description", ""),
            "parameters": call.get("parameters", []),
            "body": _body_schema(call),
        }
        for path, calls in sorted(openapi["paths"].items())
        for method, call in calls.items()
        if method in METHODS
    ]


def _body_schema(call: dict[str, Any]) -> str:
    """Name of the request body's schema; empty without a body."""
    for content in call.get("requestBody", {}).get("content", {}).values():
        return str(content["schema"].get("$ref", "")).rsplit("/", 1)[-1]
    return ""

"""Two routes of one path and method: one for JSON bodies, the other for forms."""

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope


class JsonRoute(APIRoute):
    """Matches requests whose body is JSON only; to be added before the route for the others.

    OpenAPI describes a path and method once: the route for forms adds this one's body there.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        kind = Headers(scope=scope).get("content-type", "") if scope["type"] == "http" else ""
        if kind.split(";")[0].strip().lower() != "application/json":
            return Match.NONE, {}
        return match, child_scope

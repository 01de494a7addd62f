"""What can go wrong in a way that a user should be told, and how it is told.

    ChesboardError
    ├── InvalidInputError     422  the request cannot be carried out as it was put
    ├── UnauthorizedError     401  the access token is missing or wrong
    ├── ForbiddenError        403  another site's page, or a Host that is not ours
    ├── NotFoundError         404  no such dataset, run, pair, page
    ├── ConflictError         409  not in the present state of the thing
    ├── TooLargeError         413  larger than the settings allow
    ├── TooOftenError         429  more requests, or wrong tokens, than one address may send
    └── UnavailableError      503  the database or the broker is away

Raise one anywhere below a route. One handler turns every failure, these and the framework's,
into `application/problem+json` (RFC 9457), or into a page where a browser asked for one. A
message says what was wrong, where (row, field, run), and what to do next.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy import exc as sql
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chesboard.formats.errors import ErrorItem as ErrorItem  # the same items in every answer
from chesboard.formats.errors import FileTooLargeError, FormatError

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
DATABASE_AWAY = "The database does not answer. What is stored is safe; try again in a moment."
NOT_MIGRATED = "The database lacks Chesboard's tables. Run `chesboard migrate`, then try again."

UNEXPECTED = "The server failed in a way it did not expect. Its log has the details."


class ChesboardError(Exception):
    """A failure that is explained to the user. Subclasses fix the status and the title."""

    status = 500
    title = "Something went wrong"

    def __init__(self, detail: str, errors: Sequence[ErrorItem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers: dict[str, str] = {}
        self.members: dict[str, Any] = {}
        """What else a program is told (RFC 9457, 3.2): values that JSON can hold."""


class InvalidInputError(ChesboardError):
    status = 422
    title = "That input cannot be used"


class UnauthorizedError(ChesboardError):
    status = 401
    title = "Access token needed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {"WWW-Authenticate": "Bearer"}


class ForbiddenError(ChesboardError):
    status = 403
    title = "Not allowed"


class NotFoundError(ChesboardError):
    status = 404
    title = "Not found"


class ConflictError(ChesboardError):
    """`members`: what is there instead, so that a page can show it without asking again."""

    status = 409
    title = "Not possible at the moment"

    def __init__(self, detail: str, errors: Sequence[ErrorItem] = (), **members: Any) -> None:
        super().__init__(detail, errors)
        self.members = members


class TooLargeError(ChesboardError):
    status = 413
    title = "Too large"


class TooOftenError(ChesboardError):
    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, wait_seconds: float) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(max(1, math.ceil(wait_seconds)))}


class UnavailableError(ChesboardError):
    status = 503
    title = "Temporarily unavailable"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": "2"}


class _HTTPError(ChesboardError):
    """One of the framework's own errors: no such address, no such method."""

    def __init__(self, error: HTTPException) -> None:
        super().__init__(str(error.detail))
        self.status = error.status_code
        self.title = HTTPStatus(error.status_code).phrase
        self.headers = dict(error.headers or {})


def field_errors(
    error: RequestValidationError | ValidationError, *, prefix: str = ""
) -> list[ErrorItem]:
    """Pydantic's findings with dotted field names: `{field: "config.beta", message: ...}`.

    prefix: the path that the validated value has in the request, for example "config".
    """
    return [_field_error(found, prefix) for found in error.errors()]


def _field_error(found: Mapping[str, Any], prefix: str) -> ErrorItem:
    # JSON that cannot be parsed is located by a character offset, which is no field.
    path = [] if found["type"] == "json_invalid" else list(found["loc"])
    if path and path[0] in ("body", "query", "path", "header", "cookie"):
        path = path[1:]
    field = ".".join([prefix, *map(str, path)] if prefix else map(str, path))
    message = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "json_invalid":
        message = f"The body is not JSON: {found.get('ctx', {}).get('error', message)}"
    return {"field": field, "message": message} if field else {"message": message}


def wants_page(request: Request) -> bool:
    """True for a browser that navigates; False for the API and for programs."""
    accepts = request.headers.get("accept", "")
    return not request.url.path.startswith("/api/") and "text/html" in accepts


def problem(error: ChesboardError) -> dict[str, Any]:
    """The error as RFC 9457 spells it."""
    return {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "errors": error.errors,
        **error.members,
    }


def respond(request: Request, error: ChesboardError) -> Response:
    """The one answer for every failure: a page for a browser, problem+json for the rest."""
    if wants_page(request):
        page: Response = request.app.state.templates.TemplateResponse(
            request,
            "error.html",
            {
                "status": error.status,
                "title": error.title,
                "detail": error.detail,
                "errors": error.errors,
            },
            status_code=error.status,
            headers=error.headers,
        )
        return page
    # ASCII only: a message may quote text that UTF-8 cannot hold (a lone surrogate).
    body = json.dumps(problem(error)).encode("ascii")
    return Response(body, error.status, error.headers, media_type=PROBLEM_JSON)


def explain(error: Exception) -> ChesboardError | None:
    """What is said about an exception; None where it is one that nobody foresaw."""
    match error:
        case ChesboardError():
            return error
        case FileTooLargeError():
            return TooLargeError(str(error), error.items)
        case FormatError():
            return InvalidInputError(str(error), error.items)
        case HTTPException():
            return _HTTPError(error)
        case RequestValidationError():
            return _invalid_request(error)
        case sql.ProgrammingError(orig=psycopg.errors.UndefinedTable()):
            return UnavailableError(NOT_MIGRATED)
        case sql.OperationalError() | sql.TimeoutError() | psycopg.OperationalError():
            # Without the statement: its values are the users' data.
            log.warning("the database does not answer: %s", getattr(error, "orig", error))
            return UnavailableError(DATABASE_AWAY)
    return None


def _invalid_request(error: RequestValidationError) -> InvalidInputError:
    items = field_errors(error)
    if len(items) == 1:
        where = items[0].get("field")
        message = items[0]["message"]
        return InvalidInputError(f"{where}: {message}" if where else message, items)
    return InvalidInputError(f"{len(items)} things in the request are not right.", items)


def install(app: FastAPI) -> None:
    """Answer every exception through `respond`. Needs `app.state.templates`."""

    def handle(request: Request, error: Exception) -> Response:
        explained = explain(error)
        if explained is None:
            raise error
        return respond(request, explained)

    for kind in (
        ChesboardError,
        FormatError,
        HTTPException,
        RequestValidationError,
        sql.DBAPIError,
        sql.TimeoutError,
        psycopg.OperationalError,
    ):
        app.add_exception_handler(kind, handle)
    app.add_middleware(_AnswerUnexpected)


class _AnswerUnexpected:
    """Answers an exception that nobody foresaw, then lets it go on: the server logs it.

    The framework's handler for these sits outside of all middleware, so its answer would lack
    the security headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def notice_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, notice_start)
        except Exception:
            if scope["type"] == "http" and not started:
                # Not quoted: it may hold secrets.
                answer = respond(Request(scope, receive), ChesboardError(UNEXPECTED))
                await answer(scope, receive, send)
            raise

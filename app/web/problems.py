"""Error responses: every exception becomes `application/problem+json` (RFC 9457) or an error page.

The exceptions themselves are in app/core/errors.py.
"""

import errno
import json
import logging
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy import exc as sql
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import (
    ChesboardError,
    InvalidInputError,
    TooLargeError,
    UnavailableError,
    field_errors,
)
from app.core.outages import is_disk_full, is_passing
from app.core.temporary import describe
from chesboard.formats.errors import FileTooLargeError, FormatError

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
DATABASE_DOWN = "The database does not answer. Stored data is safe; try again in a moment."
DISK_FULL = (
    "The disk of the database is full. Nothing of this request was stored, and what was stored "
    "before is safe; free space on it, then try again."
)
NOT_MIGRATED = "The database lacks Chesboard's tables. Run `chesboard migrate`, then try again."
UNEXPECTED = "Unexpected server error. The server log has the details."


class _HTTPError(ChesboardError):
    """One of the framework's own errors: unknown path, method not allowed."""

    def __init__(self, error: HTTPException) -> None:
        super().__init__(str(error.detail))
        self.status = error.status_code
        self.title = HTTPStatus(error.status_code).phrase
        self.headers = dict(error.headers or {})


def wants_page(request: Request) -> bool:
    """True for a browser navigation; False for API paths and programs."""
    accepts = request.headers.get("accept", "")
    return not request.url.path.startswith("/api/") and "text/html" in accepts


def problem(error: ChesboardError) -> dict[str, Any]:
    """The error as an RFC 9457 problem document."""
    return {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "errors": error.errors,
        **error.members,
    }


def respond(request: Request, error: ChesboardError) -> Response:
    """The response to an error: HTML for a browser navigation, problem+json otherwise."""
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
    # ASCII only: a message may quote text that UTF-8 cannot encode (a lone surrogate).
    body = json.dumps(problem(error)).encode("ascii")
    return Response(body, error.status, error.headers, media_type=PROBLEM_JSON)


def explain(error: Exception) -> ChesboardError | None:
    """Map an exception to its user-facing error; None for an unexpected one."""
    match error:
        case ChesboardError():
            return error
        case FileTooLargeError():
            return TooLargeError(str(error), error.items)
        case FormatError():
            return InvalidInputError(str(error), error.items)
        case HTTPException() if isinstance(error.__cause__, OSError):
            # The framework says of any error while it spools a body that the body is broken.
            log.error("a request's body was not stored: %s", error.__cause__)
            return UnavailableError(describe(error.__cause__))
        case HTTPException():
            return _HTTPError(error)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            log.error("a disk is full: %s", error)
            return UnavailableError(describe(error))
        case RequestValidationError():
            return _invalid_request(error)
        case sql.ProgrammingError(orig=psycopg.errors.UndefinedTable()):
            return UnavailableError(NOT_MIGRATED)
        case sql.DBAPIError() if is_disk_full(error):
            log.error("the database's disk is full: %s", error.orig)
            return UnavailableError(DISK_FULL)
        case sql.DBAPIError() if not is_passing(error):
            return None
        case sql.DBAPIError() | sql.TimeoutError() | psycopg.OperationalError():
            # The statement is not logged: its parameters are user data.
            log.warning("the database does not answer: %s", getattr(error, "orig", error))
            return UnavailableError(DATABASE_DOWN)
    return None


def _invalid_request(error: RequestValidationError) -> InvalidInputError:
    items = field_errors(error)
    if len(items) == 1:
        where, message = items[0].get("field"), items[0]["message"]
        return InvalidInputError(f"{where}: {message}" if where else message, items)
    return InvalidInputError(f"The request has {len(items)} invalid fields.", items)


def install(app: FastAPI) -> None:
    """Render every exception through `respond`. Requires `app.state.templates`."""

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
        OSError,
    ):
        app.add_exception_handler(kind, handle)
    app.add_middleware(_UnexpectedErrors)


class _UnexpectedErrors:
    """ASGI middleware: answers an unexpected exception with a 500 and re-raises it for the log.

    The framework's own handler sits outside of all middleware, so its response would lack the
    security headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def track_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, track_start)
        except Exception:
            if scope["type"] == "http" and not started:
                # The exception's text is not quoted: it may hold secrets.
                response = respond(Request(scope, receive), ChesboardError(UNEXPECTED))
                await response(scope, receive, send)
            raise

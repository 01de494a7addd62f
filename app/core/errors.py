"""Exceptions with an explanation for the user and the HTTP status that they map to.

    ChesboardError
    ├── InvalidInputError     422  the request does not validate
    ├── UnauthorizedError     401  the access token is missing or wrong
    ├── ForbiddenError        403  foreign Origin or Host, or a role that does not permit it
    ├── NotFoundError         404  no such dataset, run, pair or page
    ├── ConflictError         409  not possible in the resource's current state
    ├── TooLargeError         413  exceeds a configured size limit
    ├── TooManyRequestsError  429  rate limit of an address exceeded
    └── UnavailableError      503  PostgreSQL or the broker cannot be reached

Raise one anywhere below a route; app/web/problems.py renders it. A message says what was wrong,
where (row, field, run), and what to do next. No web framework is imported here: worker and store
raise these too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from chesboard.formats.errors import ErrorItem as ErrorItem  # the same items in every answer

MOST_FIELD_ERRORS = 100
"""Of a request that are listed; a client's mistake may be one for each of a million items."""
TOO_MANY_ERRORS = "{count} fields or items are invalid, too many to list them"


class ChesboardError(Exception):
    """An error that is explained to the user. Subclasses set the HTTP status and the title."""

    status = 500
    title = "Internal server error"

    def __init__(self, detail: str, errors: Sequence[ErrorItem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers: dict[str, str] = {}
        self.members: dict[str, Any] = {}
        """Extension members of the problem document (RFC 9457, 3.2); JSON-serializable values."""


class InvalidInputError(ChesboardError):
    status = 422
    title = "Invalid input"


class UnauthorizedError(ChesboardError):
    status = 401
    title = "Access token required"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {"WWW-Authenticate": "Bearer"}


class ForbiddenError(ChesboardError):
    status = 403
    title = "Forbidden"


class NotFoundError(ChesboardError):
    status = 404
    title = "Not found"

    def __init__(self, detail: str, errors: Sequence[ErrorItem] = (), **members: Any) -> None:
        super().__init__(detail, errors)
        self.members = members


class ConflictError(ChesboardError):
    """`members`: the current state, so that a page can show it without another request."""

    status = 409
    title = "Conflict"

    def __init__(self, detail: str, errors: Sequence[ErrorItem] = (), **members: Any) -> None:
        super().__init__(detail, errors)
        self.members = members


class TooLargeError(ChesboardError):
    status = 413
    title = "Too large"


class TooManyRequestsError(ChesboardError):
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


class ValidationFailure(Protocol):
    """Pydantic's ValidationError or FastAPI's RequestValidationError."""

    def errors(self) -> Sequence[Any]: ...


def invalid_field(field: str, message: str) -> InvalidInputError:
    """The error of one field of a request, which its message begins with."""
    return InvalidInputError(f"{field}: {message}", [{"field": field, "message": message}])


def field_errors(error: ValidationFailure, *, prefix: str = "") -> list[ErrorItem]:
    """Validation errors with dotted field paths: `{field: "config.beta", message: ...}`. Of more
    than MOST_FIELD_ERRORS only their number.

    prefix: path of the validated value within the request, for example "config".
    """
    if isinstance(error, ValidationError) and error.error_count() > MOST_FIELD_ERRORS:
        message = TOO_MANY_ERRORS.format(count=f"{error.error_count():,}")
        return [{"field": prefix, "message": message} if prefix else {"message": message}]
    return [_field_error(found, prefix) for found in error.errors()]


def _field_error(found: Mapping[str, Any], prefix: str) -> ErrorItem:
    # Malformed JSON is located by a character offset, which is not a field.
    path = [] if found["type"] == "json_invalid" else list(found["loc"])
    if path and path[0] in ("body", "query", "path", "header", "cookie"):
        path = path[1:]
    field = ".".join([prefix, *map(str, path)] if prefix else map(str, path))
    message = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "json_invalid":
        message = f"The body is not JSON: {found.get('ctx', {}).get('error', message)}"
    return {"field": field, "message": message} if field else {"message": message}

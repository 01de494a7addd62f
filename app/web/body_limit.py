"""Limits of request bodies: their size, their time where a stranger sends them, and how many
uploads there may be at a time.

FastAPI's own `max_body_size` does not fit (0.165): where the declared Content-Length exceeds it,
it replaces the application's response by a text/plain one from outside of all middleware, so the
413 would be no problem document and lack the security headers, the request id and its place in the
metrics; and a limit per route is fixed when the module is imported, before the settings are known.
"""

import asyncio
from contextlib import nullcontext

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.authentication import person_of, visitor_of
from app.core.errors import TooManyRequestsError
from app.core.settings import Settings
from app.core.slots import Slots
from app.web.problems import respond

MULTIPART_BYTES = 1 << 20
"""Allowance for the parts of a multipart body besides the file."""
MAX_JSON_BYTES = 16 << 20
MAX_FORM_BYTES = 1 << 14
"""Of what anybody may send: the login form. Nothing of this size is spooled to disk."""

UPLOADS = frozenset({"/api/v1/datasets", "/api/v1/datasets/preview"})


class BodyLimit:
    """ASGI middleware: stops reading a request body as soon as it exceeds its limit.

    The framework would otherwise spool all of an upload to disk before the route is called.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._upload_bytes = settings.max_upload_bytes + MULTIPART_BYTES
        self._uploads = Slots(settings.max_uploads, "uploads")
        self._stranger_seconds = settings.request_timeout.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visitor = visitor_of(Request(scope))
        is_upload = scope["method"] == "POST" and scope["path"] in UPLOADS
        try:
            with self._uploads.hold(person_of(scope)) if is_upload else _NONE:
                limited = _Limited(receive, self._max_bytes(scope, is_upload))
                if visitor is None:
                    limited.until = asyncio.get_running_loop().time() + self._stranger_seconds
                await self.app(scope, limited, send)
        except TooManyRequestsError as error:
            await respond(Request(scope), error)(scope, receive, send)

    def _max_bytes(self, scope: Scope, is_upload: bool) -> int:
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        if is_upload and kind == "multipart/form-data":
            return self._upload_bytes
        is_form = kind in ("multipart/form-data", "application/x-www-form-urlencoded")
        return MAX_FORM_BYTES if is_form or visitor_of(Request(scope)) is None else MAX_JSON_BYTES


_NONE = nullcontext()


class _Limited:
    """The `receive` of a request whose body has a limit."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self.until: float | None = None
        self._receive = receive
        self._max_bytes = max_bytes
        self._seen = 0

    async def __call__(self) -> Message:
        try:
            async with asyncio.timeout_at(self.until):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The request body did not come in time.") from None
        self._seen += len(message.get("body", b""))
        if not message.get("more_body", False):
            self.until = None
        if self._seen > self._max_bytes:
            # An HTTPException, since the framework's body parser turns any other exception
            # into "400 There was an error parsing the body".
            raise HTTPException(413, f"The request body exceeds {self._max_bytes:,} bytes.")
        return message

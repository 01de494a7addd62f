"""Size limit of request bodies: one for uploads, from the settings, and one for everything else.

FastAPI's own `max_body_size` does not fit (0.165): where the declared Content-Length exceeds it,
it replaces the application's response by a text/plain one from outside of all middleware, so the
413 would be no problem document and lack the security headers, the request id and its place in the
metrics; and a limit per route is fixed when the module is imported, before the settings are known.
"""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.settings import Settings

MULTIPART_BYTES = 1 << 20
"""Allowance for the parts of a multipart body besides the file."""

MAX_JSON_BYTES = 16 << 20


class BodyLimit:
    """ASGI middleware: stops reading a request body as soon as it exceeds its limit.

    The framework would otherwise spool all of an upload to disk before the route is called.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_upload_bytes = settings.max_upload_bytes + MULTIPART_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = Headers(scope=scope).get("content-type", "").startswith("multipart/form-data")
        max_bytes = self.max_upload_bytes if is_upload else MAX_JSON_BYTES
        seen = 0

        async def receive_limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > max_bytes:
                # An HTTPException, since the framework's body parser turns any other exception
                # into "400 There was an error parsing the body".
                raise HTTPException(413, f"The request body exceeds {max_bytes:,} bytes.")
            return message

        await self.app(scope, receive_limited, send)

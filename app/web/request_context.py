"""Request ids: each request gets one, which its log lines and its response header carry."""

import re
import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.logging import request_id, run_id

_RUN_PATH = re.compile(r"/(?:api/v1/)?runs/(\d{1,18})(?:/|$)", re.ASCII)


class RequestContext:
    """ASGI middleware: sets the request id, and the run id of the path, for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name = secrets.token_hex(6)
        request_id.set(name)
        if found := _RUN_PATH.match(scope["path"]):
            run_id.set(int(found[1]))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = name
            await send(message)

        await self.app(scope, receive, send_with_id)

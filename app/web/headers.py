"""Security headers of every response, the Content Security Policy first."""

from base64 import b64encode
from hashlib import sha256

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLOTLY_STYLES = (
    # Of a style element that Plotly fills by script, and of the parts of a color bar.
    "",
    # Of a heat map.
    "image-rendering: optimizeSpeed; image-rendering: -moz-crisp-edges; "
    "image-rendering: -o-crisp-edges; image-rendering: -webkit-optimize-contrast; "
    "image-rendering: optimize-contrast; image-rendering: crisp-edges; "
    "image-rendering: pixelated; ",
)
"""The only inline styles that pages may have, allowed by hash. Our own templates have none."""

_ALLOWED_STYLES = " ".join(
    (
        "'unsafe-hashes'",
        *(
            f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
            for style in PLOTLY_STYLES
        ),
    )
)

HEADERS = {
    # Plotly exports its figures through blob URLs.
    "Content-Security-Policy": f"default-src 'self'; style-src 'self' {_ALLOWED_STYLES}; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders:
    """ASGI middleware: adds `HEADERS`, except those that a response sets itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)

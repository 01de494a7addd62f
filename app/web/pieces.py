"""Responses in pieces: what waits in the server for a slow client is one piece of its response."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PIECE_BYTES = 1 << 16
"""As much as asyncio takes for a connection before it says that the client does not keep up."""


class Pieces:
    """ASGI middleware: sends the bytes of a message in pieces.

    Else the server would copy all of them for each client that does not read: of a live page that
    opens, everything its run has recorded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] != "http.response.body" or len(body) <= PIECE_BYTES:
                await send(message)
                return
            for start in range(0, len(body), PIECE_BYTES):
                piece = body[start : start + PIECE_BYTES]
                more = message.get("more_body", False) or start + PIECE_BYTES < len(body)
                await send({**message, "body": piece, "more_body": more})

        await self.app(scope, receive, send_in_pieces)

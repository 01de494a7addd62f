"""Downloads: their media types, file names, and how they are sent, at each client's own pace."""

import logging
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from app.auth.authentication import person_of
from app.core.exports import RowFormat
from app.core.slots import Slots
from app.core.text import STORABLE_PATTERN
from app.store.lookup import MAX_ORDINAL
from app.web.problems import explain
from app.web.spool import Spool

log = logging.getLogger(__name__)

Format = Annotated[
    Literal["json", "csv", "jsonl"],
    Query(
        description="csv and jsonl download all rows that match, one a line, and ignore offset and "
        "limit."
    ),
]
PairParameter = Annotated[
    int | None, Query(ge=0, le=MAX_ORDINAL, description="Only what belongs to this pair.")
]
SearchParameter = Annotated[
    str | None,
    Query(
        max_length=500,
        pattern=STORABLE_PATTERN,
        description="Only answers that contain this text, in upper or lower case.",
    ),
]

PIECE_CHARACTERS = 1 << 13
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "zip": "application/zip",
}


class Download(StreamingResponse):
    """A file to be saved, one of the downloads that the settings allow at a time.

    The pieces are made in a thread of their own and wait for the client in a temporary file, so
    that no transaction waits for it. What is not read from the database needs no such file.
    """

    def __init__(
        self,
        pieces: Iterator[bytes],
        name: str,
        *,
        spooled: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        """name: of the file, with an ending of `MEDIA_TYPES`."""
        self._pieces, self._name, self._spooled = pieces, name, spooled
        super().__init__(
            pieces,
            media_type=MEDIA_TYPES[name.rsplit(".", 1)[1]],
            headers={"Content-Disposition": f'attachment; filename="{name}"', **(headers or {})},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises:
        TooManyRequestsError: too many downloads are under way.
        Exception: whatever the pieces raise before the first of them.
        """
        slots: Slots = scope["app"].state.downloads
        with slots.hold(person_of(scope)):
            if not self._spooled:
                await self._send_all(scope, receive, send)
                return
            async with Spool(self._pieces) as spool:
                self.body_iterator = spool.read()
                await self._send_all(scope, receive, send)

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def track_start(message: Message) -> None:
            nonlocal started
            await send(message)
            started = True

        try:
            await super().__call__(scope, receive, track_start)
        except Exception as error:
            explained = explain(error) if started else None
            if explained is None:
                raise
            # Without its last piece the server cuts the connection: the client sees it incomplete.
            log.error("the download %s was broken off: %s", self._name, explained.detail)


def download(lines: Iterable[str], name: str, format: RowFormat) -> Download:
    """An export as a file. name: of the file, without its ending."""
    return Download(_joined(lines), f"{name}.{format}")


def _joined(lines: Iterable[str]) -> Iterator[bytes]:
    """The same text in pieces of PIECE_CHARACTERS or more, but the first (the header) and the last.

    The first comes before anything is read from the database.
    """
    lines = iter(lines)
    yield next(lines, "").encode()
    piece: list[str] = []
    characters = 0
    for line in lines:
        piece.append(line)
        characters += len(line)
        if characters >= PIECE_CHARACTERS:
            yield "".join(piece).encode()
            piece, characters = [], 0
    yield "".join(piece).encode()

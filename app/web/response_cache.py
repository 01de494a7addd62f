"""Answers about a run, kept until the run goes on.

What a run's page asks for takes tens of milliseconds to make and follows from the run's rows alone,
whose every change moves the run's revision. So an answer is made once a revision, however many
people ask. Where the run goes on faster than answers can be made, those who ask for the same
meanwhile share the next one. Nothing that is told is older than the question.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from anyio import to_thread
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.database import get_engine
from app.store.runs import Run

MOST_BYTES = 64 << 20
LARGEST_BYTES = 4 << 20
"""A larger answer is not kept: one of them would push many others out."""

_PATH = re.compile(
    r"/api/v1/runs/(?P<run>\d{1,18})"
    r"(/metrics|/probes|/probes/bands|/probes/-?\d+(/ledger|/watched|/answers)?)?",
    re.ASCII,
)

T = TypeVar("T")
Key = tuple[str, bytes, bool]
"""Path, query, and whether the answer may be packed."""
Version = tuple[datetime, int]
"""When a run was made, and its revision: another database's run of that number is another run."""


@dataclass(frozen=True, slots=True)
class Kept:
    version: Version | None
    start: Message
    body: bytes


class SingleFlight(Generic[T]):
    """One piece of work that many want: whoever comes while it is done shares the next round.

    So each gets what was begun after they asked, and no two rounds go on at once.
    """

    def __init__(self) -> None:
        self._now: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def join(self, work: Callable[[], Awaitable[T]]) -> T:
        """The outcome of the next round, whose work is that of the first to join it."""
        if self._next is None:
            self._next = asyncio.create_task(self._go(work))
        # Who leaves takes nothing from the others.
        return await asyncio.shield(self._next)

    async def _go(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._now is not None:
            await asyncio.wait([self._now])
        self._now, self._next = self._next, None
        return await work()


class ResponseCache:
    """ASGI middleware. Stands outside of what packs answers, inside of what refuses visitors."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._bytes = 0
        self._looking: WeakValueDictionary[int, SingleFlight[Version | None]] = (
            WeakValueDictionary()
        )
        self._making: WeakValueDictionary[Key, SingleFlight[Kept]] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.fullmatch(scope["path"]) if _may_be_kept(scope) else None
        if found is None:
            await self.app(scope, receive, send)
            return
        packed = "gzip" in Headers(scope=scope).get("accept-encoding", "")
        key = (scope["path"], scope["query_string"], packed)
        kept = await self._answer(key, int(found["run"]), scope, receive)
        await send(kept.start)
        await send({"type": "http.response.body", "body": kept.body})

    async def _answer(self, key: Key, run_id: int, scope: Scope, receive: Receive) -> Kept:
        if kept := self._look(key, await self._version(run_id)):
            return kept

        async def make() -> Kept:
            version = await self._version(run_id)
            # Somebody may have made it in the round before.
            if kept := self._look(key, version):
                return kept
            made = await self._make(version, scope, receive)
            if version is not None and made.start["status"] == 200:
                self._keep(key, made)
            return made

        return await self._making.setdefault(key, SingleFlight()).join(make)

    async def _version(self, run_id: int) -> Version | None:
        async def look() -> Version | None:
            return await to_thread.run_sync(_read_version, run_id)

        return await self._looking.setdefault(run_id, SingleFlight()).join(look)

    def _look(self, key: Key, version: Version | None) -> Kept | None:
        kept = self._kept.get(key)
        if kept is None or kept.version != version:
            return None
        self._kept.move_to_end(key)
        return kept

    async def _make(self, version: Version | None, scope: Scope, receive: Receive) -> Kept:
        start: Message = {}
        parts: list[bytes] = []

        async def take(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self.app(scope, receive, take)
        return Kept(version, start, b"".join(parts))

    def _keep(self, key: Key, kept: Kept) -> None:
        if len(kept.body) > LARGEST_BYTES:
            return
        earlier = self._kept.pop(key, None)
        self._bytes += len(kept.body) - (len(earlier.body) if earlier else 0)
        self._kept[key] = kept
        while self._bytes > MOST_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.body)


def _may_be_kept(scope: Scope) -> bool:
    # A download is streamed, however long it is.
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and b"format=" not in scope["query_string"]
    )


def _read_version(run_id: int) -> Version | None:
    """None where there is no such run, or nobody to say so."""
    query = select(Run.created_at, Run.revision).where(Run.id == run_id)
    try:
        with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            row = connection.execute(query).one_or_none()
    except SQLAlchemyError:
        return None
    return None if row is None else (row.created_at, row.revision)

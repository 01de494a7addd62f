"""Cache of a run's JSON responses, keyed by path, query and encoding, invalidated by its revision.

What a run's page requests takes tens of milliseconds to build and depends on the run's rows alone,
whose every change increments the run's revision. So a response is built once per revision, however
many clients ask. If the revision advances faster than responses are built, concurrent requests
share one build (single-flight). No response predates its request.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import parse_qs
from weakref import WeakValueDictionary

from anyio import to_thread
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.database import get_engine
from app.store.runs import Run

MAX_CACHE_BYTES = 64 << 20
MAX_RESPONSE_BYTES = 4 << 20
"""A larger response is not cached: it would evict many others."""

_PATH = re.compile(
    r"/api/v1/runs/(?P<run>\d{1,18})"
    r"(/metrics|/probes|/probes/bands|/probes/-?\d+(/ledger|/watched|/answers)?)?",
    re.ASCII,
)

T = TypeVar("T")
Key = tuple[str, bytes, bool]
"""Path, query string, and whether the client accepts gzip."""
Version = tuple[datetime, int]
"""A run's creation time and revision: another database may have another run of the same id."""


@dataclass(frozen=True, slots=True)
class CachedResponse:
    version: Version | None
    start: Message
    body: bytes


class SingleFlight(Generic[T]):
    """Single-flight: concurrent callers share one execution.

    A caller that arrives while one is in flight waits for the next, so that no result predates
    its request. No two executions run at the same time.
    """

    def __init__(self) -> None:
        self._current: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def join(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of the next execution, which runs the `work` of the first caller to join."""
        if self._next is None:
            self._next = asyncio.create_task(self._run(work))
        # Shielded: the cancellation of one caller must not cancel the others' result.
        return await asyncio.shield(self._next)

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._current is not None:
            await asyncio.wait([self._current])
        self._current, self._next = self._next, None
        return await work()


class ResponseCache:
    """ASGI middleware: an LRU cache of responses, bounded in bytes.

    Sits outside of the compression, so that compressed bodies are cached, and inside of the
    access control, so that every request is still checked.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._cached: OrderedDict[Key, CachedResponse] = OrderedDict()
        self._bytes = 0
        # Weak: an entry disappears with the last caller that awaits it.
        self._version_reads: WeakValueDictionary[int, SingleFlight[Version | None]] = (
            WeakValueDictionary()
        )
        self._builds: WeakValueDictionary[Key, SingleFlight[CachedResponse]] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.fullmatch(scope["path"]) if _is_cacheable(scope) else None
        if found is None:
            await self.app(scope, receive, send)
            return
        accepts_gzip = "gzip" in Headers(scope=scope).get("accept-encoding", "")
        key = (scope["path"], scope["query_string"], accepts_gzip)
        response = await self._respond(key, int(found["run"]), scope, receive)
        await send(response.start)
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(
        self, key: Key, run_id: int, scope: Scope, receive: Receive
    ) -> CachedResponse:
        if cached := self._find(key, await self._version(run_id)):
            return cached

        async def build() -> CachedResponse:
            version = await self._version(run_id)
            # The execution before this one may have built it.
            if cached := self._find(key, version):
                return cached
            built = await self._build(version, scope, receive)
            if version is not None and built.start["status"] == 200:
                self._store(key, built)
            return built

        return await self._builds.setdefault(key, SingleFlight()).join(build)

    async def _version(self, run_id: int) -> Version | None:
        async def read() -> Version | None:
            return await to_thread.run_sync(_read_version, run_id)

        return await self._version_reads.setdefault(run_id, SingleFlight()).join(read)

    def _find(self, key: Key, version: Version | None) -> CachedResponse | None:
        cached = self._cached.get(key)
        if cached is None or cached.version != version:
            return None
        self._cached.move_to_end(key)
        return cached

    async def _build(
        self, version: Version | None, scope: Scope, receive: Receive
    ) -> CachedResponse:
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self.app(scope, receive, collect)
        return CachedResponse(version, start, b"".join(parts))

    def _store(self, key: Key, response: CachedResponse) -> None:
        if len(response.body) > MAX_RESPONSE_BYTES:
            return
        earlier = self._cached.pop(key, None)
        self._bytes += len(response.body) - (len(earlier.body) if earlier else 0)
        self._cached[key] = response
        while self._bytes > MAX_CACHE_BYTES:
            _, oldest = self._cached.popitem(last=False)
            self._bytes -= len(oldest.body)


def _is_cacheable(scope: Scope) -> bool:
    # A download (`format=`) is streamed, whatever its size.
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and "format" not in parse_qs(scope["query_string"].decode("latin-1"), True)
    )


def _read_version(run_id: int) -> Version | None:
    """None if there is no such run, or the database does not answer."""
    query = select(Run.created_at, Run.revision).where(Run.id == run_id)
    try:
        with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            row = connection.execute(query).one_or_none()
    except SQLAlchemyError:
        return None
    return None if row is None else (row.created_at, row.revision)

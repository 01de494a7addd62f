"""The feed of one run: tails its rows in PostgreSQL once for all clients that watch it."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from weakref import WeakValueDictionary

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from app.core.database import snapshot
from app.runs.schemas import RunOut
from app.streaming import events
from app.streaming.events import Chunk

KEEP_ALIVE_SECONDS = 15.0
POLL_SECONDS = 1.0
"""Polling interval of PostgreSQL while Redis is down, and retry interval while PostgreSQL is."""

SAFETY_POLL_SECONDS = 5.0
"""Polling interval in any case: a wake-up is best effort."""

MAX_CHUNKS = 64
"""Chunks buffered; a watcher that falls further behind reads PostgreSQL itself."""

RETRY = b"retry: 1000\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

log = logging.getLogger(__name__)


class Feed:
    """The tail of one run, shared by all its watchers. Belongs to one event loop.

    `position` is the revision up to which rows have been read; `run` is the run as of the last
    time that all of them had been.
    """

    def __init__(self, run: RunOut, redis_is_up: Callable[[], bool]) -> None:
        self.run = run
        self.position = run.revision
        self.deleted = False
        self.closed = False
        self.database_is_up = True
        self.quiet_since = run.quiet_since
        self.watchers = 0
        self._redis_is_up = redis_is_up
        self._chunks: deque[Chunk] = deque(maxlen=MAX_CHUNKS)
        # Of what was written before the buffered chunks, by start and end.
        self._history: WeakValueDictionary[tuple[int, int], Chunk] = WeakValueDictionary()
        self._reads: dict[tuple[int, int], asyncio.Task[Chunk]] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()

    @property
    def is_over(self) -> bool:
        """No event will follow: the run is deleted, or final and read to its end."""
        return self.deleted or (events.is_final(self.run) and self.position == self.run.revision)

    def wake(self, revision: int) -> None:
        if revision > self.position:
            self._wake.set()

    def close(self) -> None:
        """End the streams of all watchers: the server is shutting down."""
        self.closed = True
        self._notify()

    async def follow(self) -> None:
        """Read new rows on every wake-up and poll, until cancelled."""
        while True:
            seconds = SAFETY_POLL_SECONDS if self._redis_is_up() else POLL_SECONDS
            await _wait(self._wake, seconds)
            self._wake.clear()
            try:
                async with self._reading:
                    await self._refresh()
                self._set_database_state(is_up=True)
            except SQLAlchemyError as error:
                log.warning(
                    "run %s: the database does not answer: %s", self.run.id, _first_line(error)
                )
                self._set_database_state(is_up=False)
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                # A dead feed would leave its watchers with a stream that merely looks silent.
                log.exception("run %s: its feed failed and is retried", self.run.id)
                await asyncio.sleep(POLL_SECONDS)

    async def _refresh(self) -> None:
        now = await to_thread.run_sync(load_run, self.run.id)
        if now is None:
            self.deleted = True
            self._notify()
            return
        if now.quiet_since != self.quiet_since:
            self.quiet_since = now.quiet_since
            self._notify()
        if now.revision <= self.position:
            return
        closing = events.change_event(self.run, now)
        while self.position < now.revision:
            chunk = await to_thread.run_sync(
                _load_rows, self.run.id, self.position, now.revision, closing
            )
            if chunk.end == now.revision:
                self.run = now
            else:
                # A watcher that joins between two chunks has not seen the run's status yet, so a
                # `progress` event would not be enough for it.
                closing = events.status_event(now)
            self.position = chunk.end
            self._chunks.append(chunk)
            self._notify()

    def _set_database_state(self, *, is_up: bool) -> None:
        if is_up != self.database_is_up:
            self.database_is_up = is_up
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch(self, since: int) -> AsyncIterator[bytes]:
        """Encoded events of everything written after revision `since`, as it is written."""
        yield RETRY
        # A position beyond this run's revision is from another database: start from 0.
        position = since if since <= self.position else await self._valid_position(since)
        sent_database_state = True
        sent_quiet_since = None
        while not self.closed:
            changed = self._changed
            if sent_database_state != self.database_is_up:
                sent_database_state = self.database_is_up
                yield events.encode("store", {"answers": sent_database_state})
            elif sent_quiet_since != self.quiet_since:
                sent_quiet_since = self.quiet_since
                if sent_quiet_since is not None:
                    yield events.encode("quiet", {"since": sent_quiet_since.isoformat()})
            elif position < self.position:
                chunk = self._buffered_after(position) or await self._read_after(position)
                if chunk is None:
                    yield KEEP_ALIVE
                    continue
                position = chunk.end
                if chunk.data:
                    yield chunk.data
            elif self.is_over:
                yield self._end()
                return
            elif not await _wait(changed, KEEP_ALIVE_SECONDS):
                yield KEEP_ALIVE

    async def _valid_position(self, since: int) -> int:
        """`since` if the run has reached that revision by now, else 0."""
        with contextlib.suppress(SQLAlchemyError):
            async with self._reading:
                await self._refresh()
        return since if since <= self.position else 0

    def _buffered_after(self, position: int) -> Chunk | None:
        return next((chunk for chunk in self._chunks if chunk.start == position), None)

    async def _read_after(self, position: int) -> Chunk | None:
        """Rows up to the feed's position, where buffered chunks continue; None: retry.

        Read once for all watchers that are at the same place, as are those that open a run
        together, and held once in memory for as long as one of them has not sent it.
        """
        run, upto = self.run, self.position
        if found := self._history.get((position, upto)):
            return found
        reading = self._reads.get((position, upto))
        if reading is None:
            closing = events.status_event(run) if run.revision == upto else None
            reading = asyncio.create_task(self._read_history(position, upto, closing))
            self._reads[position, upto] = reading
            reading.add_done_callback(lambda _: self._reads.pop((position, upto)))
        try:
            # Shielded: the others wait for it, too.
            return await asyncio.shield(reading)
        except SQLAlchemyError as error:
            log.warning("run %s: the database does not answer: %s", run.id, _first_line(error))
            await asyncio.sleep(POLL_SECONDS)
            return None

    async def _read_history(self, start: int, upto: int, closing: bytes | None) -> Chunk:
        chunk = await to_thread.run_sync(_load_rows, self.run.id, start, upto, closing)
        self._history[start, upto] = chunk
        return chunk

    def _end(self) -> bytes:
        reason = "deleted" if self.deleted else "finished"
        return events.encode("end", {"reason": reason, "status": self.run.status})


def load_run(run_id: int) -> RunOut | None:
    """The run as the API returns it; None if it does not exist."""
    with snapshot() as session:
        return events.read_run(session, run_id)


def _load_rows(run_id: int, start: int, upto: int, closing: bytes | None) -> Chunk:
    with snapshot() as session:
        return events.read_rows(session, run_id, start, upto, closing)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]

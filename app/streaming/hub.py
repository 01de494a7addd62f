"""Live streaming of runs: Server-Sent Events whose ids are positions in the store.

    GET /runs/{id}/events
      status    the run, as GET /runs/{id} has it
      progress  {done, total, unit, eta_seconds, phase, verdict, displaced, revision}: where
                nothing else of the run has changed
      metric    one item of GET /runs/{id}/metrics
      probe     {pair, step, ...}: one watched pair at one step, as app/store/probes.py has it
      answer    {pair, step, text, ended}: the model's own greedy answer to a probe's prompt
      store     {answers}: false when the database has stopped answering, so that nothing new can
                come; true when it is back. Has no id: it says nothing of the run
      end       {reason: "finished" or "deleted", status}: nothing more will come. A browser must
                close its EventSource here, or it would come back and be told the same again; it
                opens a new one after it resumed the run.

A page loads the history through the API and passes the `revision` it got as `?since=`; a browser
that reconnects sends Last-Event-ID, which counts more. Either way it gets everything written
after that, in order, and nothing twice. Without either, it gets everything.

Each run that is being watched has one feed, which reads new rows once for all its watchers. It
is woken through Redis; where Redis is away it looks every second, and now and then anyway.
"""

import asyncio
import contextlib
import logging
import re
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Annotated, Any

import redis.asyncio
import redis.exceptions
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Header, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Scope, Send

from app.core.broker import CHANNEL_PREFIX
from app.core.database import transaction
from app.core.errors import NotFoundError
from app.core.settings import get_settings
from app.runs.schemas import RunOut
from app.streaming import events
from app.streaming.events import Chunk

KEEP_ALIVE_SECONDS = 15.0
POLL_SECONDS = 1.0
"""Between looks at the store while Redis is away."""

SAFETY_POLL_SECONDS = 5.0
"""Between looks at the store in any case: a wake-up is best effort."""

CHUNKS_KEPT = 64
"""So far a watcher may fall behind before it reads the store itself."""

_EVENT_ID = re.compile(r"\d{1,18}", re.ASCII)

RETRY = b"retry: 1000\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

log = logging.getLogger(__name__)


class Feed:
    """The tail of one run, shared by all that watch it. Belongs to one event loop.

    `position` is the revision up to which the feed has read; `run` is the run as it was when the
    feed last read all there was.
    """

    def __init__(self, run: RunOut, redis_is_up: Callable[[], bool]) -> None:
        self.run = run
        self.position = run.revision
        self.gone = False
        self.closed = False
        self.store_answers = True
        self.watchers = 0
        self._redis_is_up = redis_is_up
        self._chunks: deque[Chunk] = deque(maxlen=CHUNKS_KEPT)
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._reading = asyncio.Lock()

    @property
    def is_over(self) -> bool:
        """Nothing more will come: the run is gone, or finished and read to its end."""
        return self.gone or (events.is_final(self.run) and self.position == self.run.revision)

    def wake(self, revision: int) -> None:
        if revision > self.position:
            self._wake.set()

    def close(self) -> None:
        """Let every watcher go: the server is shutting down."""
        self.closed = True
        self._tell()

    async def follow(self) -> None:
        """Read what is new whenever there may be something, until cancelled."""
        while True:
            seconds = SAFETY_POLL_SECONDS if self._redis_is_up() else POLL_SECONDS
            await _wait(self._wake, seconds)
            self._wake.clear()
            try:
                async with self._reading:
                    await self._refresh()
                self._note_store(answers=True)
            except SQLAlchemyError as error:
                log.warning("run %s: the store does not answer: %s", self.run.id, _first(error))
                self._note_store(answers=False)
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                # A dead feed would leave its watchers with a stream that looks merely silent.
                log.exception("run %s: its feed failed and tries again", self.run.id)
                await asyncio.sleep(POLL_SECONDS)

    async def _refresh(self) -> None:
        now = await to_thread.run_sync(_load_run, self.run.id)
        if now is None:
            self.gone = True
            self._tell()
            return
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
                # Who joins in the middle of this has not been told the run's status yet.
                closing = events.status_event(now)
            self.position = chunk.end
            self._chunks.append(chunk)
            self._tell()

    def _note_store(self, *, answers: bool) -> None:
        if answers != self.store_answers:
            self.store_answers = answers
            self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def watch(self, since: int) -> AsyncIterator[bytes]:
        """Everything written after revision `since`, as it is written."""
        yield RETRY
        # A position that this store has never reached is another store's: begin anew.
        position = since if since <= self.position else await self._known(since)
        told_that_it_answers = True
        while not self.closed:
            moved = self._moved
            if told_that_it_answers != self.store_answers:
                told_that_it_answers = self.store_answers
                yield events.encode("store", {"answers": told_that_it_answers})
            elif position < self.position:
                chunk = self._kept_after(position) or await self._read_after(position)
                if chunk is None:
                    yield KEEP_ALIVE
                    continue
                position = chunk.end
                if chunk.data:
                    yield chunk.data
            elif self.is_over:
                yield self._end()
                return
            elif not await _wait(moved, KEEP_ALIVE_SECONDS):
                yield KEEP_ALIVE

    async def _known(self, since: int) -> int:
        """`since` where the run has come so far by now, else 0."""
        with contextlib.suppress(SQLAlchemyError):
            async with self._reading:
                await self._refresh()
        return since if since <= self.position else 0

    def _kept_after(self, position: int) -> Chunk | None:
        return next((chunk for chunk in self._chunks if chunk.start == position), None)

    async def _read_after(self, position: int) -> Chunk | None:
        """Up to where the feed is, so that its own chunks go on from there. None: try again."""
        run, upto = self.run, self.position
        closing = events.status_event(run) if run.revision == upto else None
        try:
            return await to_thread.run_sync(_load_rows, run.id, position, upto, closing)
        except SQLAlchemyError as error:
            log.warning("run %s: the store does not answer: %s", run.id, _first(error))
            await asyncio.sleep(POLL_SECONDS)
            return None

    def _end(self) -> bytes:
        reason = "deleted" if self.gone else "finished"
        return events.encode("end", {"reason": reason, "status": self.run.status})


class Hub:
    """The feeds of one process and the one connection that wakes them.

    Everything runs only while someone watches: the last watcher to leave takes it all down.
    """

    def __init__(self) -> None:
        self.feeds: dict[int, Feed] = {}
        self.redis_is_up = False
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._closed = False

    def join(self, run: RunOut) -> Feed:
        """The feed of a run, counted as watched until `leave`."""
        if run.id not in self.feeds:
            self._start(run)
        feed = self.feeds[run.id]
        feed.watchers += 1
        return feed

    def _start(self, run: RunOut) -> None:
        feed = self.feeds[run.id] = Feed(run, lambda: self.redis_is_up)
        feed.closed = self._closed
        self._tasks[run.id] = asyncio.create_task(feed.follow(), name=f"feed of run {run.id}")
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="wake-ups")

    def leave(self, feed: Feed) -> None:
        feed.watchers -= 1
        if feed.watchers:
            return
        del self.feeds[feed.run.id]
        self._tasks.pop(feed.run.id).cancel()
        if not self.feeds and self._listener is not None:
            self._listener.cancel()
            self._listener = None

    def close(self) -> None:
        """End every stream, so that none holds up the server's shutdown."""
        self._closed = True
        for feed in self.feeds.values():
            feed.close()

    async def _listen(self) -> None:
        """Pass wake-ups on; while Redis is away, keep trying and let the feeds poll."""
        # Redis's client may swallow a cancellation, so whoever was replaced also looks and leaves.
        me = asyncio.current_task()
        while self._listener is me:
            try:
                await self._pass_on_wake_ups(me)
            except (redis.exceptions.RedisError, OSError) as error:
                log.info("no wake-ups from Redis, pages poll the store: %s", error)
            finally:
                if self._listener in (me, None):
                    self.redis_is_up = False
            await asyncio.sleep(POLL_SECONDS)

    async def _pass_on_wake_ups(self, me: "asyncio.Task[None] | None") -> None:
        client = redis.asyncio.Redis.from_url(
            get_settings().required_redis_url(), socket_connect_timeout=2, decode_responses=True
        )
        async with client, client.pubsub(ignore_subscribe_messages=True) as subscriber:
            await subscriber.psubscribe(f"{CHANNEL_PREFIX}*")
            if self._listener is not me:
                return
            self.redis_is_up = True
            # What was written while nobody listened brought no wake-up.
            self._wake_all()
            async for message in subscriber.listen():
                if self._listener is not me:
                    return
                self._wake(message)

    def _wake_all(self) -> None:
        for feed in self.feeds.values():
            feed.wake(feed.position + 1)

    def _wake(self, message: dict[str, Any]) -> None:
        run_id = str(message["channel"]).removeprefix(CHANNEL_PREFIX)
        revision = str(message["data"])
        if run_id.isdigit() and revision.isdigit() and (feed := self.feeds.get(int(run_id))):
            feed.wake(int(revision))


def _load_run(run_id: int) -> RunOut | None:
    with transaction() as session:
        return events.read_run(session, run_id)


def _load_rows(run_id: int, start: int, upto: int, closing: bytes | None) -> Chunk:
    with transaction() as session:
        return events.read_rows(session, run_id, start, upto, closing)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]


# --- the route -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Streams end when the server is told to stop; it would wait for them otherwise."""
    app.state.live = hub = Hub()
    loop = asyncio.get_running_loop()
    with _at_exit_signals(lambda: loop.call_soon_threadsafe(hub.close)):
        yield
    hub.close()


@contextlib.contextmanager
def _at_exit_signals(callback: Callable[[], object]) -> Iterator[None]:
    """Call back on SIGINT and SIGTERM, before the handlers that are there do their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        callback()
        before = former[signal.Signals(number)]
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, before)
            signal.raise_signal(number)

    for number in former:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


router = APIRouter(tags=["live"], lifespan=_lifespan)


@router.get(
    "/runs/{run_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-Sent Events"}},
)
async def stream_events(
    request: Request,
    run_id: int,
    since: Annotated[
        int, Query(ge=0, description="The revision that the page has loaded already.")
    ] = 0,
    last_event_id: Annotated[
        str | None, Header(description="Sent by a browser that reconnects; counts before `since`.")
    ] = None,
) -> StreamingResponse:
    """What a run writes, as it writes it: events `status`, `progress`, `metric`, `probe`,
    `answer`, `store`, `end`.

    The id of an event is the run's revision. A client must close the stream at `end`.
    """
    run = await to_thread.run_sync(_load_run, run_id)
    if run is None:
        raise NotFoundError(f"There is no run {run_id}.")
    if last_event_id is not None and _EVENT_ID.fullmatch(last_event_id):
        since = int(last_event_id)
    return _EventStream(request.app.state.live, run, since)


class _EventStream(StreamingResponse):
    """Watches a run for as long as it is being sent, however that ends."""

    def __init__(self, hub: Hub, run: RunOut, since: int) -> None:
        self._hub, self._run, self._since = hub, run, since
        super().__init__(
            (),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feed = self._hub.join(self._run)
        self.body_iterator = feed.watch(self._since)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.leave(feed)

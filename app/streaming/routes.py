"""The event stream of a run: Server-Sent Events whose ids are the run's revisions.

    GET /runs/{id}/events
      status    the run, as in GET /runs/{id}
      progress  {done, total, unit, eta_seconds, phase, verdict, displaced, revision}: if nothing
                else of the run changed
      metric    one item of GET /runs/{id}/metrics
      probe     {pair, step, ...}: one probe at one step, columns as in app/store/probes.py
      answer    {pair, step, text, ended}: the model's greedy answer to a probe's prompt
      rewound   {step, attempt}: an external run went on from a checkpoint; what was recorded after
                that step is deleted, and what follows may repeat its steps
      store     {answers}: false when the database stops answering, so that no event can follow;
                true when it answers again. Has no id, since it is not part of the run
      quiet     {since}: the run has reported nothing since then, which is too long. Has no id, as
                nothing was written; whatever follows says that it reports again
      end       {reason: "finished" or "deleted", status}: no event will follow. A browser must
                close its EventSource here, or it would reconnect and get the same again; it opens
                a new one after it resumed the run.

A page loads the history through the API and passes the `revision` of that response as `?since=`; a
browser that reconnects sends Last-Event-ID, which takes precedence. Either way it gets everything
written after that revision, in order and once. Without either, it gets everything.

Each watched run has one feed, which reads new rows once for all its watchers. It is woken up by a
message through Redis; it polls every second while Redis is down, and at a longer interval anyway.
"""

import asyncio
import contextlib
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, FastAPI, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.auth.authentication import person_of
from app.core.errors import NotFoundError
from app.core.slots import Slots
from app.runs.schemas import RunOut
from app.store.lookup import there_is_no
from app.streaming.feed import load_run
from app.streaming.hub import Hub

_EVENT_ID = re.compile(r"\d{1,18}", re.ASCII)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The application's hub; its streams end on SIGTERM, or the server would wait for them."""
    app.state.hub = hub = Hub()
    loop = asyncio.get_running_loop()
    with _at_exit_signals(lambda: loop.call_soon_threadsafe(hub.close)):
        yield
    hub.close()


@contextlib.contextmanager
def _at_exit_signals(callback: Callable[[], object]) -> Iterator[None]:
    """Call back on SIGINT and SIGTERM, then run the handler that was installed before."""
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
        int,
        Query(
            ge=0, lt=2**63, description="The revision up to which the client has loaded the run."
        ),
    ] = 0,
    last_event_id: Annotated[
        str | None,
        Header(description="Sent by a browser that reconnects; takes precedence over `since`."),
    ] = None,
) -> StreamingResponse:
    """What a run writes, as it is written: events `status`, `progress`, `metric`, `probe`,
    `answer`, `rewound`, `store`, `quiet`, `end`.

    An event's id is the run's revision. A client must close the stream at `end`.
    """
    slots: Slots = request.app.state.streams
    slots.check(person_of(request.scope))
    run = await to_thread.run_sync(load_run, run_id)
    if run is None:
        raise NotFoundError(there_is_no("run", run_id), code="run_not_found")
    if last_event_id is not None and _EVENT_ID.fullmatch(last_event_id):
        since = int(last_event_id)
    return _EventStream(request.app.state.hub, run, since)


class _EventStream(StreamingResponse):
    """Counts as a watcher of the run's feed while it is being sent, however that ends."""

    def __init__(self, hub: Hub, run: RunOut, since: int) -> None:
        self._hub, self._run, self._since = hub, run, since
        super().__init__(
            (),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises:
        TooManyRequestsError: too many streams are open.
        """
        slots: Slots = scope["app"].state.streams
        with slots.hold(person_of(scope)):
            feed = self._hub.join(self._run)
            self.body_iterator = feed.watch(self._since)
            try:
                await super().__call__(scope, receive, send)
            finally:
                self._hub.leave(feed)

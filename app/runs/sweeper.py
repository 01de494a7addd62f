"""The sweeper: every few seconds, requeue what a lost worker had and resend lost messages.

A message is lost when the broker is wiped, a worker is killed, or a web process dies between its
commit and its message. The run is still queued in PostgreSQL, so its message is sent again. A
duplicate does no harm: only one worker can claim a run.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from app.core.broker import enqueue, wake
from app.core.database import transaction
from app.core.settings import get_settings
from app.store import leases, queue
from app.store.shards import claims, reference

MAX_INTERVAL = timedelta(seconds=5)

log = logging.getLogger(__name__)


def sweep(*, expire: bool = True) -> None:
    """One sweep: requeue runs and shards with expired leases, and wake a worker that is idle for
    the oldest run, or as many as can take a shard of it.

    expire: False leaves expired leases alone. After an outage of the database, in which no worker
        could renew its lease, workers need a moment to do so.
    """
    # Two transactions: each locks the rows of runs in an order of its own.
    with transaction() as session:
        changed = claims.expire(session) if expire else []
    with transaction() as session:
        if expire:
            reference.expire(session)
        changed += leases.expire(session) if expire else []
        lost = leases.lose(session) if expire else []
        waiting = queue.next_claimable(session)
        idle = queue.idle_workers(session, get_settings().lease)
        places = 0 if waiting is None else queue.places(session, waiting)
    for run_id, revision in changed:
        log.warning("run %s: a worker's lease expired; what it had is queued again", run_id)
        wake(run_id, revision)
    for run_id, revision in lost:
        log.warning("run %s: nothing was heard of its trainer", run_id)
        wake(run_id, revision)
    if waiting is not None:
        for _ in range(min(idle, places)):
            enqueue(waiting)


class Sweeper:
    """A thread that sweeps periodically until stopped.

    after: called after each sweep, for what goes on as runs end.
    """

    def __init__(
        self, interval: timedelta | None = None, after: Callable[[], None] = lambda: None
    ) -> None:
        # A third of the lease, so that a short lease is also detected soon after it expires.
        interval = interval or min(MAX_INTERVAL, get_settings().lease / 3)
        self._interval = interval.total_seconds()
        self._after = after
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        answered = True
        while not self._stop.wait(self._interval):
            try:
                sweep(expire=answered)
                self._after()
                answered = True
            except SQLAlchemyError as error:
                # PostgreSQL is unreachable: the health check reports it, the next sweep retries.
                answered = False
                log.warning("sweep skipped: %s", str(error).splitlines()[0])

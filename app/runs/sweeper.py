"""Looks every few seconds for runs that nobody works on although somebody could.

A broker that was wiped, a worker that was killed, a web process that died between its commit
and its message: in each case the run stands in PostgreSQL, and this sends it again. A message
too many does no harm, since only one worker can claim the run.
"""

import logging
import threading
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from app.core.broker import enqueue, wake
from app.core.database import transaction
from app.core.settings import get_settings
from app.store import leases

LONGEST_INTERVAL = timedelta(seconds=5)

log = logging.getLogger(__name__)


def sweep(*, expire: bool = True) -> None:
    """One round: expired leases go back to the queue, and an idle worker hears of the oldest.

    expire=False: the database was away until now. Nobody could renew a lease meanwhile, so one
    that ran out says nothing of its worker, who needs a moment to renew it.
    """
    with transaction() as session:
        changed = leases.expire(session) if expire else []
        waiting = leases.next_claimable(session)
        idle = leases.idle_workers(session, get_settings().lease)
    for run_id, revision in changed:
        log.warning("run %s: its worker went silent, so it was taken back", run_id)
        wake(run_id, revision)
    if waiting is not None and idle:
        enqueue(waiting)


class Sweeper:
    """Sweeps in a thread of its own until stopped."""

    def __init__(self, interval: timedelta | None = None) -> None:
        # Someone who sets a short lease wants a silent worker's run to be taken back soon.
        interval = interval or min(LONGEST_INTERVAL, get_settings().lease / 3)
        self._interval = interval.total_seconds()
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
                answered = True
            except SQLAlchemyError as error:
                # The database is away: pages say so, and the next round tries again.
                answered = False
                log.warning("sweep put off: %s", str(error).splitlines()[0])

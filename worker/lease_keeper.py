"""The heartbeat thread of a claimed run: renews its lease and sees when the run must stop."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.settings import get_settings
from app.store import leases
from chesboard.reporting import LeaseLostError, RunCancelledError, RunInterruptedError
from worker import replacing

log = logging.getLogger(__name__)

CANCEL_POLL_SECONDS = 0.25
"""Between two reads of the cancel flag: short enough to feel immediate to who cancels."""

STOP_SECONDS = 10.0
"""Which a run has to stop, once it must. A worker that is held longer is replaced."""

shutting_down = threading.Event()
"""Set once, when the process was asked to shut down."""


class Leases(Protocol):
    """Where a lease is kept: app.store.leases of whole runs, app.store.shards.claims of shards."""

    def renew(
        self, session: Session, run_id: int, token: str, lease: timedelta
    ) -> leases.LeaseState:
        """Extend it."""

    def read_state(self, session: Session, run_id: int, token: str) -> leases.LeaseState:
        """Read it without extending it."""


class LeaseKeeper:
    """The Control of a claimed run or shard: `check` reads what the heartbeat thread last saw, no
    SQL.

    While PostgreSQL is unreachable the lease can't be renewed, but no other worker can claim the
    run either, so the work continues; once it is reachable again, the next heartbeat finds out
    whether the lease is still held.
    """

    def __init__(
        self,
        run_id: int,
        token: str,
        kept: Leases = leases,
        cancel: Callable[[], object] = lambda: None,
    ) -> None:
        """cancel: ends the run as cancelled, in place of a main thread that is held."""
        self._run_id = run_id
        self._token = token
        self._kept = kept
        self._cancel = cancel
        self._state = leases.LeaseState(held=True, cancel_requested=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{run_id}", daemon=True)

    def __enter__(self) -> "LeaseKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises:
        LeaseLostError, RunCancelledError, RunInterruptedError: stop now.
        """
        if not self._state.held:
            raise LeaseLostError(f"run {self._run_id} belongs to another worker now")
        if self._state.cancel_requested:
            raise RunCancelledError(f"run {self._run_id} was cancelled")
        if shutting_down.is_set():
            raise RunInterruptedError("the worker is shutting down")

    def _run(self) -> None:
        settings = get_settings()
        renewed = time.monotonic()
        stops_by: float | None = None
        while not self._stop.wait(CANCEL_POLL_SECONDS):
            due = time.monotonic() - renewed >= settings.heartbeat.total_seconds()
            try:
                with transaction() as session:
                    if due:
                        self._state = self._kept.renew(
                            session, self._run_id, self._token, settings.lease
                        )
                        renewed = time.monotonic()
                    else:
                        self._state = self._kept.read_state(session, self._run_id, self._token)
            except SQLAlchemyError as error:
                log.warning("run %s: no heartbeat: %s", self._run_id, str(error).splitlines()[0])
            if not self._state.held or self._state.cancel_requested:
                stops_by = stops_by or time.monotonic() + STOP_SECONDS
                if time.monotonic() > stops_by and replacing.replaceable.is_set():
                    self._replace_worker()
                    return

    def _replace_worker(self) -> None:
        """The main thread can't claim another run meanwhile: it would wait for this thread first.
        A run that is another worker's is not touched."""
        log.warning("run %s: not stopped within %.0f s", self._run_id, STOP_SECONDS)
        try:
            if self._state.held:
                self._cancel()
        finally:  # else the run is cancelled once its lease is over
            replacing.replace_process()

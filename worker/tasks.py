"""The Celery task, and the start and shutdown of a worker process.

There is one task. Its message is only a hint that a run, or shards of one, can be claimed: the
worker claims in PostgreSQL and, when it has finished, claims whatever else is queued there. The
pool is `solo`: one process owns one device, and a run sees a signal to shut down within one step.
"""

import logging
import os
import socket
import threading
from functools import lru_cache
from typing import Any

from celery import signals
from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core import logging as logs
from app.core.broker import EXECUTE_RUN, get_celery
from app.core.database import limit_idle_transactions, transaction
from app.core.settings import get_settings
from app.store import queue
from app.store.runs import Worker
from app.store.seats import Offer
from chesboard.loading import choose_device
from chesboard.reporting import RunInterruptedError
from worker import telemetry
from worker.execution import execute
from worker.lease_keeper import shutting_down
from worker.memory import keep_freed_memory, return_freed_memory
from worker.models.cache import ModelCache
from worker.models.loading import describe_device
from worker.replacing import allow_replacement
from worker.retry import run_with_retry

log = logging.getLogger(__name__)

celery = get_celery()

WORKER_NAME = f"{socket.gethostname()}-{os.getpid()}"


@lru_cache
def _models() -> ModelCache:
    return ModelCache(get_settings())


@celery.task(name=EXECUTE_RUN)  # type: ignore[untyped-decorator]
def execute_run(run_id: int) -> None:
    """Execute this run, or what is free of it, then every other one that is queued."""
    waiting: int | None = run_id
    while waiting is not None and not shutting_down.is_set():
        _heartbeat.set_run(waiting)
        try:
            with logs.working_on(waiting):
                execute(waiting, WORKER_NAME, _models())
            waiting = run_with_retry("the queue", _next)
        except RunInterruptedError:
            return
        finally:
            _heartbeat.set_run(None)
            return_freed_memory()


def _next(session: Session) -> int | None:
    settings = get_settings()
    offer = Offer(settings.gpus, settings.seats)
    return queue.next_claimable(session, WORKER_NAME, settings.lease, offer=offer)


class _Heartbeat:
    """This worker's row in the table of workers, updated by a heartbeat thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._run_id: int | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._send()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        try:
            with transaction() as session:
                session.execute(delete(Worker).where(Worker.name == WORKER_NAME))
        except SQLAlchemyError as error:
            # The row goes stale by itself, and stale workers are not shown.
            log.debug("the worker could not delete its row: %s", error)

    def set_run(self, run_id: int | None) -> None:
        self._run_id = run_id
        self._send()

    def _run(self) -> None:
        while not self._stop.wait(get_settings().heartbeat.total_seconds()):
            self._send()

    def _send(self) -> None:
        row: dict[str, Any] = {
            "name": WORKER_NAME,
            "device": describe_device(choose_device("auto")),
            "run_id": self._run_id,
            "report": telemetry.report(),
        }
        statement = insert(Worker).values(**row)
        update = {**row, "seen_at": func.clock_timestamp()}
        try:
            with transaction() as session:
                session.execute(
                    statement.on_conflict_do_update(index_elements=["name"], set_=update)
                )
        except SQLAlchemyError as error:
            log.warning("no heartbeat of the worker: %s", str(error).splitlines()[0])


_heartbeat = _Heartbeat()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _set_up_logging(**_: object) -> None:
    logs.configure(get_settings(), "worker")


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _set_up_memory(**_: object) -> None:
    keep_freed_memory()


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _set_up_database(**_: object) -> None:
    # After a lease without a heartbeat the run is another worker's anyway.
    limit_idle_transactions(get_settings().lease)


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _set_up_replacement(**_: object) -> None:
    allow_replacement()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _start_heartbeat(**_: object) -> None:
    _heartbeat.start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _request_shutdown(**_: object) -> None:
    shutting_down.set()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end_heartbeat(**_: object) -> None:
    _heartbeat.stop()

"""The recorder: writes a run's records to PostgreSQL from a thread of its own.

Records are buffered until PostgreSQL has committed them. While the database is unreachable the
writer retries with exponential backoff; once `MAX_WAITING` records are buffered, the training
thread blocks (back-pressure). Nothing is dropped. A lost lease ends the writing, and the next call
on the recorder raises LeaseLostError.
"""

import contextlib
import threading
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from app.core.broker import wake
from app.core.database import transaction
from app.store import recording
from chesboard.records import Record
from chesboard.reporting import LeaseLostError, PhaseName
from worker import telemetry
from worker.retry import retry_while_unreachable

MAX_WAITING = 20_000
"""Size limit of the buffer; a probe step is a few kilobytes, so tens of megabytes."""


Write = Callable[[Session, int, str, recording.Batch], int]
"""Stores a batch of a run under the lease with this token, and returns the run's revision."""

UNFORESEEN = frozenset({"waiting for seats"})
"""Phases of which nobody knows how long they take."""

PHASE_SECONDS = 0.5
"""Least time between two updates of a phase's count, so that a download is not a write a chunk."""


class Recorder:
    """The Reporter that writes to PostgreSQL. A context manager: leaving it flushes and stops the
    thread. Methods are called from the training thread; all but `flush` return without waiting
    for PostgreSQL unless the buffer is full."""

    def __init__(
        self, run_id: int, token: str, write: Write | None = None, pause: float = 0.0
    ) -> None:
        """write: stores a batch under the lease, by default of the whole run. pause: least seconds
        between two batches, unless someone waits for the second."""
        self._run_id = run_id
        self._token = token
        self._store = write or recording.write
        self._pause = pause
        self._urged = False
        self._changed = threading.Condition()
        self._waiting = recording.Batch()
        self._writing = False
        self._closed = False
        self._stopping = False
        self._failure: BaseException | None = None
        self._progress_clock = _Clock()
        self._phase: recording.Phase | None = None
        self._phase_clock = _Clock()
        self._phase_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"recorder-{run_id}", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            # After a lost lease nothing may be written any more.
            if kind is None:
                self.flush()
            elif not issubclass(kind, LeaseLostError):
                self._flush_if_possible()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._thread.join()

    def progress(self, done: int, total: int, unit: str) -> None:
        with self._changed:
            self._waiting.progress = self._progress_clock.progress(done, total, unit)
            if self._phase is not None and self._phase.unit in (None, unit):
                self._put_phase(self._phase.name, done, total, unit)
            self._changed.notify_all()

    def phase(
        self,
        name: PhaseName,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None:
        with self._changed:
            if self._phase is None or self._phase.name != name:
                self._begin_phase()
            elif (
                done != total
                and unit == self._phase.unit
                and time.monotonic() - self._phase_at < PHASE_SECONDS
            ):
                return
            self._put_phase(name, done, total, unit)
            self._changed.notify_all()

    def _begin_phase(self) -> None:
        self._progress_clock, self._phase_clock = _Clock(), _Clock()

    def _put_phase(self, name: str, done: int | None, total: int | None, unit: str | None) -> None:
        eta = None
        if done is not None and total is not None and name not in UNFORESEEN:
            eta = self._phase_clock.progress(done, total, unit or "").eta_seconds
        self._phase = self._waiting.phase = recording.Phase(name, done, total, unit, eta)
        self._phase_at = time.monotonic()

    def device(self, text: str) -> None:
        with self._changed:
            self._waiting.device = text
            self._changed.notify_all()

    def checkpointed(self) -> None:
        with self._changed:
            self._waiting.checkpointed = True
            self._changed.notify_all()

    def message(self, text: str) -> None:
        self._add(lambda batch: batch.messages.append(text))

    def put(self, *records: Record) -> None:
        self._add(lambda batch: batch.records.extend(records))

    def flush(self) -> None:
        """Return once everything handed over so far is committed.

        Raises:
            LeaseLostError: the run belongs to another worker now.
            RuntimeError: the writer failed for another reason, which is the exception's cause.
        """
        with self._changed:
            self._urged = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._failure is not None or not (len(self._waiting) or self._writing)
            )
            self._urged = False
            self._raise_failure()

    def _flush_if_possible(self) -> None:
        """What was recorded before a run stopped, unless the database is away or full just now: a
        cancelled run would not end as long as that lasts."""
        self._stopping = True
        with contextlib.suppress(LeaseLostError, RuntimeError):
            self.flush()

    def _add(self, add: Callable[[recording.Batch], None]) -> None:
        """Wait for room in the buffer (back-pressure), then add to the batch that is next."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._failure is not None or len(self._waiting) < MAX_WAITING
            )
            self._raise_failure()
            add(self._waiting)
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if isinstance(self._failure, recording.StaleLeaseError):
            raise LeaseLostError(str(self._failure)) from self._failure
        if self._failure is not None:
            raise RuntimeError("the recorder could not write to the store") from self._failure

    def _run(self) -> None:
        began = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._waiting) or self._closed)
                if not len(self._waiting):
                    return
                if self._pause:
                    rest = began + self._pause - time.monotonic()
                    self._changed.wait_for(self._is_urgent, max(0.0, rest))
                    began = time.monotonic()
                batch, self._waiting = self._waiting, recording.Batch()
                self._writing = True
            failure = self._write(batch)
            with self._changed:
                self._writing = False
                self._failure = failure
                self._changed.notify_all()
                if failure is not None:
                    return

    def _is_urgent(self) -> bool:
        return self._urged or self._closed or len(self._waiting) >= MAX_WAITING

    def _write(self, batch: recording.Batch) -> BaseException | None:
        """Write a batch, retrying while the database is unreachable.

        Returns the error that ends the writing for good (a stale lease, a bug), or None.
        """
        began = time.monotonic()

        def write() -> int:
            telemetry.report_recorder(len(batch) + len(self._waiting), time.monotonic() - began)
            with transaction() as session:
                return self._store(session, self._run_id, self._token, batch)

        try:
            revision = retry_while_unreachable(
                f"run {self._run_id}", write, give_up=lambda: self._closed or self._stopping
            )
        except Exception as error:
            return error
        telemetry.report_recorder(len(self._waiting), 0.0)
        wake(self._run_id, revision)
        return None


class _Clock:
    """Measures how fast what is counted advances, from when the count began."""

    def __init__(self) -> None:
        self._first: tuple[float, int, str] | None = None
        self._last = 0

    def progress(self, done: int, total: int, unit: str) -> recording.Progress:
        """A new unit is a new count, and so is one that went back."""
        now = time.monotonic()
        if self._first is None or self._first[2] != unit or done < self._last:
            self._first = (now, done, unit)
        self._last = done
        began, at_first, _ = self._first
        return recording.Progress(done, total, unit, done - at_first, now - began)

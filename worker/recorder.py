"""Hands records to the store from a thread of its own, so that training never waits for SQL.

What is handed over is kept until PostgreSQL has it: while the database is away the writer tries
again with back-off, and once `MAX_WAITING` records wait, the computing thread waits too. Nothing
is dropped. A lost lease ends the writing, and the next call on the recorder says so.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

from app.core.broker import wake
from app.core.database import transaction
from app.store import recording
from chesboard.records import (
    AnswerRecord,
    FinalRecord,
    MetricRecord,
    PositionRecord,
    PositionStepRecord,
    ProbeRecord,
    ProbeStepRecord,
    ScoreRecord,
)
from chesboard.reporting import LeaseLostError, PhaseName
from worker import telemetry
from worker.retry import retry_while_unreachable

MAX_WAITING = 20_000
"""Records held in memory at most; a probe step is a few kilobytes, so tens of megabytes."""


PHASE_SECONDS = 0.5
"""Least time between two updates of a phase's count, so that a download is not a write a chunk."""


class Recorder:
    """The Reporter that writes to PostgreSQL. Use as a context manager; leaving it flushes."""

    def __init__(self, run_id: int, token: str) -> None:
        self._run_id = run_id
        self._token = token
        self._changed = threading.Condition()
        self._waiting = recording.Batch()
        self._writing = False
        self._closed = False
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
            # After a lost lease there is nobody to write for.
            if kind is None or not issubclass(kind, LeaseLostError):
                self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._thread.join()

    def progress(self, done: int, total: int, unit: str) -> None:
        with self._changed:
            eta = self._progress_clock.seconds_left(done, total, unit)
            self._waiting.progress = recording.Progress(done, total, unit, eta)
            if self._phase is not None:
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
            entered = self._phase is None or self._phase.name != name
            if entered:
                self._progress_clock, self._phase_clock = _Clock(), _Clock()
            elif done != total and time.monotonic() - self._phase_at < PHASE_SECONDS:
                return
            self._put_phase(name, done, total, unit)
            self._changed.notify_all()

    def _put_phase(self, name: str, done: int | None, total: int | None, unit: str | None) -> None:
        eta = None
        if done is not None and total is not None:
            eta = self._phase_clock.seconds_left(done, total, unit)
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
        self._put("messages", [text])

    def metric(self, record: MetricRecord) -> None:
        self._put("metrics", [record])

    def probe(self, record: ProbeRecord) -> None:
        self._put("probes", [record])

    def probe_step(self, record: ProbeStepRecord) -> None:
        self._put("probe_steps", [record])

    def position(self, record: PositionRecord) -> None:
        self._put("positions", [record])

    def position_step(self, record: PositionStepRecord) -> None:
        self._put("position_steps", [record])

    def answer(self, record: AnswerRecord) -> None:
        self._put("answers", [record])

    def finals(self, records: Sequence[FinalRecord]) -> None:
        self._put("finals", records)

    def scores(self, records: Sequence[ScoreRecord]) -> None:
        self._put("scores", records)

    def reference(self, records: Sequence[tuple[int, float, float]]) -> None:
        self._put("reference", records)

    def flush(self) -> None:
        """Return once everything handed over is in the store.

        Raises:
            LeaseLostError: the run belongs to another worker now.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._failure is not None or not (len(self._waiting) or self._writing)
            )
            self._raise_failure()

    def _put(self, name: str, records: Sequence[Any]) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._failure is not None or len(self._waiting) < MAX_WAITING
            )
            self._raise_failure()
            getattr(self._waiting, name).extend(records)
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if isinstance(self._failure, recording.StaleLeaseError):
            raise LeaseLostError(str(self._failure)) from self._failure
        if self._failure is not None:
            raise RuntimeError("the recorder could not write to the store") from self._failure

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._waiting) or self._closed)
                if not len(self._waiting):
                    return
                batch, self._waiting = self._waiting, recording.Batch()
                self._writing = True
            failure = self._write(batch)
            with self._changed:
                self._writing = False
                self._failure = failure
                self._changed.notify_all()
                if failure is not None:
                    return

    def _write(self, batch: recording.Batch) -> BaseException | None:
        """Write until it is written; returns what makes writing pointless, if anything does."""

        began = time.monotonic()

        def write() -> int:
            telemetry.recorder_is(len(batch) + len(self._waiting), time.monotonic() - began)
            with transaction() as session:
                return recording.write(session, self._run_id, self._token, batch)

        try:
            revision = retry_while_unreachable(
                f"run {self._run_id}", write, give_up=lambda: self._closed
            )
        except Exception as error:
            return error
        telemetry.recorder_is(len(self._waiting), 0.0)
        wake(self._run_id, revision)
        return None


class _Clock:
    """Estimates the time that is left of what is counted, from when the count began."""

    def __init__(self) -> None:
        self._first: tuple[float, int, str | None] | None = None

    def seconds_left(self, done: int, total: int, unit: str | None) -> float | None:
        """None until the count has advanced. A new unit is a new count."""
        now = time.monotonic()
        if self._first is None or self._first[2] != unit:
            self._first = (now, done, unit)
        began, at_first, _ = self._first
        return (now - began) / (done - at_first) * (total - done) if done > at_first else None

"""Runs that are interrupted after what they have recorded, and go on."""

from typing import TypeVar

import pytest

from app.core.database import transaction
from app.store.runs import Run
from chesboard.records import Record
from chesboard.reporting import RunCancelledError
from tests.app.rows import stored
from worker.execution import execute
from worker.models.cache import ModelCache
from worker.recorder import Recorder

R = TypeVar("R", bound=Record)


def recorded(
    monkeypatch: pytest.MonkeyPatch, kind: type[R], cancel_after: int | None = None
) -> list[R]:
    """Records of a kind, as runs hand them over from now on; the list grows.

    cancel_after: once so many are stored, the run that recorded them is cancelled.
    """
    really = Recorder.put
    seen: list[R] = []

    def put(self: Recorder, *records: Record) -> None:
        before = len(seen)
        seen.extend(record for record in records if isinstance(record, kind))
        really(self, *records)
        if cancel_after is not None and before < cancel_after <= len(seen):
            self.flush()
            raise RunCancelledError

    monkeypatch.setattr(Recorder, "put", put)
    return seen


def interrupt(
    run_id: int,
    models: ModelCache,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[R],
    after: int,
) -> list[R]:
    """Execute a queued run until so many records of a kind are stored; those of all attempts."""
    seen = recorded(monkeypatch, kind, cancel_after=after)
    execute(run_id, "ada", models)
    assert stored(run_id).status == "cancelled"
    return seen


def resume(run_id: int, models: ModelCache) -> None:
    """Queue a run that ended too early, and execute it to its end on another worker."""
    with transaction() as session:
        session.get_one(Run, run_id).status = "queued"
    execute(run_id, "grace", models)
    assert stored(run_id).status == "succeeded", stored(run_id).error

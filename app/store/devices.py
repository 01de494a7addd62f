"""Which workers have the device that a run asks for: every worker has a processor, not every one a
GPU."""

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_

from app.store.runs import Run, Worker


def asks_for_gpu(run: Any = Run) -> ColumnElement[bool]:
    """Condition on a run."""
    asked = func.coalesce(run.config["device"].astext, "auto")
    return and_(asked.like("cuda%"), run.kind != "check")  # which reads texts alone


def has_gpu(worker: Any = Worker) -> ColumnElement[bool]:
    """Condition on a worker: it has told that it has one."""
    told: ColumnElement[bool] = worker.report["device_kind"].astext == "cuda"
    return told


def is_on_device_of(worker: str, silent_for: timedelta) -> ColumnElement[bool]:
    """Condition on a run: it asks for no GPU, or this worker has one; or none of the workers that
    were seen within `silent_for` has, so that the run fails and says so."""
    is_seen = Worker.seen_at > func.clock_timestamp() - silent_for
    return or_(
        ~asks_for_gpu(),
        exists().where(has_gpu(), Worker.name == worker),
        ~exists().where(has_gpu(), is_seen),
    )

"""How far an external run is, and how long it will take: by when its batches come in."""

import math

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store.external import ExternalRun
from app.store.runs import Run

MEMORY_SECONDS = 60.0
"""What was longer ago counts for little."""


def advance(session: Session, run: Run, external: ExternalRun, step: int) -> None:
    """A batch with records up to this step came in."""
    before = external.recorded_through
    external.recorded_through = max(step, before or 0)
    now = session.scalar(select(func.clock_timestamp()))
    assert now is not None
    steps = external.recorded_through - (before or 0)
    if steps and external.advanced_at is not None:
        seconds = (now - external.advanced_at).total_seconds()
        external.pace_seconds = next_pace(external.pace_seconds, steps, seconds)
    if steps or external.advanced_at is None:
        external.advanced_at = now
    show_progress(run, external)


def next_pace(before: float | None, steps: int, seconds: float) -> float:
    """Seconds a step, after so many more steps in so many seconds.

    An average over time, not over steps: those that come in at once, because they had waited
    somewhere, take no time and so count for nothing.
    """
    now = seconds / steps
    if before is None:
        return now
    return before + (1 - math.exp(-seconds / MEMORY_SECONDS)) * (now - before)


def show_progress(run: Run, external: ExternalRun) -> None:
    """Set the run's progress, and the time left while it runs, if its number of steps is known."""
    run.progress_done = external.recorded_through or 0
    if run.progress_total is not None and run.progress_done > run.progress_total:
        run.progress_total = None
    pace, total = external.pace_seconds, run.progress_total
    run.eta_seconds = None
    if run.status == "running" and pace is not None and total is not None:
        run.eta_seconds = pace * (total - run.progress_done)

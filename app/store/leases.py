"""Who works on a run: claiming, renewing, finishing and handing back, each one short UPDATE.

A claim takes a lease: a random token and a time. Every later write names the token, so a worker
that was asleep while its lease ran out can change nothing any more. All times are the
database's clock; tests pass `now` instead.

A run may lose any number of workers as long as it gets further: each checkpoint, and each batch
of pairs that is scored, is work that nobody does again, and from there the run has all its tries
anew (app/store/recording.py). One that loses MAX_TRIES workers at the same place is failed: it is
likely what kills them, and would go on to take down one worker after another.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, update
from sqlalchemy.orm import Session

from app.core.nonfinite import nonfinite_to_none
from app.store.runs import Run, Worker

MAX_TRIES = 3
"""Workers that a run may lose at one place."""

GAVE_UP = {
    "message": f"The worker stopped responding {MAX_TRIES} times at the same place of this run.",
    "hint": "The usual cause is too little memory: choose a smaller model, batch_tokens or "
    "batch_size, then resume the run.",
    "traceback": None,
}


NO_PHASE: dict[str, Any] = {
    "phase": None,
    "phase_done": None,
    "phase_total": None,
    "phase_unit": None,
    "phase_eta_seconds": None,
}
"""Columns of a run that no worker does, or whose worker has only just claimed it."""


@dataclass(frozen=True, slots=True)
class Claim:
    run_id: int
    kind: str
    dataset_id: int
    config: dict[str, Any]
    token: str
    attempt: int
    """1 for the first try; more where an earlier worker was lost or interrupted."""
    revision: int


@dataclass(frozen=True, slots=True)
class LeaseState:
    held: bool
    cancel_requested: bool


def _clock(now: datetime | None) -> ColumnElement[datetime]:
    return func.clock_timestamp() if now is None else literal(now)


def _expired(now: datetime | None) -> ColumnElement[bool]:
    return and_(Run.status == "running", Run.lease_expires_at < _clock(now))


def _own(run_id: int, token: str) -> ColumnElement[bool]:
    return and_(Run.id == run_id, Run.lease_token == token, Run.status == "running")


def claim(
    session: Session, run_id: int, worker: str, lease: timedelta, now: datetime | None = None
) -> Claim | None:
    """Take a run that is queued, or whose lease ran out. None where it is not to be had."""
    token = uuid.uuid4().hex
    row = session.execute(
        update(Run)
        .where(
            Run.id == run_id,
            Run.tries_here < MAX_TRIES,
            or_(Run.status == "queued", _expired(now)),
        )
        .values(
            status="running",
            attempts=Run.attempts + 1,
            tries_here=Run.tries_here + 1,
            lease_token=token,
            lease_expires_at=_clock(now) + lease,
            worker=worker,
            started_at=func.coalesce(Run.started_at, _clock(now)),
            finished_at=None,
            error=None,
            revision=Run.revision + 1,
            **NO_PHASE,
        )
        .returning(Run.kind, Run.dataset_id, Run.config, Run.attempts, Run.revision)
    ).one_or_none()
    if row is None:
        return None
    return Claim(run_id, row.kind, row.dataset_id, row.config, token, row.attempts, row.revision)


def next_claimable(session: Session, now: datetime | None = None) -> int | None:
    """The oldest run that a worker could claim."""
    return session.execute(
        select(Run.id)
        .where(or_(Run.status == "queued", _expired(now)), Run.tries_here < MAX_TRIES)
        .order_by(Run.id)
        .limit(1)
    ).scalar_one_or_none()


def renew(
    session: Session, run_id: int, token: str, lease: timedelta, now: datetime | None = None
) -> LeaseState:
    """The heartbeat. Not held: another worker has the run, or it is gone."""
    cancel = session.execute(
        update(Run)
        .where(_own(run_id, token))
        .values(lease_expires_at=_clock(now) + lease)
        .returning(Run.cancel_requested)
    ).scalar_one_or_none()
    return LeaseState(cancel is not None, bool(cancel))


def look(session: Session, run_id: int, token: str) -> LeaseState:
    """As renew, but only reads: cheap enough to ask several times a second."""
    cancel = session.execute(
        select(Run.cancel_requested).where(_own(run_id, token))
    ).scalar_one_or_none()
    return LeaseState(cancel is not None, bool(cancel))


def finish(
    session: Session,
    run_id: int,
    token: str,
    status: str,
    *,
    summary: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    now: datetime | None = None,
) -> int | None:
    """End a run as succeeded, failed or cancelled. None where the lease is no longer one's own."""
    values: dict[str, Any] = {
        "status": status,
        "error": error,
        "lease_token": None,
        "lease_expires_at": None,
        "eta_seconds": None,
        "finished_at": _clock(now),
        "revision": Run.revision + 1,
        **NO_PHASE,
    }
    if summary is not None:
        values["summary"] = nonfinite_to_none(summary)
    return session.execute(
        update(Run).where(_own(run_id, token)).values(**values).returning(Run.revision)
    ).scalar_one_or_none()


def hand_back(session: Session, run_id: int, token: str) -> int | None:
    """Put a run back in the queue: its worker is shutting down, which is not the run's fault."""
    return session.execute(
        update(Run)
        .where(_own(run_id, token))
        .values(
            status="queued",
            attempts=Run.attempts - 1,
            tries_here=Run.tries_here - 1,
            lease_token=None,
            lease_expires_at=None,
            eta_seconds=None,
            revision=Run.revision + 1,
            **NO_PHASE,
        )
        .returning(Run.revision)
    ).scalar_one_or_none()


def expire(session: Session, now: datetime | None = None) -> list[tuple[int, int]]:
    """Take runs back whose worker went silent: queued again, or failed after MAX_TRIES.

    Returns:
        (run id, revision) of each run that was changed.
    """
    gone = {
        "lease_token": None,
        "lease_expires_at": None,
        "eta_seconds": None,
        "revision": Run.revision + 1,
        **NO_PHASE,
    }
    failed = session.execute(
        update(Run)
        .where(_expired(now), Run.tries_here >= MAX_TRIES)
        .values(status="failed", error=GAVE_UP, finished_at=_clock(now), **gone)
        .returning(Run.id, Run.revision)
    ).all()
    cancelled = session.execute(
        update(Run)
        .where(_expired(now), Run.cancel_requested)
        .values(status="cancelled", finished_at=_clock(now), **gone)
        .returning(Run.id, Run.revision)
    ).all()
    queued = session.execute(
        update(Run)
        .where(_expired(now))
        .values(status="queued", **gone)
        .returning(Run.id, Run.revision)
    ).all()
    return [(row.id, row.revision) for row in (*failed, *cancelled, *queued)]


def idle_workers(session: Session, silent_for: timedelta) -> int:
    """Workers that were seen lately and have nothing to do."""
    return session.execute(
        select(func.count())
        .select_from(Worker)
        .where(Worker.run_id.is_(None), Worker.seen_at > func.clock_timestamp() - silent_for)
    ).scalar_one()

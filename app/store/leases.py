"""Leases of runs: claim, renew, finish, hand back, expire; each is one short UPDATE.

A claim takes a lease: a random token (fencing token) and an expiry time. Every later write names
the token, so a worker that was suspended past its lease can change nothing any more. All times
are of the database's clock; tests pass `now` instead.

A run may lose any number of workers as long as it progresses: each checkpoint, and each batch of
judged answers, is work that is not repeated, and resets the count of tries
(app/store/recording.py). A run that loses MAX_TRIES workers without progress is failed: it is
probably what kills them, and would take down one worker after another.

Runs that all idle workers do at once have a lease a shard instead: app/store/shards/claims.py.

External runs are trained elsewhere, and no worker has anything to do with them: no function here
touches one but `lose`, which marks those of which nothing is heard any more.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, update
from sqlalchemy.orm import Session

from app.core.nonfinite import nonfinite_to_none
from app.store.devices import is_on_device_of
from app.store.runs import EXTERNAL, SHARDED, Run

MAX_TRIES = 3
"""Workers that a run may lose without progress."""

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
"""The phase columns of a run that no worker holds, or that was only just claimed."""


@dataclass(frozen=True, slots=True)
class Claim:
    run_id: int
    kind: str
    dataset_id: int
    config: dict[str, Any]
    token: str
    attempt: int
    """1 for the first claim; more if an earlier worker was lost."""
    revision: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LeaseState:
    held: bool
    cancel_requested: bool


def clock(now: datetime | None) -> ColumnElement[datetime]:
    """The time by the database's clock, or `now`."""
    return func.clock_timestamp() if now is None else literal(now)


_WHOLE = Run.kind.not_in((EXTERNAL, *SHARDED))
"""Condition on a run: one worker does the whole of it."""


def _silent(now: datetime | None) -> ColumnElement[bool]:
    return and_(Run.status == "running", Run.lease_expires_at < clock(now))


def _expired(now: datetime | None) -> ColumnElement[bool]:
    return and_(Run.kind != EXTERNAL, _silent(now))


def _own(run_id: int, token: str) -> ColumnElement[bool]:
    return and_(Run.id == run_id, Run.lease_token == token, Run.status == "running")


def is_claimable(now: datetime | None = None) -> ColumnElement[bool]:
    """Condition on a run: one worker does the whole of it, and nobody has it."""
    return and_(_WHOLE, Run.tries_here < MAX_TRIES, or_(Run.status == "queued", _expired(now)))


def claim(
    session: Session, run_id: int, worker: str, lease: timedelta, now: datetime | None = None
) -> Claim | None:
    """Claim a run that is queued or whose lease expired. None if it is neither, is done in shards
    (app/store/shards/claims.py), or asks for a GPU that other workers have, and not this one."""
    token = uuid.uuid4().hex
    row = session.execute(
        update(Run)
        .where(Run.id == run_id, is_claimable(now), is_on_device_of(worker, lease))
        .values(
            status="running",
            attempts=Run.attempts + 1,
            tries_here=Run.tries_here + 1,
            lease_token=token,
            lease_expires_at=clock(now) + lease,
            worker=worker,
            started_at=func.coalesce(Run.started_at, clock(now)),
            reported_at=clock(now),
            finished_at=None,
            error=None,
            revision=Run.revision + 1,
            **NO_PHASE,
        )
        .returning(Run.kind, Run.dataset_id, Run.config, Run.attempts, Run.revision, Run.created_at)
    ).one_or_none()
    if row is None:
        return None
    return Claim(
        run_id,
        row.kind,
        row.dataset_id,  # never null: only an external run has none
        row.config,
        token,
        row.attempts,
        row.revision,
        row.created_at,
    )


def renew(
    session: Session, run_id: int, token: str, lease: timedelta, now: datetime | None = None
) -> LeaseState:
    """The heartbeat: extend the lease. Not held: the run is another worker's, or was deleted."""
    cancel = session.execute(
        update(Run)
        .where(_own(run_id, token))
        .values(lease_expires_at=clock(now) + lease)
        .returning(Run.cancel_requested)
    ).scalar_one_or_none()
    return LeaseState(cancel is not None, bool(cancel))


def read_state(session: Session, run_id: int, token: str) -> LeaseState:
    """Read the state of the lease without extending it: cheap enough for several times a second."""
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
    """End a run as succeeded, failed or cancelled; returns its revision. None: lease lost."""
    return session.execute(
        update(Run)
        .where(_own(run_id, token))
        .values(**ended(status, summary, error, now))
        .returning(Run.revision)
    ).scalar_one_or_none()


def ended(
    status: str,
    summary: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """The columns of a run that ends so."""
    values: dict[str, Any] = {
        "status": status,
        "error": error,
        "lease_token": None,
        "lease_expires_at": None,
        "eta_seconds": None,
        "finished_at": clock(now),
        "revision": Run.revision + 1,
        **NO_PHASE,
    }
    if summary is not None:
        values["summary"] = nonfinite_to_none(summary)
    return values


def hand_back(session: Session, run_id: int, token: str) -> int | None:
    """Queue a run again whose worker is shutting down. Not counted as a try. None: lease lost."""
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


def let_go(session: Session, run_id: int, token: str, now: datetime | None = None) -> int | None:
    """End the lease now, as if the worker were lost: the run can be claimed at once, and its try
    counts. None: lease lost."""
    return session.execute(
        update(Run)
        .where(_own(run_id, token))
        .values(lease_expires_at=clock(now), revision=Run.revision + 1)
        .returning(Run.revision)
    ).scalar_one_or_none()


def expire(session: Session, now: datetime | None = None) -> list[tuple[int, int]]:
    """Release runs whose lease expired: failed after MAX_TRIES, cancelled if that was requested,
    else queued again.

    Returns:
        (run id, revision) of each run that was changed.
    """
    released = {
        "lease_token": None,
        "lease_expires_at": None,
        "eta_seconds": None,
        "revision": Run.revision + 1,
        **NO_PHASE,
    }
    failed = session.execute(
        update(Run)
        .where(_expired(now), Run.tries_here >= MAX_TRIES)
        .values(status="failed", error=GAVE_UP, finished_at=clock(now), **released)
        .returning(Run.id, Run.revision)
    ).all()
    cancelled = session.execute(
        update(Run)
        .where(_expired(now), Run.cancel_requested)
        .values(status="cancelled", finished_at=clock(now), **released)
        .returning(Run.id, Run.revision)
    ).all()
    queued = session.execute(
        update(Run)
        .where(_expired(now))
        .values(status="queued", **released)
        .returning(Run.id, Run.revision)
    ).all()
    return [(row.id, row.revision) for row in (*failed, *cancelled, *queued)]


def lose(session: Session, now: datetime | None = None) -> list[tuple[int, int]]:
    """Mark external runs whose trainers were silent for the length of a lease as lost. Their
    training may go on: the next that is heard of them makes them running again.

    Returns:
        (run id, revision) of each run that was changed.
    """
    lost = session.execute(
        update(Run)
        .where(Run.kind == EXTERNAL, _silent(now))
        .values(status="lost", eta_seconds=None, revision=Run.revision + 1)
        .returning(Run.id, Run.revision)
    ).all()
    return [(row.id, row.revision) for row in lost]

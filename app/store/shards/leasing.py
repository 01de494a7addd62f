"""What all leases of shards are made of, whatever run they belong to: conditions, and a shard's
claim and change.

Whatever changes the run and a shard locks the run's row first: two workers that finish the last two
shards at once see each other's.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, any_, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.store.leases import MAX_TRIES, clock
from app.store.runs import Run
from app.store.shards.tables import RunShard

NO_LEASE: dict[str, Any] = {"lease_token": None, "lease_expires_at": None}
"""The columns of a shard that nobody has."""


def is_unheld(now: datetime | None = None) -> ColumnElement[bool]:
    """Condition on a shard: it is to be done, and nobody has it."""
    return or_(
        RunShard.status == "queued",
        and_(RunShard.status == "running", RunShard.lease_expires_at < clock(now)),
    )


def is_free(now: datetime | None = None) -> ColumnElement[bool]:
    """Condition on a shard: nobody has it, and it was not tried too often."""
    return and_(RunShard.tries_here < MAX_TRIES, is_unheld(now))


def is_held(run_id: int) -> ColumnElement[bool]:
    """Condition on a shard: it is this run's, and somebody has it, or had it and did not come
    back."""
    return and_(RunShard.run_id == run_id, RunShard.status == "running")


def is_own(run_id: int, token: str) -> ColumnElement[bool]:
    """Condition on a shard: the one with this token."""
    return and_(is_held(run_id), RunShard.lease_token == token)


def has_failed(run_id: ColumnElement[int], worker: Any) -> ColumnElement[bool]:
    """Condition on a run: this worker has failed at a shard of it."""
    shard = aliased(RunShard)
    return exists().where(shard.run_id == run_id, worker == any_(shard.failed_by))


def lock(session: Session, run_id: int, *statuses: str) -> Any | None:
    """Lock the row of a run of one of these statuses: that before those of its shards. Records that
    refer to the run can be written meanwhile."""
    return session.execute(
        select(Run.status, Run.cancel_requested, Run.phase)
        .where(Run.id == run_id, Run.status.in_(statuses or ("running",)))
        .with_for_update(key_share=True)
    ).one_or_none()


def take(
    session: Session,
    run_id: int,
    worker: str,
    lease: timedelta,
    free: ColumnElement[bool],
    now: datetime | None = None,
) -> Any | None:
    """Give a worker the first shard of a run that is `free`: its number, pairs and token. The
    caller holds the run's row."""
    first = (
        select(RunShard.shard)
        .where(RunShard.run_id == run_id, free)
        .order_by(RunShard.shard)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return session.execute(
        update(RunShard)
        .where(RunShard.run_id == run_id, RunShard.shard == first.scalar_subquery())
        .values(
            status="running",
            worker=worker,
            lease_token=uuid.uuid4().hex,
            lease_expires_at=clock(now) + lease,
            tries_here=RunShard.tries_here + 1,
            advanced=0,
            seconds=0,
            started_at=clock(now),
        )
        .returning(RunShard.shard, RunShard.pairs, RunShard.lease_token)
    ).one_or_none()


def change_own(session: Session, run_id: int, token: str, **values: Any) -> Any | None:
    """Change a shard under its lease; the caller has locked the run. None: the lease is lost."""
    return session.execute(
        update(RunShard)
        .where(is_own(run_id, token))
        .values(**values)
        .returning(RunShard.shard, RunShard.tries_here, RunShard.worker)
    ).one_or_none()

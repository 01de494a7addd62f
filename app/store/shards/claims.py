"""Leases of shards: claim, renew, finish, fail, hand back, expire.

As of whole runs (app/store/leases.py), with a lease a shard. A run that is done in shards has no
token of its own; its `lease_expires_at` is renewed with each of theirs, so that it runs out when
nothing was heard of any of its workers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, exists, func, literal, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.store.devices import asks_for_gpu, has_gpu, is_on_device_of
from app.store.leases import GAVE_UP, MAX_TRIES, NO_PHASE, LeaseState, clock, ended
from app.store.recording import add_messages
from app.store.runs import SHARDED, Run, Worker
from app.store.shards.leasing import (
    NO_LEASE,
    change_own,
    has_failed,
    is_free,
    is_held,
    is_own,
    lock,
    take,
)
from app.store.shards.planning import plan
from app.store.shards.tables import RunShard


@dataclass(frozen=True, slots=True)
class ShardClaim:
    run_id: int
    shard: int
    kind: str
    dataset_id: int
    config: dict[str, Any]
    pairs: list[int]
    token: str
    attempt: int
    """Of the run: more than 1 if all of its workers were lost."""
    revision: int
    created_at: datetime
    begins: bool
    """Whether the run waited for a worker until now."""


class Ended(NamedTuple):
    """What became of a run as a shard of it ended."""

    revision: int
    status: str
    """The run's: running where other shards are left."""


def is_open(now: datetime | None = None) -> ColumnElement[bool]:
    """Condition on a run: it is done in shards, and a worker may take one that is free."""
    no_other = or_(Run.lease_token.is_(None), Run.lease_expires_at < clock(now))
    return and_(
        Run.kind.in_(SHARDED),
        or_(
            Run.status == "queued",
            # With a token it is a worker's of before there were shards.
            and_(Run.status == "running", no_other, Run.cancel_requested.is_(False)),
        ),
    )


def may_try(run_id: ColumnElement[int], worker: str, silent_for: timedelta) -> ColumnElement[bool]:
    """Condition on a run, by its id: the worker has the device for it, and has failed at no shard
    of it, or nobody else is there who has not."""
    hopeful = or_(~has_failed(run_id, literal(worker)), ~_another_may(run_id, silent_for))
    return and_(is_on_device_of(worker, silent_for), hopeful)


def _another_may(run_id: ColumnElement[int], silent_for: timedelta) -> ColumnElement[bool]:
    """Whether there is a worker with the device for a run, idle or with it, that has failed at no
    shard of it."""
    worker, run = aliased(Worker), aliased(Run)
    return exists().where(
        or_(~exists().where(run.id == run_id, asks_for_gpu(run)), has_gpu(worker)),
        worker.seen_at > func.clock_timestamp() - silent_for,
        or_(worker.run_id.is_(None), worker.run_id == run_id),
        ~has_failed(run_id, worker.name),
    )


def claim(
    session: Session, run_id: int, worker: str, lease: timedelta, now: datetime | None = None
) -> ShardClaim | None:
    """Claim a free shard of a run, which is cut into shards first where it was not yet. None if it
    has no free shard, is over, or is not done in shards."""
    begins = or_(Run.status == "queued", Run.lease_expires_at < clock(now))
    found = session.execute(
        select(Run, begins.label("begins"))
        .where(Run.id == run_id, is_open(now), may_try(literal(run_id), worker, lease))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        return None
    run: Run = found.Run
    plan(session, run)
    taken = take(session, run_id, worker, lease, is_free(now), now)
    if taken is None:
        return None
    total, done = session.execute(
        select(func.sum(RunShard.total), func.sum(RunShard.done)).where(RunShard.run_id == run_id)
    ).one()
    values: dict[str, Any] = {
        "status": "running",
        "worker": worker,
        "lease_token": None,
        "lease_expires_at": clock(now) + lease,
        "started_at": func.coalesce(Run.started_at, clock(now)),
        "reported_at": clock(now),
        "finished_at": None,
        "error": None,
        "progress_total": total,
        "progress_done": done,
        "revision": Run.revision + 1,
    }
    if found.begins:
        values |= {"attempts": Run.attempts + 1, **NO_PHASE}
    row = session.execute(
        update(Run).where(Run.id == run_id).values(**values).returning(Run.attempts, Run.revision)
    ).one()
    assert run.dataset_id is not None
    return ShardClaim(
        run_id,
        taken.shard,
        run.kind,
        run.dataset_id,
        run.config,
        taken.pairs,
        taken.lease_token,
        row.attempts,
        row.revision,
        run.created_at,
        found.begins,
    )


def renew(
    session: Session, run_id: int, token: str, lease: timedelta, now: datetime | None = None
) -> LeaseState:
    """The heartbeat: extend a shard's lease, and the run's. Not held: the shard is another
    worker's, or the run is over, or was deleted."""
    run = lock(session, run_id)
    until = clock(now) + lease
    if run is None or change_own(session, run_id, token, lease_expires_at=until) is None:
        return LeaseState(held=False, cancel_requested=False)
    session.execute(update(Run).where(Run.id == run_id).values(lease_expires_at=until))
    return LeaseState(held=True, cancel_requested=run.cancel_requested)


def read_state(session: Session, run_id: int, token: str) -> LeaseState:
    """Read the state of the lease without extending it: cheap enough for several times a second."""
    cancel = session.execute(
        select(Run.cancel_requested)
        .join(RunShard, RunShard.run_id == Run.id)
        .where(Run.id == run_id, Run.status == "running", is_own(run_id, token))
    ).scalar_one_or_none()
    return LeaseState(cancel is not None, bool(cancel))


def finish(
    session: Session,
    run_id: int,
    token: str,
    found: dict[str, Any],
    summarize: Callable[[Session], dict[str, Any]],
    now: datetime | None = None,
) -> Ended | None:
    """End a shard and, with the last one, the run. None: the lease is lost.

    found: how it was computed, beside what is stored of it already. summarize: gives the summary
    of the run; what it raises leaves the shard as it was.
    """
    if lock(session, run_id) is None:
        return None
    own = change_own(
        session,
        run_id,
        token,
        **NO_LEASE,
        status="done",
        found=RunShard.found.op("||")(found),
        finished_at=clock(now),
    )
    if own is None:
        return None
    unfinished = exists().where(RunShard.run_id == run_id, RunShard.status != "done")
    if session.scalar(select(unfinished)):
        return _changed(session, run_id)
    return end(session, run_id, "succeeded", summary=summarize(session), now=now)


def cancel(session: Session, run_id: int, token: str, now: datetime | None = None) -> Ended | None:
    """End a run as cancelled, for all of its workers. None: the lease is lost."""
    if lock(session, run_id) is None:
        return None
    if change_own(session, run_id, token, **NO_LEASE, status="queued") is None:
        return None
    return end(session, run_id, "cancelled", now=now)


def fail(
    session: Session,
    run_id: int,
    token: str,
    error: dict[str, Any],
    lease: timedelta,
    *,
    for_good: bool,
    now: datetime | None = None,
) -> Ended | None:
    """Give a shard up to another worker that may do better; else end the run as failed, for all of
    its workers: after MAX_TRIES, or where none is live that has not failed. None: the lease is
    lost.

    for_good: the pairs or the configuration are at fault, so nobody would do better.
    """
    if lock(session, run_id) is None:
        return None
    failed_by = func.array_append(RunShard.failed_by, RunShard.worker)
    own = change_own(session, run_id, token, failed_by=failed_by)
    if own is None:
        return None
    hopeful = session.scalar(select(_another_may(literal(run_id), lease)))
    if for_good or own.tries_here >= MAX_TRIES or not hopeful:
        return end(session, run_id, "failed", error=error, now=now)
    change_own(session, run_id, token, **NO_LEASE, status="queued")
    add_messages(
        session,
        run_id,
        [f"The worker {own.worker} gave its part of the run up to others: {error['message']}"],
    )
    return _wait_unless_held(session, run_id)


def hand_back(session: Session, run_id: int, token: str) -> Ended | None:
    """Give up a shard whose worker is shutting down. Not counted as a try. None: lease lost."""
    if lock(session, run_id) is None:
        return None
    tries = RunShard.tries_here - 1
    own = change_own(session, run_id, token, **NO_LEASE, status="queued", tries_here=tries)
    if own is None:
        return None
    return _wait_unless_held(session, run_id, attempts=Run.attempts - 1)


def expire(session: Session, now: datetime | None = None) -> list[tuple[int, int]]:
    """Release shards whose lease expired: the run is failed after MAX_TRIES, cancelled if that was
    requested, or waits where nobody has another shard of it.

    Returns:
        (run id, revision) of each run that was changed.
    """
    is_silent = and_(RunShard.status == "running", RunShard.lease_expires_at < clock(now))
    silent = session.scalars(
        select(RunShard.run_id)
        .join(Run, Run.id == RunShard.run_id)
        .where(is_silent, Run.kind.in_(SHARDED))
        .distinct()
    ).all()
    changed = []
    for run_id in sorted(silent):
        run = lock(session, run_id, "running", "queued")
        released = session.scalars(
            update(RunShard)
            .where(RunShard.run_id == run_id, is_silent)
            .values(**NO_LEASE, status="queued")
            .returning(RunShard.tries_here)
        ).all()
        if run is None or not released:
            continue
        if max(released) >= MAX_TRIES:
            done = end(session, run_id, "failed", error=GAVE_UP, now=now)
        elif run.cancel_requested and not _is_worked_on(session, run_id):
            done = end(session, run_id, "cancelled", now=now)
        else:
            done = _wait_unless_held(session, run_id)
        changed.append((run_id, done.revision))
    return changed


def end(
    session: Session,
    run_id: int,
    status: str,
    *,
    summary: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    now: datetime | None = None,
) -> Ended:
    """End a run, which the caller has locked; whoever has a shard of it loses it."""
    session.execute(update(RunShard).where(is_held(run_id)).values(**NO_LEASE, status="queued"))
    revision = session.execute(
        update(Run)
        .where(Run.id == run_id)
        .values(**ended(status, summary, error, now))
        .returning(Run.revision)
    ).scalar_one()
    return Ended(revision, status)


def allow_again(session: Session, run_id: int) -> None:
    """Count the tries of a run's shards from zero: somebody decided to resume it."""
    session.execute(
        update(RunShard)
        .where(RunShard.run_id == run_id, RunShard.status != "done")
        .values(**NO_LEASE, status="queued", tries_here=0, failed_by=[])
    )


def _is_worked_on(session: Session, run_id: int) -> bool:
    return bool(session.scalar(select(exists().where(is_held(run_id)))))


def _wait_unless_held(session: Session, run_id: int, **values: Any) -> Ended:
    """Queue a run again unless somebody has a shard of it. values: changed only where it waits."""
    if _is_worked_on(session, run_id):
        return _changed(session, run_id)
    return _changed(
        session,
        run_id,
        status="queued",
        lease_expires_at=None,
        eta_seconds=None,
        **NO_PHASE,
        **values,
    )


def _changed(session: Session, run_id: int, **values: Any) -> Ended:
    row = session.execute(
        update(Run)
        .where(Run.id == run_id)
        .values(revision=Run.revision + 1, **values)
        .returning(Run.revision, Run.status)
    ).one()
    return Ended(row.revision, row.status)

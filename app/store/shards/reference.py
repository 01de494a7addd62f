"""Shards of the reference pass of training runs, with which idle workers help.

A training run is one worker's, under the lease of the run. While that worker computes the
log-probabilities of the reference, whoever is idle helps: each of the shards that the run's pairs
are cut into has a lease of its own, and is computed by whoever has it, the training worker or a
helper. The training worker goes on once all are done. A helper neither renews the lease of the run
nor ends the run; one that fails leaves its shard to the others.

Where the training worker is lost, helpers finish what they have; the next one reads it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, literal, not_, select, update
from sqlalchemy.orm import Session

from app.store.leases import LeaseState, clock
from app.store.recording import Batch, StaleLeaseError, add_messages, write_records
from app.store.runs import SHARDED, Run
from app.store.shards.leasing import (
    NO_LEASE,
    change_own,
    has_failed,
    is_free,
    is_own,
    is_unheld,
    lock,
    take,
)
from app.store.shards.planning import drop, plan_reference
from app.store.shards.progress import read_progress
from app.store.shards.recording import columns_of_shard, progress_of_all
from app.store.shards.tables import RunShard
from chesboard.reporting import PhaseName

PHASE: PhaseName = "reference pass"
"""While a training run is in it, shards can be claimed."""
UNIT = "pairs"

_GOES_ON = ("running", "queued")
"""Statuses of a run whose shards are worth finishing."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A training run that can be helped with."""

    run_id: int
    dataset_id: int
    config: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ReferenceClaim:
    run_id: int
    shard: int
    pairs: list[int]
    token: str


def plan(session: Session, run_id: int, token: str, pairs: list[int]) -> int:
    """Cut the pairs that a run trains on into shards, and return their number; 0 where one worker
    should do it alone, or the lease of the run, which has this token, is lost."""
    run = _locked(session, run_id, _is_held_by(token))
    return 0 if run is None else plan_reference(session, run, pairs)


def forget(session: Session, run_id: int, token: str) -> None:
    """Remove the shards of a run whose reference is computed otherwise."""
    if _locked(session, run_id, _is_held_by(token)) is not None:
        drop(session, run_id)


def is_open(now: datetime | None = None) -> ColumnElement[bool]:
    """Condition on a run: it is in its reference pass, and has a shard that a helper may take."""
    shard = exists().where(RunShard.run_id == Run.id, is_free(now))
    return and_(_is_in_pass(), shard.correlate(Run))


def offer(session: Session, run_id: int, worker: str) -> Offer | None:
    """What a helper needs to know before it claims a shard, to load the model; None if there is
    nothing that this worker could help with."""
    row = session.execute(
        select(Run.dataset_id, Run.config, Run.created_at).where(
            Run.id == run_id, is_open(), not_(has_failed(literal(run_id), literal(worker)))
        )
    ).one_or_none()
    return None if row is None else Offer(run_id, row.dataset_id, row.config, row.created_at)


def claim(
    session: Session, run_id: int, worker: str, lease: timedelta, now: datetime | None = None
) -> ReferenceClaim | None:
    """Claim a free shard for a helper. None: there is none, or it is not this worker's to take."""
    may = and_(_is_in_pass(), not_(has_failed(literal(run_id), literal(worker))))
    if _locked(session, run_id, may) is None:
        return None
    return _taken(session, run_id, take(session, run_id, worker, lease, is_free(now), now))


def claim_own(
    session: Session, run_id: int, token: str, lease: timedelta, now: datetime | None = None
) -> ReferenceClaim | None:
    """Claim a shard for the training worker, which has the run by this token: also one that was
    tried too often, as there is nobody else to do it. None: others have what is left, or the run is
    no longer this worker's."""
    run = _locked(session, run_id, _is_held_by(token))
    if run is None:
        return None
    assert run.worker is not None
    return _taken(session, run_id, take(session, run_id, run.worker, lease, is_unheld(now), now))


def _taken(session: Session, run_id: int, taken: Any | None) -> ReferenceClaim | None:
    if taken is None:
        return None
    _touch(session, run_id)
    return ReferenceClaim(run_id, taken.shard, taken.pairs, taken.lease_token)


def is_complete(session: Session, run_id: int) -> bool:
    """Whether all shards of a run are done."""
    return not session.scalar(
        select(exists().where(RunShard.run_id == run_id, RunShard.status != "done"))
    )


def renew(
    session: Session, run_id: int, token: str, lease: timedelta, now: datetime | None = None
) -> LeaseState:
    """The heartbeat: extend a shard's lease. Not held: the shard is another worker's, or the run is
    over, or was deleted."""
    session.execute(
        update(RunShard).where(is_own(run_id, token)).values(lease_expires_at=clock(now) + lease)
    )
    return read_state(session, run_id, token)


def read_state(session: Session, run_id: int, token: str) -> LeaseState:
    """Read the state of the lease without extending it: cheap enough for several times a second."""
    cancel = session.execute(
        select(Run.cancel_requested)
        .join(RunShard, RunShard.run_id == Run.id)
        .where(Run.id == run_id, Run.status.in_(_GOES_ON), is_own(run_id, token))
    ).scalar_one_or_none()
    return LeaseState(cancel is not None, bool(cancel))


def write(session: Session, run_id: int, token: str, batch: Batch, lease: timedelta) -> int:
    """Store a batch of a shard, renew its lease and return the run's new revision. In its reference
    pass the run shows the progress and time left of all who take part.

    Raises:
        StaleLeaseError: the lease is no longer this worker's; nothing is written.
    """
    run = lock(session, run_id, *_GOES_ON)
    until = clock(None) + lease
    values = columns_of_shard(batch)
    if run is None or not change_own(session, run_id, token, lease_expires_at=until, **values):
        raise StaleLeaseError(f"a shard of run {run_id} is no longer this worker's")
    columns: dict[str, Any] = {"reported_at": func.clock_timestamp()}
    if batch.has_durable_progress and run.status == "running":
        columns["tries_here"] = 1  # the current attempt
    if run.phase == PHASE:
        columns |= progress_of_all(read_progress(session, run_id), UNIT, is_of_phase=True)
    revision = _touch(session, run_id, **columns)
    assert revision is not None
    write_records(session, run_id, revision, batch.records)
    add_messages(session, run_id, batch.messages)
    return revision


def finish(session: Session, run_id: int, token: str, now: datetime | None = None) -> int | None:
    """End a shard; returns the run's revision. None: the lease is lost."""
    if lock(session, run_id, *_GOES_ON) is None:
        return None
    values = {**NO_LEASE, "status": "done", "finished_at": clock(now)}
    if change_own(session, run_id, token, **values) is None:
        return None
    return _touch(session, run_id)


def release(session: Session, run_id: int, token: str) -> int | None:
    """Give a shard back whose worker must stop. Not counted as a try. None: the lease is lost."""
    revision = _touch(session, run_id)
    tries = RunShard.tries_here - 1
    if change_own(session, run_id, token, **NO_LEASE, status="queued", tries_here=tries) is None:
        return None
    return revision


def give_up(session: Session, run_id: int, worker: str, why: str) -> int | None:
    """Leave a run to others, as this worker failed at helping with it: it gets no shard of it any
    more. Returns the run's revision; None: it was deleted."""
    revision = _touch(session, run_id)
    if revision is None:
        return None
    first = select(func.min(RunShard.shard)).where(RunShard.run_id == run_id).scalar_subquery()
    session.execute(
        update(RunShard)
        .where(RunShard.run_id == run_id, RunShard.shard == first)
        .values(failed_by=func.array_append(RunShard.failed_by, worker))
    )
    text = f"The worker {worker} could not help with the reference pass: {why}"
    add_messages(session, run_id, [text])
    return revision


def expire(session: Session, now: datetime | None = None) -> None:
    """Release shards whose lease expired, so that none seems to be worked on. Each can be claimed
    before that."""
    of_training = exists().where(Run.id == RunShard.run_id, Run.kind.not_in(SHARDED))
    session.execute(
        update(RunShard)
        .where(RunShard.status == "running", RunShard.lease_expires_at < clock(now), of_training)
        .values(**NO_LEASE, status="queued")
    )


def _is_in_pass() -> ColumnElement[bool]:
    return and_(
        Run.kind == "train",
        Run.status == "running",
        Run.phase == PHASE,
        Run.cancel_requested.is_(False),
    )


def _is_held_by(token: str) -> ColumnElement[bool]:
    return and_(Run.status == "running", Run.lease_token == token)


def _locked(session: Session, run_id: int, condition: ColumnElement[bool]) -> Run | None:
    return session.scalars(
        select(Run)
        .where(Run.id == run_id, condition)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _touch(session: Session, run_id: int, **columns: Any) -> int | None:
    """Write the row of a run, which locks it; returns its new revision, None if it was deleted."""
    return session.execute(
        update(Run)
        .where(Run.id == run_id)
        .values(revision=Run.revision + 1, **columns)
        .returning(Run.revision)
    ).scalar_one_or_none()

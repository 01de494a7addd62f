"""The queue: what a worker can take next, and how many workers it has work for."""

from datetime import datetime, timedelta

from sqlalchemy import and_, exists, func, literal, or_, select
from sqlalchemy.orm import Session

from app.store import leases, seats
from app.store.devices import is_on_device_of
from app.store.run_seats import RunSeat
from app.store.runs import Run, Worker
from app.store.shards import claims, reference
from app.store.shards.leasing import has_failed, is_free
from app.store.shards.tables import RunShard


def next_claimable(
    session: Session,
    worker: str | None = None,
    silent_for: timedelta = timedelta(0),
    now: datetime | None = None,
    offer: seats.Offer | None = None,
) -> int | None:
    """The oldest run that can be claimed, or of which a shard can be, of its reference pass if it
    is a training run; before these a run of which a seat is free.

    worker: leaves out those that it should leave to others, seen within `silent_for`. offer: what
    it trains with; None: the seats that any worker may take.
    """
    seated = session.scalar(select(func.min(RunSeat.run_id)).where(seats.is_free(offer, now)))
    if seated is not None:
        return seated
    run_id = Run.__table__.c.id
    in_shards = and_(
        claims.is_open(now),
        or_(
            ~exists().where(RunShard.run_id == run_id),
            exists().where(RunShard.run_id == run_id, is_free(now)),
        ),
    )
    whole = leases.is_claimable(now)
    helps = reference.is_open(now)
    if worker is not None:
        whole = and_(whole, is_on_device_of(worker, silent_for))
        in_shards = and_(in_shards, claims.may_try(run_id, worker, silent_for))
        helps = and_(helps, ~has_failed(run_id, literal(worker)))
    claimable = or_(whole, in_shards, helps)
    return session.execute(
        select(Run.id).where(claimable).order_by(Run.id).limit(1)
    ).scalar_one_or_none()


def places(session: Session, run_id: int, now: datetime | None = None) -> int:
    """How many workers can take a part of a run that is not over: its free seats or shards; one
    where it has neither."""
    free_seats = session.scalar(
        select(func.count()).where(RunSeat.run_id == run_id, seats.is_free(now=now))
    )
    if free_seats:
        return free_seats
    free, shards = session.execute(
        select(func.count().filter(is_free(now)), func.count()).where(RunShard.run_id == run_id)
    ).one()
    return int(free) if shards else 1


def idle_workers(session: Session, silent_for: timedelta) -> int:
    """How many workers have no run and sent a heartbeat within `silent_for`."""
    return session.execute(
        select(func.count())
        .select_from(Worker)
        .where(Worker.run_id.is_(None), Worker.seen_at > func.clock_timestamp() - silent_for)
    ).scalar_one()

"""Seats: the places of workers, on one machine or several, that train one model together.

A worker with `--seats N` that claims a training run opens N seats for this attempt at it. It has
the first itself, under the run's lease: it alone records. Each of the others is taken by a worker
of the same kind, with a lease of its own, and is ready once that worker can begin. A seat belongs
to the attempt whose lease token the run has: with that lease all seats are over. Once all are
ready the attempt begins, for all of them at once: from then on a seat that is lost is no other
worker's to take.

Claims of such workers take turns, and none opens seats while others are to be taken: so two that
are idle never wait for each other at two runs.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from app.store import leases
from app.store.leases import Claim, LeaseState, clock
from app.store.run_seats import RunSeat
from app.store.runs import Run, Worker

# An arbitrary key of a PostgreSQL advisory lock.
ADVISORY_LOCK = 5_020_417_320_116


_RUN = aliased(Run)
"""A seat's, where it is asked for within another query about runs."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker trains with: so many GPUs of its own, and seats of as many workers."""

    gpus: int
    seats: int

    @property
    def command(self) -> str:
        """How such a worker is started."""
        return f"chesboard worker --gpus {self.gpus} --seats {self.seats}"


@dataclass(frozen=True, slots=True)
class SeatClaim:
    run: Claim
    """That of the first seat."""
    seat: int
    token: str


@dataclass(frozen=True, slots=True)
class SeatState:
    seat: int
    gpus: int
    worker: str | None
    taken_at: datetime | None
    ready: bool
    begun: bool
    silent: bool
    """Whether its lease has expired."""
    host: str | None
    port: int | None
    marker: str | None
    results: list[dict[str, Any] | None] | None


def claim(
    session: Session,
    run_id: int,
    worker: str,
    lease: timedelta,
    offer: Offer,
    now: datetime | None = None,
) -> Claim | None:
    """Claim a run as `leases.claim` does, and open its seats where it is a training run. None also
    where the worker is to take a seat of another run first."""
    if offer.seats == 1:
        return leases.claim(session, run_id, worker, lease, now)
    _take_turns(session)
    if session.scalar(select(exists().where(is_free(offer, now)))):
        return None
    claimed = leases.claim(session, run_id, worker, lease, now)
    if claimed is not None and claimed.kind == "train":
        _open(session, claimed, worker, offer, now)
    return claimed


def _take_turns(session: Session) -> None:
    session.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))


def _open(
    session: Session, claimed: Claim, worker: str, offer: Offer, now: datetime | None
) -> None:
    # Those of earlier attempts, and of runs whose first worker was lost and which are over.
    session.execute(delete(RunSeat).where(~_is_current()))
    session.add_all(
        RunSeat(
            run_id=claimed.run_id,
            seat=seat,
            attempt_token=claimed.token,
            seats=offer.seats,
            gpus=offer.gpus,
            worker=worker if seat == 0 else None,
            taken_at=clock(now) if seat == 0 else None,
        )
        for seat in range(offer.seats)
    )
    session.flush()


def _is_current(*more: ColumnElement[bool]) -> ColumnElement[bool]:
    """Condition on a seat: its attempt is the run's present one. more: of the run."""
    return exists().where(
        _RUN.id == RunSeat.run_id,
        _RUN.status == "running",
        _RUN.lease_token == RunSeat.attempt_token,
        *more,
    )


def is_free(offer: Offer | None = None, now: datetime | None = None) -> ColumnElement[bool]:
    """Condition on a seat: a worker with this offer may take it; None: any worker."""
    is_waiting = _is_current(_RUN.cancel_requested.is_(False), _RUN.lease_expires_at >= clock(now))
    free = and_(RunSeat.worker.is_(None), RunSeat.begun.is_(False), is_waiting)
    if offer is None:
        return free
    return and_(free, RunSeat.seats == offer.seats, RunSeat.gpus == offer.gpus)


def sit(
    session: Session,
    run_id: int,
    worker: str,
    lease: timedelta,
    offer: Offer,
    now: datetime | None = None,
) -> SeatClaim | None:
    """Take a free seat of a run. None if it has none for this worker."""
    free = (
        select(RunSeat.seat)
        .where(RunSeat.run_id == run_id, is_free(offer, now))
        .order_by(RunSeat.seat)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    token = uuid.uuid4().hex
    taken = session.execute(
        update(RunSeat)
        .where(RunSeat.run_id == run_id, RunSeat.seat == free.scalar_subquery())
        .values(
            worker=worker,
            taken_at=clock(now),
            lease_token=token,
            lease_expires_at=clock(now) + lease,
        )
        .returning(RunSeat.seat, RunSeat.attempt_token)
    ).one_or_none()
    if taken is None:
        return None
    run = session.get_one(Run, run_id)
    assert run.dataset_id is not None  # only an external run has none
    return SeatClaim(
        Claim(
            run_id,
            run.kind,
            run.dataset_id,
            run.config,
            taken.attempt_token,
            run.attempts,
            run.revision,
            run.created_at,
        ),
        taken.seat,
        token,
    )


def _own(run_id: int, token: str) -> ColumnElement[bool]:
    return and_(RunSeat.run_id == run_id, RunSeat.lease_token == token)


def renew(
    session: Session, run_id: int, token: str, lease: timedelta, now: datetime | None = None
) -> LeaseState:
    """The heartbeat: extend the lease of a seat. Not held: the attempt is over, or the seat
    another worker's."""
    session.execute(
        update(RunSeat)
        .where(_own(run_id, token), _is_current())
        .values(lease_expires_at=clock(now) + lease)
    )
    return read_state(session, run_id, token)


def read_state(session: Session, run_id: int, token: str) -> LeaseState:
    """Read the state of a seat's lease without extending it."""
    cancel = session.execute(
        select(Run.cancel_requested)
        .join(RunSeat, RunSeat.run_id == Run.id)
        .where(_own(run_id, token), _is_current())
    ).scalar_one_or_none()
    return LeaseState(cancel is not None, bool(cancel))


def receive(
    session: Session, run_id: int, attempt_token: str, host: str, port: int, marker: str
) -> None:
    """Tell where the first seat is, and which file all others must see."""
    session.execute(
        update(RunSeat)
        .where(RunSeat.run_id == run_id, RunSeat.attempt_token == attempt_token, RunSeat.seat == 0)
        .values(host=host, port=port, marker=marker, ready=True)
    )


def get_ready(session: Session, run_id: int, token: str, host: str, port: int) -> None:
    """Tell that the worker of a seat can begin, and where it is."""
    session.execute(
        update(RunSeat).where(_own(run_id, token)).values(host=host, port=port, ready=True)
    )


def begin(session: Session, run_id: int, attempt_token: str, now: datetime | None = None) -> bool:
    """Let all seats of an attempt begin, and close it to other workers. False, and nothing is
    changed, unless each of them is ready, and its worker neither silent nor done."""
    of_attempt = and_(RunSeat.run_id == run_id, RunSeat.attempt_token == attempt_token)
    is_able = and_(
        RunSeat.ready,
        RunSeat.results.is_(None),
        func.coalesce(RunSeat.lease_expires_at >= clock(now), True),  # the first's is the run's
    )
    locked = select(is_able).where(of_attempt).order_by(RunSeat.seat).with_for_update()
    able = session.scalars(locked).all()
    if not able or not all(able):
        return False
    session.execute(update(RunSeat).where(of_attempt).values(begun=True))
    return True


def tell(session: Session, run_id: int, token: str, results: list[dict[str, Any] | None]) -> None:
    """Tell how the processes of a seat ended. Its lease needs no more renewal."""
    session.execute(
        update(RunSeat).where(_own(run_id, token)).values(results=results, lease_expires_at=None)
    )


_FREE: dict[str, Any] = {
    "worker": None,
    "taken_at": None,
    "lease_token": None,
    "lease_expires_at": None,
    "ready": False,
    "host": None,
    "port": None,
}


def leave(session: Session, run_id: int, token: str) -> None:
    """Give a seat up."""
    session.execute(update(RunSeat).where(_own(run_id, token)).values(**_FREE))


def free_silent(
    session: Session, run_id: int, attempt_token: str, now: datetime | None = None
) -> None:
    """Free the seats of lost workers, for others to take: before they begin."""
    session.execute(
        update(RunSeat)
        .where(
            RunSeat.run_id == run_id,
            RunSeat.attempt_token == attempt_token,
            RunSeat.lease_expires_at < clock(now),
        )
        .values(**_FREE)
    )


def read(
    session: Session, run_id: int, attempt_token: str, now: datetime | None = None
) -> list[SeatState]:
    """All seats of an attempt, the first one first; none if it is over."""
    rows = session.execute(
        select(
            RunSeat.seat,
            RunSeat.gpus,
            RunSeat.worker,
            RunSeat.taken_at,
            RunSeat.ready,
            RunSeat.begun,
            func.coalesce(RunSeat.lease_expires_at < clock(now), False).label("silent"),
            RunSeat.host,
            RunSeat.port,
            RunSeat.marker,
            RunSeat.results,
        )
        .where(RunSeat.run_id == run_id, RunSeat.attempt_token == attempt_token)
        .order_by(RunSeat.seat)
    )
    return [SeatState(**row._mapping) for row in rows]


def close(session: Session, run_id: int, attempt_token: str) -> None:
    """End an attempt for all of its seats: whoever has one loses it."""
    session.execute(
        delete(RunSeat).where(RunSeat.run_id == run_id, RunSeat.attempt_token == attempt_token)
    )


def count_workers(session: Session, offer: Offer, silent_for: timedelta) -> int:
    """How many live workers have the same offer, busy ones and this one included."""
    return session.execute(
        select(func.count())
        .select_from(Worker)
        .where(
            Worker.seen_at > func.clock_timestamp() - silent_for,
            Worker.report["seats"].as_integer() == offer.seats,
            Worker.report["gpus"].as_integer() == offer.gpus,
        )
    ).scalar_one()

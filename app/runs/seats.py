"""The seats of a training run that several workers do together, and who has them."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.store import seats
from app.store.lookup import require_run
from app.store.seats import Offer, SeatState

State = Literal["free", "getting ready", "ready", "at work", "done", "lost"]


class Seat(BaseModel):
    seat: int = Field(description="From 0, that of the worker that claimed the run and records.")
    worker: str | None = Field(description="Who has it; null: nobody.")
    processes: int = Field(description="How many its worker trains with, one a GPU.")
    state: State = Field(
        description="'free': no worker has it yet. 'getting ready': its worker looks for the "
        "model, the folder and the others. 'ready': it waits for the others. 'at work': its "
        "processes train. 'done': they have ended. 'lost': its worker is silent or gone, and the "
        "run is about to go on from its last checkpoint."
    )
    taken_at: datetime | None = Field(description="Since when its worker has it.")

    @classmethod
    def of(cls, found: SeatState) -> Self:
        return cls(
            seat=found.seat,
            worker=found.worker,
            processes=found.gpus,
            state=_state(found),
            taken_at=found.taken_at,
        )


def _state(found: SeatState) -> State:
    if found.silent or (found.begun and found.worker is None):
        return "lost"
    if found.worker is None:
        return "free"
    if found.results is not None:
        return "done"
    if found.begun:
        return "at work"
    return "ready" if found.ready else "getting ready"


class RunSeats(BaseModel):
    """The places of workers that train a run together, in its present attempt."""

    total: int = Field(
        description="Number of seats; 0 for a run that no worker has, or one does alone."
    )
    taken: int
    begun: bool = Field(description="Whether all were ready, and their processes were started.")
    workers_there: int = Field(
        description="Live workers that were started with as many GPUs and seats, those that have "
        "seats or other runs included."
    )
    note: str | None = Field(
        description="What a run lacks that waits for seats, and what to do about it."
    )
    items: list[Seat]


def list_seats(session: Session, run_id: int) -> RunSeats:
    """Raises:
    NotFoundError: no such run.
    """
    run = require_run(session, run_id)
    found = seats.read(session, run_id, run.lease_token) if run.lease_token else []
    if not found:
        return RunSeats(total=0, taken=0, begun=False, workers_there=0, note=None, items=[])
    offer = Offer(found[0].gpus, len(found))
    there = seats.count_workers(session, offer, get_settings().lease)
    taken, begun = sum(one.worker is not None for one in found), found[0].begun
    return RunSeats(
        total=len(found),
        taken=taken,
        begun=begun,
        workers_there=there,
        note=None if begun else _note(offer, taken, there),
        items=[Seat.of(one) for one in found],
    )


def _note(offer: Offer, taken: int, there: int) -> str:
    free, lacking = offer.seats - taken, offer.seats - max(taken, there)
    if not free:
        return "All workers are there. The run begins once each is ready."
    if not lacking:
        return (
            "Workers enough are there. Those that are busy take their seats as soon as they are "
            "idle."
        )
    return (
        f"{lacking} more {'worker is' if lacking == 1 else 'workers are'} needed. Start "
        f"{'it' if lacking == 1 else 'each'} with `{offer.command}`."
    )

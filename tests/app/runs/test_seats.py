"""What the API says of the workers that train a run together."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app.store import leases, seats
from app.store.leases import Claim
from app.store.run_seats import RunSeat
from app.store.runs import Worker
from app.store.seats import Offer, SeatClaim
from tests.app import factories

LEASE = timedelta(minutes=10)
OFFER = Offer(gpus=4, seats=2)


@pytest.fixture
def first(session: Session) -> Claim:
    """The claim of ada, who waits for another."""
    run = factories.run(session, factories.dataset(session).id, status="queued")
    claimed = seats.claim(session, run.id, "ada", LEASE, OFFER)
    assert claimed is not None
    session.commit()
    return claimed


def found(client: TestClient, run_id: int) -> dict[str, Any]:
    answer = client.get(f"/api/v1/runs/{run_id}/seats")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def announce(session: Session, *names: str) -> None:
    report = {"gpus": OFFER.gpus, "seats": OFFER.seats}
    session.add_all(Worker(name=name, device="cpu", report=report) for name in names)
    session.commit()


def sit(session: Session, first: Claim) -> SeatClaim:
    taken = seats.sit(session, first.run_id, "grace", LEASE, OFFER)
    assert taken is not None
    session.commit()
    return taken


def states(client: TestClient, run_id: int) -> list[str]:
    return [one["state"] for one in found(client, run_id)["items"]]


def test_a_run_that_waits_tells_who_is_there_and_how_many_it_lacks(
    client: TestClient, session: Session, first: Claim
) -> None:
    announce(session, "ada")
    told = found(client, first.run_id)
    assert (told["total"], told["taken"], told["begun"], told["workers_there"]) == (2, 1, False, 1)
    one, two = told["items"]
    assert (one["seat"], one["worker"], one["processes"], one["state"]) == (
        *(0, "ada", 4, "getting ready"),
    )
    assert one["taken_at"] is not None
    assert (two["worker"], two["state"], two["taken_at"]) == (None, "free", None)
    assert told["note"] == (
        "1 more worker is needed. Start it with `chesboard worker --gpus 4 --seats 2`."
    )


def test_where_the_others_are_busy_none_has_to_be_started(
    client: TestClient, session: Session, first: Claim
) -> None:
    announce(session, "ada", "grace")
    told = found(client, first.run_id)
    assert told["workers_there"] == 2
    assert told["note"].startswith("Workers enough are there.")


def test_each_seat_tells_how_far_its_worker_is(
    client: TestClient, session: Session, first: Claim
) -> None:
    taken = sit(session, first)
    told = found(client, first.run_id)
    assert [one["worker"] for one in told["items"]] == ["ada", "grace"]
    assert told["note"] == "All workers are there. The run begins once each is ready."
    seats.receive(session, first.run_id, first.token, "10.0.0.1", 4711, "m")
    session.commit()
    assert states(client, first.run_id) == ["ready", "getting ready"]
    seats.get_ready(session, first.run_id, taken.token, "10.0.0.2", 4712)
    assert seats.begin(session, first.run_id, first.token)
    session.commit()
    told = found(client, first.run_id)
    assert (told["begun"], told["note"]) == (True, None)
    assert states(client, first.run_id) == ["at work", "at work"]
    seats.tell(session, first.run_id, taken.token, [{"status": "succeeded"}])
    session.commit()
    assert states(client, first.run_id) == ["at work", "done"]


@pytest.mark.parametrize("loss", ["silent", "left"])
def test_a_seat_whose_worker_is_lost(
    client: TestClient, session: Session, first: Claim, loss: str
) -> None:
    taken = sit(session, first)
    session.execute(update(RunSeat).values(begun=True))
    if loss == "left":
        seats.leave(session, first.run_id, taken.token)
    else:
        silent = {"lease_expires_at": func.now() - LEASE}
        session.execute(update(RunSeat).where(RunSeat.seat == 1).values(silent))
    session.commit()
    assert states(client, first.run_id) == ["at work", "lost"]


def test_a_run_that_is_over_or_one_workers_has_none(
    client: TestClient, session: Session, first: Claim
) -> None:
    leases.finish(session, first.run_id, first.token, "cancelled")
    alone = factories.run(session, factories.dataset(session).id)
    session.commit()
    for run_id in (first.run_id, alone.id):
        told = found(client, run_id)
        assert (told["total"], told["items"], told["note"]) == (0, [], None)
    assert client.get("/api/v1/runs/99/seats").status_code == 404

"""Which worker has which seat of a run. Time is driven by hand through `now`."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func

from app.core.database import transaction
from app.store import leases, queue, seats
from app.store.leases import Claim, LeaseState
from app.store.run_seats import RunSeat
from app.store.runs import Run, Worker
from app.store.seats import Offer, SeatClaim, SeatState
from tests.app import factories

LEASE = timedelta(seconds=30)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + 2 * LEASE
TWO = Offer(gpus=4, seats=2)
HELD = LeaseState(held=True, cancel_requested=False)
LOST = LeaseState(held=False, cancel_requested=False)


def queued(kind: str = "train") -> int:
    with transaction() as session:
        dataset = factories.dataset(session)
        return factories.run(session, dataset.id, kind=kind, status="queued").id


@pytest.fixture
def run_id(database: Any) -> int:
    return queued()


def claim(run_id: int, worker: str = "ada", offer: Offer = TWO) -> Claim | None:
    with transaction() as session:
        return seats.claim(session, run_id, worker, LEASE, offer, NOON)


def sit(
    run_id: int, worker: str = "grace", offer: Offer = TWO, now: datetime = NOON
) -> SeatClaim | None:
    with transaction() as session:
        return seats.sit(session, run_id, worker, LEASE, offer, now)


def claimed(run_id: int, offer: Offer = TWO) -> Claim:
    found = claim(run_id, offer=offer)
    assert found is not None
    return found


def seated(run_id: int, worker: str = "grace", offer: Offer = TWO) -> SeatClaim:
    found = sit(run_id, worker, offer)
    assert found is not None
    return found


def read(first: Claim, now: datetime = NOON) -> list[SeatState]:
    with transaction() as session:
        return seats.read(session, first.run_id, first.token, now)


def renew(taken: SeatClaim, now: datetime = NOON) -> LeaseState:
    with transaction() as session:
        return seats.renew(session, taken.run.run_id, taken.token, LEASE, now)


def next_for(offer: Offer | None = None) -> int | None:
    with transaction() as session:
        return queue.next_claimable(session, now=NOON, offer=offer)


# --- taking seats --------------------------------------------------------------------------------


def test_who_claims_a_training_run_has_the_first_seat_and_another_takes_the_second(
    run_id: int,
) -> None:
    first = claimed(run_id)
    second = seated(run_id)
    assert second.seat == 1
    assert second.run == first  # with the token of the lease that it lasts as long as
    assert [(one.worker, one.ready) for one in read(first)] == [("ada", False), ("grace", False)]
    assert sit(run_id, "barbara") is None


def test_of_two_workers_at_once_one_takes_the_last_seat(run_id: int) -> None:
    first = claimed(run_id)
    found = []
    with transaction() as session:
        assert seats.sit(session, run_id, "grace", LEASE, TWO, NOON) is not None
        other = threading.Thread(target=lambda: found.append(sit(run_id, "barbara")))
        other.start()
        other.join(10)  # it does not wait for the row
    assert found == [None]
    assert read(first)[1].worker == "grace"


@pytest.mark.parametrize("offer", [Offer(2, 2), Offer(4, 3), Offer(4, 1)])
def test_a_seat_is_for_a_worker_with_as_many_gpus_and_seats(run_id: int, offer: Offer) -> None:
    claimed(run_id)
    assert sit(run_id, "grace", offer) is None
    assert next_for(offer) is None
    assert next_for(TWO) == run_id


def test_one_worker_alone_opens_no_seats(run_id: int) -> None:
    assert read(claimed(run_id, Offer(4, 1))) == []


def test_a_run_of_another_kind_is_one_worker_s(database: Any) -> None:
    run_id = queued("check")
    assert read(claimed(run_id)) == []
    assert sit(run_id) is None


def test_a_free_seat_comes_before_another_run(run_id: int) -> None:
    """Or both of two workers would wait for the other, each at a run of its own."""
    other = queued()
    claimed(other)
    assert next_for(TWO) == other
    assert claim(run_id, "grace") is None
    seated(other)
    assert next_for(TWO) == run_id
    assert claim(run_id, "barbara") is not None


def test_of_two_workers_that_claim_two_runs_at_once_one_is_told_to_take_a_seat(
    run_id: int,
) -> None:
    other, found = queued(), []
    with transaction() as session:
        assert seats.claim(session, run_id, "ada", LEASE, TWO) is not None
        second = threading.Thread(target=lambda: found.append(claim_now(other)))
        second.start()
        second.join(timeout=0.2)
        assert second.is_alive()  # their claims take turns
    second.join()
    assert found == [None]


def claim_now(run_id: int) -> Claim | None:
    with transaction() as session:
        return seats.claim(session, run_id, "grace", LEASE, TWO)


def test_idle_workers_are_woken_for_free_seats(run_id: int) -> None:
    claimed(run_id, Offer(1, 3))

    def waiting() -> tuple[int | None, int]:
        with transaction() as session:
            return queue.next_claimable(session, now=NOON), queue.places(session, run_id, NOON)

    assert waiting() == (run_id, 2)
    seated(run_id, offer=Offer(1, 3))
    assert waiting() == (run_id, 1)
    seated(run_id, "barbara", Offer(1, 3))
    assert waiting()[0] is None


# --- how long they last --------------------------------------------------------------------------


def test_a_seat_is_kept_by_renewing_its_lease_and_silent_without(run_id: int) -> None:
    first, second = claimed(run_id), seated(run_id)
    assert [one.silent for one in read(first, LATER)] == [False, True]
    assert renew(second, LATER) == HELD
    assert [one.silent for one in read(first, LATER)] == [False, False]


def test_a_cancel_reaches_every_seat(run_id: int) -> None:
    claimed(run_id)
    second = seated(run_id)
    with transaction() as session:
        session.get_one(Run, run_id).cancel_requested = True
    assert renew(second) == LeaseState(held=True, cancel_requested=True)


def test_seats_end_with_the_run_s_lease(run_id: int) -> None:
    first, second = claimed(run_id), seated(run_id)
    with transaction() as session:
        leases.expire(session, LATER)
    assert renew(second) == LOST
    again = claimed(run_id)  # in a new attempt they are open anew
    assert renew(second) == LOST
    assert read(first) == []
    assert [one.worker for one in read(again)] == ["ada", None]
    assert seated(run_id, "barbara").seat == 1


def test_no_seat_is_taken_of_a_run_that_is_cancelled_or_whose_worker_is_silent(
    run_id: int,
) -> None:
    claimed(run_id)
    assert sit(run_id, now=LATER) is None
    with transaction() as session:
        session.get_one(Run, run_id).cancel_requested = True
    assert sit(run_id) is None


def test_closing_ends_them_for_all(run_id: int) -> None:
    first, second = claimed(run_id), seated(run_id)
    with transaction() as session:
        seats.close(session, run_id, first.token)
    assert renew(second) == LOST
    assert read(first) == []


def test_a_seat_that_is_left_or_whose_worker_is_silent_is_free_for_another(run_id: int) -> None:
    first, second = claimed(run_id), seated(run_id)
    with transaction() as session:
        seats.leave(session, run_id, second.token)
    third = seated(run_id, "barbara")
    with transaction() as session:
        seats.get_ready(session, run_id, third.token, "10.0.0.2", 4712)
        seats.free_silent(session, run_id, first.token, NOON)
    assert read(first)[1].worker == "barbara"
    with transaction() as session:
        seats.free_silent(session, run_id, first.token, LATER)
    assert [(one.worker, one.ready) for one in read(first)] == [("ada", False), (None, False)]
    assert renew(third) == LOST


def be_ready(first: Claim, *others: SeatClaim) -> None:
    with transaction() as session:
        seats.receive(session, first.run_id, first.token, "10.0.0.1", 4711, "a marker")
        for one in others:
            seats.get_ready(session, first.run_id, one.token, "10.0.0.2", 4712)


def begin(first: Claim, now: datetime = NOON) -> bool:
    with transaction() as session:
        return seats.begin(session, first.run_id, first.token, now)


def test_an_attempt_begins_for_all_seats_once_all_are_ready(run_id: int) -> None:
    first, second = claimed(run_id), seated(run_id)
    be_ready(first)
    assert not begin(first)
    be_ready(first, second)
    assert not begin(first, LATER)  # one is silent
    assert [one.begun for one in read(first)] == [False, False]
    assert begin(first)
    assert [one.begun for one in read(first)] == [True, True]


def test_an_attempt_does_not_begin_with_a_seat_that_was_left_or_is_done(run_id: int) -> None:
    first, second = claimed(run_id), seated(run_id)
    be_ready(first, second)
    with transaction() as session:
        seats.leave(session, run_id, second.token)
    assert not begin(first)
    third = seated(run_id, "barbara")
    be_ready(first, third)
    with transaction() as session:
        seats.tell(session, run_id, third.token, [None])
    assert not begin(first)
    with transaction() as session:
        seats.close(session, run_id, first.token)
    assert not begin(first)


def test_a_seat_that_is_left_after_all_have_begun_is_no_other_s(run_id: int) -> None:
    """The attempt is over; who sat down now would find no first worker that waits for it."""
    first, second = claimed(run_id), seated(run_id)
    be_ready(first, second)
    assert begin(first)
    with transaction() as session:
        seats.leave(session, run_id, second.token)
    assert sit(run_id, "barbara") is None
    assert next_for(TWO) is None


def test_since_when_a_worker_has_its_seat_is_told(run_id: int) -> None:
    first = claimed(run_id)
    assert [one.taken_at for one in read(first)] == [NOON, None]
    second = seated(run_id)
    assert read(first)[1].taken_at == NOON
    with transaction() as session:
        seats.leave(session, run_id, second.token)
    assert read(first)[1].taken_at is None


def test_seats_that_nobody_ended_go_when_others_are_opened(run_id: int) -> None:
    first = claimed(run_id)
    with transaction() as session:
        leases.finish(session, run_id, first.token, "failed", error={"message": "lost"})
    claimed(queued())
    with transaction() as session:
        left = session.query(RunSeat).filter_by(run_id=run_id).count()
    assert left == 0


# --- what is told --------------------------------------------------------------------------------


def test_the_first_tells_where_it_is_and_the_others_when_they_are_ready_and_how_they_ended(
    run_id: int,
) -> None:
    first, second = claimed(run_id), seated(run_id)
    results = [{"status": "succeeded"}, None]
    with transaction() as session:
        seats.receive(session, run_id, first.token, "10.0.0.1", 4711, "a marker")
        seats.get_ready(session, run_id, second.token, "10.0.0.2", 4712)
    with transaction() as session:
        seats.tell(session, run_id, second.token, results)
    one, two = read(first, LATER)
    assert (one.host, one.port, one.marker, one.ready) == ("10.0.0.1", 4711, "a marker", True)
    # Its lease is not renewed any more, and does not run out.
    assert (two.ready, two.results, two.silent) == (True, results, False)
    assert (two.host, two.port) == ("10.0.0.2", 4712)


def test_workers_of_a_kind_are_counted_while_they_live(database: Any) -> None:
    with transaction() as session:
        for name, gpus, count, age in (
            ("ada", 4, 2, 0), ("grace", 4, 2, 0), ("barbara", 4, 2, 60), ("alan", 4, 1, 0),
        ):  # fmt: skip
            seen_at = func.now() - timedelta(seconds=age)
            report = {"gpus": gpus, "seats": count}
            session.add(Worker(name=name, device="cpu", report=report, seen_at=seen_at))
        session.add(Worker(name="of an earlier version", device="cpu", report={}))
    with transaction() as session:
        assert seats.count_workers(session, TWO, LEASE) == 2
        assert seats.count_workers(session, Offer(1, 2), LEASE) == 0

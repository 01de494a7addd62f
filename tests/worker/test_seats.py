"""The seats of a run as its first worker sees them."""

import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import update

from app.core.database import transaction
from app.core.settings import get_settings
from app.store import seats
from app.store.leases import Claim
from app.store.run_seats import RunSeat
from app.store.seats import Offer, SeatClaim, SeatState
from tests.app import factories
from tests.support import database_is_away, eventually
from worker import lease_keeper
from worker import seats as worker_seats
from worker.launching import Meeting, RanksLostError, write_result
from worker.seat_checks import listening
from worker.seats import FirstSeat, take_seat

OFFER = Offer(gpus=2, seats=3)
LEASE = timedelta(seconds=30)
DONE = {"status": "succeeded"}
STOPPED = {"status": "RunInterruptedError", "message": "the worker is shutting down"}
FAILED = {"status": "failed", "error": {"message": "too little memory"}, "lost_another": False}


@pytest.fixture
def claim(database: Any, monkeypatch: pytest.MonkeyPatch) -> Claim:
    """Of a run whose seats are those of ada, grace and barbara."""
    monkeypatch.setenv("CHESBOARD_GPUS", "2")
    monkeypatch.setenv("CHESBOARD_SEATS", "3")
    get_settings.cache_clear()
    monkeypatch.setattr(worker_seats, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(worker_seats, "LAST_WORDS_SECONDS", 0.3)
    with transaction() as session:
        run_id = factories.run(session, factories.dataset(session).id, status="queued").id
        claimed = seats.claim(session, run_id, "ada", LEASE, OFFER)
    assert claimed is not None
    return claimed


@pytest.fixture
def others(claim: Claim) -> list[SeatClaim]:
    found = []
    for worker in ("grace", "barbara"):
        with transaction() as session:
            found.append(seats.sit(session, claim.run_id, worker, LEASE, OFFER))
    return [one for one in found if one is not None]


def tell(seat: SeatClaim, *results: dict[str, Any] | None) -> None:
    with transaction() as session:
        seats.tell(session, seat.run.run_id, seat.token, list(results))


def are_lost(claim: Claim) -> bool:
    return FirstSeat(claim).are_lost()


def test_seats_whose_processes_run_have_ended_or_were_stopped_are_not_lost(
    claim: Claim, others: list[SeatClaim]
) -> None:
    """The first may still write a model, or a checkpoint, when the others are done."""
    assert not are_lost(claim)
    tell(others[0], DONE, DONE)
    tell(others[1], STOPPED, STOPPED)
    assert not are_lost(claim)


@pytest.mark.parametrize("results", [[FAILED, DONE], [DONE, None]])
def test_a_seat_with_a_process_that_failed_or_died_is_lost(
    claim: Claim, others: list[SeatClaim], results: list[dict[str, Any] | None]
) -> None:
    tell(others[1], *results)
    assert are_lost(claim)


def test_a_seat_whose_worker_is_silent_or_has_left_is_lost(
    claim: Claim, others: list[SeatClaim]
) -> None:
    with transaction() as session:
        seats.leave(session, claim.run_id, others[0].token)
    assert are_lost(claim)
    with transaction() as session:
        session.execute(update(RunSeat).where(RunSeat.seat == 1).values(worker="grace"))
    assert not are_lost(claim)
    silence(claim, seat=2)
    assert are_lost(claim)


def silence(claim: Claim, seat: int) -> None:
    with transaction() as session:
        ended = RunSeat.lease_expires_at - 2 * LEASE
        session.execute(update(RunSeat).where(RunSeat.seat == seat).values(lease_expires_at=ended))


def test_after_the_database_was_away_seats_get_a_lease_s_time_to_renew_theirs(
    claim: Claim, others: list[SeatClaim], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FirstSeat(claim)
    with monkeypatch.context() as outage:

        def away() -> None:
            raise database_is_away()

        outage.setattr(worker_seats, "transaction", away)
        assert not first.are_lost()
    silence(claim, seat=1)
    assert not first.are_lost()
    first._next_look = 0.0  # a lease later
    assert first.are_lost()


def test_the_first_reads_how_all_processes_ended(claim: Claim, others: list[SeatClaim]) -> None:
    tell(others[0], DONE, FAILED)
    tell(others[1], DONE, None)
    assert FirstSeat(claim).results() == [DONE, FAILED, DONE, None]


def test_who_is_gone_or_tells_nothing_in_time_ended_without_a_word(
    claim: Claim, others: list[SeatClaim]
) -> None:
    silence(claim, seat=1)
    assert FirstSeat(claim).results() == [None] * 4


def test_leaving_ends_the_attempt_for_all(claim: Claim, others: list[SeatClaim]) -> None:
    with pytest.raises(ZeroDivisionError), FirstSeat(claim):
        _ = 1 // 0
    with transaction() as session:
        assert seats.read(session, claim.run_id, claim.token) == []


@pytest.fixture
def ready(claim: Claim, others: list[SeatClaim], monkeypatch: pytest.MonkeyPatch) -> SeatClaim:
    """The second seat, where nothing is in the way any more."""
    for check in ("check_folder", "check_way"):
        monkeypatch.setattr(worker_seats, check, lambda *_: "127.0.0.1")
    monkeypatch.setattr(worker_seats, "own_host", lambda _: "127.0.0.1")
    with transaction() as session:
        seats.receive(session, claim.run_id, claim.token, "127.0.0.1", 4711, "m")
        seats.get_ready(session, claim.run_id, others[1].token, "127.0.0.1", 4712)
    return others[0]


def sit_down(ready: SeatClaim) -> threading.Thread:
    """Its worker, until it waits for the first to let all begin."""
    thread = threading.Thread(target=take_seat, args=[ready, "grace", MODELS])
    thread.start()
    eventually(lambda: seen(ready)[1].ready)
    return thread


def seen(taken: SeatClaim) -> list[SeatState]:
    with transaction() as session:
        return seats.read(session, taken.run.run_id, taken.run.token)


def begin(claim: Claim) -> bool:
    with transaction() as session:
        return seats.begin(session, claim.run_id, claim.token)


def take_part(claim: Claim, ready: SeatClaim) -> None:
    thread = sit_down(ready)
    assert begin(claim)
    thread.join(30)


def told(claim: Claim) -> Any:
    with transaction() as session:
        return seats.read(session, claim.run_id, claim.token)[1].results


MODELS: Any = SimpleNamespace(prepare=lambda *_: "a folder", forget=lambda: None)


def test_a_worker_tells_how_its_processes_ended(
    claim: Claim, ready: SeatClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: Claim, location: str, folder: Path, control: Any, meeting: Meeting) -> None:
        assert (location, meeting.seat, meeting.seats) == ("a folder", 1, 3)
        assert (meeting.host, meeting.port) == ("127.0.0.1", 4711)
        write_result(folder, 3, DONE)  # the second of its two; the first seat has 0 and 1

    monkeypatch.setattr(worker_seats, "run_ranks", run)
    take_part(claim, ready)
    silent, done = told(claim)
    assert silent is None
    assert done["status"] == "succeeded"


def test_processes_that_had_to_be_killed_ended_without_a_word_and_fail_no_run(
    claim: Claim, ready: SeatClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> None:
        raise RanksLostError("they stand still")

    monkeypatch.setattr(worker_seats, "run_ranks", run)
    take_part(claim, ready)
    assert told(claim) == [None, None]


def test_no_worker_begins_before_the_first_has_seen_that_all_are_ready(
    claim: Claim, ready: SeatClaim, others: list[SeatClaim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them may leave until then, and another take its seat."""
    began = threading.Event()
    monkeypatch.setattr(worker_seats, "run_ranks", lambda *_: began.set())
    waiting = sit_down(ready)
    with transaction() as session:
        seats.leave(session, claim.run_id, others[1].token)
    assert not begin(claim)
    assert not began.wait(0.1)
    with transaction() as session:
        alan = seats.sit(session, claim.run_id, "alan", LEASE, OFFER)
        assert alan is not None
        seats.get_ready(session, claim.run_id, alan.token, "127.0.0.1", 4713)
    assert begin(claim)
    assert began.wait(30)
    waiting.join(30)


# --- the way from the first to the others --------------------------------------------------------


def ways_open(claim: Claim, others: list[SeatClaim], *ports: int) -> bool:
    with transaction() as session:
        seats.receive(session, claim.run_id, claim.token, "127.0.0.1", 4711, "m")
        for one, port in zip(others, ports, strict=True):
            seats.get_ready(session, claim.run_id, one.token, "127.0.0.1", port)
    return worker_seats._Ways().are_open(seen(others[0]))


def test_the_first_tries_the_way_to_each_of_the_others(
    claim: Claim, others: list[SeatClaim]
) -> None:
    with listening("127.0.0.1", "m") as one, listening("127.0.0.1", "m") as two:
        assert ways_open(claim, others, one, two)
    assert not ways_open(claim, others, one, two)  # they may have been killed just now


def test_a_worker_that_lives_and_is_not_reached_fails_the_run(
    claim: Claim, others: list[SeatClaim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its processes would look for each other until they are taken for stuck."""
    monkeypatch.setenv("CHESBOARD_LEASE", "PT0S")
    get_settings.cache_clear()
    with listening("127.0.0.1", "m") as one, listening("127.0.0.1", "another") as two:
        expected = rf"first worker .* does not reach the worker barbara at 127.0.0.1, port {two}"
        with pytest.raises(ValueError, match=expected):
            ways_open(claim, others, one, two)


def test_a_worker_that_is_asked_to_end_before_the_others_are_ready_leaves_its_seat(
    claim: Claim, others: list[SeatClaim], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutting_down = threading.Event()
    monkeypatch.setattr(lease_keeper, "shutting_down", shutting_down)
    waiting = threading.Thread(target=take_seat, args=[others[0], "grace", MODELS])
    waiting.start()
    shutting_down.set()
    waiting.join(30)
    with transaction() as session:
        found = seats.read(session, claim.run_id, claim.token)
    assert [seat.worker for seat in found] == ["ada", None, "barbara"]

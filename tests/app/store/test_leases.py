"""Who works on a run. Time is driven by hand through `now`."""

from datetime import UTC, datetime, timedelta

import pytest

from app.core.database import transaction
from app.store import leases, queue, recording
from app.store.runs import Run
from chesboard.records import ReferenceRecord, ScoreRecord
from tests.app import factories
from tests.app.rows import stored

LEASE = timedelta(seconds=30)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def run_id(database) -> int:
    with transaction() as session:
        dataset = factories.dataset(session)
        return factories.run(session, dataset.id, kind="check", status="queued").id


def claim(run_id: int, worker: str = "ada", now: datetime = NOON) -> leases.Claim | None:
    with transaction() as session:
        return leases.claim(session, run_id, worker, LEASE, now)


def test_a_queued_run_is_claimed_once(run_id: int) -> None:
    first = claim(run_id, "ada")
    assert first is not None
    assert first.attempt == 1
    assert claim(run_id, "grace") is None
    run = stored(run_id)
    assert (run.status, run.worker, run.started_at) == ("running", "ada", NOON)


def test_two_workers_at_once_one_claim(run_id: int) -> None:
    with transaction() as one:
        assert leases.claim(one, run_id, "ada", LEASE) is not None
        # The second waits for the row and then sees that it is taken.
        import threading

        results: list[object] = []
        thread = threading.Thread(target=lambda: results.append(claim(run_id, "grace", NOON)))
        thread.start()
        thread.join(timeout=0.2)
        assert thread.is_alive()
    thread.join()
    # The lease was taken at the real time, long after NOON: it has not run out.
    assert results == [None]


def test_a_finished_run_is_not_claimed_again(run_id: int) -> None:
    taken = claim(run_id)
    assert taken is not None
    with transaction() as session:
        assert leases.finish(session, run_id, taken.token, "succeeded", summary={"pairs": 1})
    assert claim(run_id) is None
    run = stored(run_id)
    assert (run.status, run.summary, run.lease_token) == ("succeeded", {"pairs": 1}, None)


def test_a_summary_with_numbers_that_are_not_finite_ends_the_run_all_the_same(
    run_id: int,
) -> None:
    taken = claim(run_id)
    assert taken is not None
    summary = {"final_loss": float("nan"), "probes": [{"change": float("-inf")}]}
    with transaction() as session:
        assert leases.finish(session, run_id, taken.token, "succeeded", summary=summary)
    assert stored(run_id).summary == {"final_loss": None, "probes": [{"change": None}]}


def test_a_lease_that_ran_out_is_claimed_by_another_worker(run_id: int) -> None:
    claim(run_id, "ada")
    assert claim(run_id, "grace", NOON + LEASE) is None
    second = claim(run_id, "grace", NOON + LEASE + timedelta(seconds=1))
    assert second is not None
    assert second.attempt == 2
    assert stored(run_id).started_at == NOON


def test_a_renewed_lease_lasts_longer(run_id: int) -> None:
    taken = claim(run_id)
    assert taken is not None
    later = NOON + timedelta(seconds=20)
    with transaction() as session:
        state = leases.renew(session, run_id, taken.token, LEASE, later)
    assert state == leases.LeaseState(held=True, cancel_requested=False)
    assert claim(run_id, "grace", later + LEASE) is None


def test_a_worker_that_wakes_up_late_can_change_nothing(run_id: int) -> None:
    late = claim(run_id, "ada")
    assert late is not None
    claim(run_id, "grace", NOON + 2 * LEASE)
    with transaction() as session:
        assert leases.finish(session, run_id, late.token, "failed") is None
        assert leases.hand_back(session, run_id, late.token) is None
        assert not leases.renew(session, run_id, late.token, LEASE).held
        assert not leases.read_state(session, run_id, late.token).held
    assert (stored(run_id).status, stored(run_id).worker) == ("running", "grace")


def test_handing_back_is_not_counted_as_a_try(run_id: int) -> None:
    for _ in range(leases.MAX_TRIES + 1):
        taken = claim(run_id)
        assert taken is not None
        assert taken.attempt == 1
        with transaction() as session:
            assert leases.hand_back(session, run_id, taken.token)


def test_a_run_that_is_let_go_is_claimed_at_once_and_its_try_counts(run_id: int) -> None:
    for attempt in range(1, leases.MAX_TRIES + 1):
        now = NOON + timedelta(seconds=attempt)
        taken = claim(run_id, now=now)
        assert taken is not None
        assert taken.attempt == attempt
        with transaction() as session:
            assert leases.let_go(session, run_id, taken.token, now)
    after = NOON + timedelta(seconds=10)
    assert claim(run_id, now=after) is None  # it is probably what its workers die of
    with transaction() as session:
        leases.expire(session, after)
    assert stored(run_id).status == "failed"


def test_the_holder_hears_of_a_wish_to_cancel(run_id: int) -> None:
    taken = claim(run_id)
    assert taken is not None
    with transaction() as session:
        session.get_one(Run, run_id).cancel_requested = True
    with transaction() as session:
        assert leases.read_state(session, run_id, taken.token).cancel_requested


def lose_a_worker(run_id: int, now: datetime, *batches: recording.Batch) -> Run:
    """A worker claims the run, records this, and is never heard of again."""
    taken = claim(run_id, now=now)
    assert taken is not None
    for batch in batches:
        with transaction() as session:
            recording.write(session, run_id, taken.token, batch)
    with transaction() as session:
        leases.expire(session, now + 2 * LEASE)
    return stored(run_id)


def a_score(pair: int) -> ScoreRecord:
    return ScoreRecord(pair, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0, 1, 1, 1, 0, [1], [1])


A_STEP_FURTHER = {
    "a checkpoint": lambda _: recording.Batch(checkpointed=True),
    "pairs scored": lambda number: recording.Batch(records=[a_score(number)]),
    "pairs of the reference": lambda number: recording.Batch(
        records=[ReferenceRecord(number, -1.0, -2.0)]
    ),
}


@pytest.mark.parametrize("further", A_STEP_FURTHER)
def test_a_run_that_gets_further_may_lose_any_number_of_workers(run_id: int, further: str) -> None:
    for number in range(10):
        lost = lose_a_worker(run_id, NOON + number * 3 * LEASE, A_STEP_FURTHER[further](number))
        assert (lost.status, lost.tries_here) == ("queued", 1)
    assert lost.attempts == 10


def test_three_workers_lost_at_the_same_place_fail_a_run_however_far_it_had_come(
    run_id: int,
) -> None:
    repeated = recording.Batch(progress=recording.Progress(5, 9, "steps"))
    lost = [
        lose_a_worker(run_id, NOON + number * 3 * LEASE, *batches)
        for number, batches in enumerate(
            [(), (recording.Batch(checkpointed=True),), (repeated,), (repeated,)]
        )
    ]
    assert [run.status for run in lost] == ["queued", "queued", "queued", "failed"]
    assert lost[-1].error is not None
    assert "3 times at the same place" in lost[-1].error["message"]


def test_expired_runs_go_back_to_the_queue_and_fail_after_three_lost_workers(run_id: int) -> None:
    for attempt in range(1, leases.MAX_TRIES + 1):
        now = NOON + attempt * 3 * LEASE
        taken = claim(run_id, now=now)
        assert taken is not None
        assert taken.attempt == attempt
        with transaction() as session:
            assert leases.expire(session, now + LEASE) == []
            [(changed, _)] = leases.expire(session, now + 2 * LEASE)
        assert changed == run_id
        lost = stored(run_id)
        assert lost.status == ("queued" if attempt < leases.MAX_TRIES else "failed")
    assert lost.error is not None
    assert "stopped responding 3 times" in lost.error["message"]


def test_a_run_that_no_worker_has_is_in_no_phase(run_id: int) -> None:
    def enter_a_phase(token: str) -> None:
        phase = recording.Phase("downloading", 3, 15, "bytes", 2.0)
        with transaction() as session:
            recording.write(session, run_id, token, recording.Batch(phase=phase))
        assert phase_of() == ("downloading", 3, 15, "bytes", 2.0)

    def phase_of() -> tuple[object, ...]:
        run = stored(run_id)
        return tuple(getattr(run, name) for name in leases.NO_PHASE)

    nothing = (None,) * len(leases.NO_PHASE)
    handed_back = claim(run_id)
    assert handed_back is not None
    enter_a_phase(handed_back.token)
    with transaction() as session:
        leases.hand_back(session, run_id, handed_back.token)
    assert phase_of() == nothing
    lost = claim(run_id)
    assert lost is not None
    enter_a_phase(lost.token)
    with transaction() as session:
        leases.expire(session, NOON + 2 * LEASE)
    assert phase_of() == nothing
    lost = claim(run_id)
    assert lost is not None
    enter_a_phase(lost.token)
    taken = claim(run_id, "grace", NOON + 2 * LEASE)
    assert taken is not None
    assert phase_of() == nothing
    enter_a_phase(taken.token)
    with transaction() as session:
        leases.finish(session, run_id, taken.token, "cancelled")
    assert phase_of() == nothing


def test_an_expired_run_that_was_to_be_cancelled_is_cancelled(run_id: int) -> None:
    claim(run_id)
    with transaction() as session:
        session.get_one(Run, run_id).cancel_requested = True
    with transaction() as session:
        leases.expire(session, NOON + 2 * LEASE)
    assert stored(run_id).status == "cancelled"


def test_the_oldest_waiting_run_comes_first(run_id: int) -> None:
    with transaction() as session:
        other = factories.run(session, stored(run_id).dataset_id, kind="check", status="queued")
        assert queue.next_claimable(session, now=NOON) == run_id
    claim(run_id)
    with transaction() as session:
        assert queue.next_claimable(session, now=NOON) == other.id
        assert queue.next_claimable(session, now=NOON + 2 * LEASE) == run_id


@pytest.fixture
def external(database) -> int:
    """A run that is trained elsewhere, of which nothing was heard since noon."""
    with transaction() as session:
        config = {"trainer": "trl.DPOTrainer"}
        run = factories.run(session, None, kind="external", config=config, lease_expires_at=NOON)
        return run.id


def test_no_worker_gets_a_silent_external_run(external: int) -> None:
    later = NOON + 2 * LEASE
    assert claim(external, now=later) is None
    with transaction() as session:
        assert queue.next_claimable(session, now=later) is None
        assert leases.expire(session, later) == []
    assert stored(external).status == "running"


def test_a_silent_external_run_is_lost_and_another_is_not(external: int, run_id: int) -> None:
    claim(run_id)
    with transaction() as session:
        assert leases.lose(session, NOON - LEASE) == []
        assert [found for found, _ in leases.lose(session, NOON + 2 * LEASE)] == [external]
    assert stored(external).status == "lost"
    assert stored(run_id).status == "running"
    with transaction() as session:
        assert leases.lose(session, NOON + 2 * LEASE) == []

"""The shards of a training run's reference pass: who may take which, and what helpers may write.

Time is driven by hand through `now`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from app.core.database import transaction
from app.runs import requests
from app.store import leases, queue, recording
from app.store.runs import ReferenceLogprob, Run, Worker
from app.store.selection import record_selection
from app.store.shards import claims, planning, reference
from app.store.shards.tables import RunShard
from chesboard.configs import Selection
from chesboard.records import ReferenceRecord
from tests.app import factories
from tests.app.rows import shards_of, stored

LEASE = timedelta(seconds=30)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + 2 * LEASE
PAIRS = list(range(6))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two pairs."""
    monkeypatch.setattr(planning, "CHARACTERS_A_SHARD", 200)
    monkeypatch.setattr(planning, "PAIRS_A_SHARD", 2)


@pytest.fixture
def run_id(database: Any) -> int:
    """A training run of six pairs, which ada has, in its reference pass."""
    with transaction() as session:
        dataset = factories.dataset(session, len(PAIRS))
        queued = factories.run(session, dataset.id, status="queued").id
        record_selection(session, queued, dataset.id, Selection())
    started(queued)
    return queued


def started(run_id: int, worker: str = "ada", phase: str | None = "reference pass") -> str:
    """Claim a training run, cut its pairs, and enter a phase; the token of its lease."""
    with transaction() as session:
        taken = leases.claim(session, run_id, worker, LEASE, NOON)
        assert taken is not None
        reference.plan(session, run_id, taken.token, PAIRS)
        change(session, run_id, phase=phase)
    return taken.token


def change(session: Any, run_id: int, **values: Any) -> None:
    session.execute(update(Run).where(Run.id == run_id).values(**values))


def claim(
    run_id: int, worker: str = "grace", now: datetime = NOON
) -> reference.ReferenceClaim | None:
    with transaction() as session:
        return reference.claim(session, run_id, worker, LEASE, now)


def claimed(run_id: int, worker: str = "grace", now: datetime = NOON) -> reference.ReferenceClaim:
    taken = claim(run_id, worker, now)
    assert taken is not None
    return taken


def claim_own(run_id: int, now: datetime = NOON) -> reference.ReferenceClaim | None:
    token = stored(run_id).lease_token
    with transaction() as session:
        return reference.claim_own(session, run_id, token or "", LEASE, now)


def write(taken: reference.ReferenceClaim, *pairs: int) -> int:
    batch = recording.Batch(
        records=[ReferenceRecord(pair, -1.0, -2.0) for pair in pairs],
        messages=["Out of GPU memory"],
        progress=recording.Progress(len(pairs), len(taken.pairs), "pairs", len(pairs), 0.5),
        phase=recording.Phase("reference pass", len(pairs), len(taken.pairs), "pairs"),
    )
    with transaction() as session:
        return reference.write(session, taken.run_id, taken.token, batch, LEASE)


def finish(taken: reference.ReferenceClaim) -> int | None:
    with transaction() as session:
        return reference.finish(session, taken.run_id, taken.token)


def known(run_id: int) -> list[int]:
    with transaction() as session:
        query = select(ReferenceLogprob.pair).where(ReferenceLogprob.run_id == run_id)
        return sorted(session.scalars(query))


# --- planning -----------------------------------------------------------------------------------


def test_the_trained_pairs_alone_are_cut(run_id: int) -> None:
    token = stored(run_id).lease_token
    assert token is not None
    with transaction() as session:
        assert reference.plan(session, run_id, token, [0, 2, 3, 5]) == 2
    assert sorted(pair for shard in shards_of(run_id) for pair in shard.pairs) == [0, 2, 3, 5]


def test_what_one_worker_does_in_a_minute_is_not_cut(run_id: int) -> None:
    token = stored(run_id).lease_token
    assert token is not None
    with transaction() as session:
        assert reference.plan(session, run_id, token, [0, 2]) == 0
    assert shards_of(run_id) == []


def test_what_an_earlier_attempt_did_stays_done(run_id: int) -> None:
    assert finish(claimed(run_id)) is not None
    with transaction() as session:
        change(session, run_id, status="queued", lease_token=None)
    started(run_id, "barbara")
    assert [shard.status for shard in shards_of(run_id)] == ["done", "queued", "queued"]


def test_only_who_has_the_run_cuts_it(run_id: int) -> None:
    with transaction() as session:
        assert reference.plan(session, run_id, "of another", PAIRS[:4]) == 0
        reference.forget(session, run_id, "of another")
    assert len(shards_of(run_id)) == 3
    with transaction() as session:
        reference.forget(session, run_id, stored(run_id).lease_token or "")
    assert shards_of(run_id) == []


# --- claims -------------------------------------------------------------------------------------


def test_each_shard_is_claimed_once_by_helpers_and_the_runs_own_worker(run_id: int) -> None:
    taken = [claimed(run_id), claim_own(run_id), claimed(run_id, "barbara")]
    assert sorted(pair for one in taken if one for pair in one.pairs) == PAIRS
    assert [shard.worker for shard in shards_of(run_id)] == ["grace", "ada", "barbara"]
    assert claim(run_id) is None
    assert claim_own(run_id) is None
    run = stored(run_id)
    assert (run.worker, run.attempts) == ("ada", 1)


@pytest.mark.parametrize(
    "closed",
    [
        {"phase": "loading"},
        {"phase": None},
        {"cancel_requested": True},
        {"status": "queued"},
        {"status": "succeeded"},
    ],
)
def test_others_help_in_the_reference_pass_alone(run_id: int, closed: dict[str, Any]) -> None:
    def offered() -> reference.Offer | None:
        with transaction() as session:
            return reference.offer(session, run_id, "grace")

    assert offered() is not None
    with transaction() as session:
        change(session, run_id, **closed)
    assert offered() is None
    assert claim(run_id) is None


def test_a_helper_is_sent_to_the_oldest_run_with_a_free_shard(run_id: int) -> None:
    def next_of(worker: str | None) -> int | None:
        with transaction() as session:
            return queue.next_claimable(session, worker, LEASE, NOON)

    assert next_of(None) == next_of("grace") == run_id
    with transaction() as session:
        assert queue.places(session, run_id, NOON) == 3
        reference.give_up(session, run_id, "grace", "It does not fit.")
    assert next_of("grace") is None
    assert next_of("barbara") == run_id
    for _ in PAIRS[::2]:
        claimed(run_id, "barbara")
    assert next_of("barbara") is next_of(None) is None


def test_who_gave_up_is_not_asked_again_and_the_run_goes_on(run_id: int) -> None:
    with transaction() as session:
        session.add(Worker(name="grace", device="cpu"))
        reference.give_up(session, run_id, "grace", "It does not fit.")
    assert claim(run_id) is None
    with transaction() as session:
        assert reference.offer(session, run_id, "grace") is None
    assert claim(run_id, "barbara") is not None
    run = stored(run_id)
    assert run.status == "running"
    assert run.messages == [
        "The worker grace could not help with the reference pass: It does not fit."
    ]


def test_a_shard_that_was_lost_three_times_is_left_to_the_runs_own_worker(run_id: int) -> None:
    for _ in range(leases.MAX_TRIES):
        assert claimed(run_id).shard == 0
        with transaction() as session:
            session.execute(
                update(RunShard).where(RunShard.shard == 0).values(lease_expires_at=NOON)
            )
            reference.expire(session, LATER)
    assert claimed(run_id).shard == 1
    own = claim_own(run_id)
    assert own is not None
    assert own.shard == 0


def test_a_worker_that_must_stop_gives_its_shard_back_without_a_try(run_id: int) -> None:
    taken = claimed(run_id)
    with transaction() as session:
        assert reference.release(session, run_id, taken.token) is not None
    first = shards_of(run_id)[0]
    assert (first.status, first.tries_here, first.lease_token) == ("queued", 0, None)
    with transaction() as session:
        assert reference.release(session, run_id, taken.token) is None


def test_silent_helpers_lose_their_shards_and_the_run_stays_its_workers(run_id: int) -> None:
    claimed(run_id)
    with transaction() as session:
        assert claims.expire(session, LATER) == []
        reference.expire(session, LATER)
    assert [shard.status for shard in shards_of(run_id)] == ["queued"] * 3
    run = stored(run_id)
    assert (run.status, run.worker) == ("running", "ada")
    assert run.lease_token is not None


def test_shards_of_other_runs_are_not_released_with_them(database: Any) -> None:
    with transaction() as session:
        dataset = factories.dataset(session, len(PAIRS))
        scored = factories.run(session, dataset.id, kind="score", status="queued").id
        assert claims.claim(session, scored, "ada", LEASE, NOON) is not None
        reference.expire(session, LATER)
    assert shards_of(scored)[0].status == "running"


def test_who_has_lost_the_run_claims_no_shard(run_id: int) -> None:
    with pytest.raises(recording.StaleLeaseError), transaction() as session:
        reference.claim_own(session, run_id, "of another", LEASE, NOON)


# --- leases and writes --------------------------------------------------------------------------


def test_a_helper_renews_its_own_lease_and_not_the_runs(run_id: int) -> None:
    taken = claimed(run_id)
    before = stored(run_id).lease_expires_at
    with transaction() as session:
        assert reference.renew(session, run_id, taken.token, LEASE, LATER).held
    assert shards_of(run_id)[0].lease_expires_at == LATER + LEASE
    write(taken, *taken.pairs)
    assert stored(run_id).lease_expires_at == before


def test_a_cancel_reaches_helpers(run_id: int) -> None:
    taken = claimed(run_id)

    def state() -> leases.LeaseState:
        with transaction() as session:
            return reference.read_state(session, run_id, taken.token)

    assert state() == leases.LeaseState(held=True, cancel_requested=False)
    with transaction() as session:
        requests.cancel(session, run_id)
    assert state() == leases.LeaseState(held=True, cancel_requested=True)
    with transaction() as session:
        leases.finish(session, run_id, stored(run_id).lease_token or "", "cancelled")
    assert not state().held
    with pytest.raises(recording.StaleLeaseError):
        write(taken, *taken.pairs)
    assert finish(taken) is None


def test_under_a_lost_lease_nothing_is_written(run_id: int) -> None:
    taken = claimed(run_id)
    again = claimed(run_id, "barbara", LATER)
    assert again.shard == taken.shard
    with pytest.raises(recording.StaleLeaseError):
        write(taken, *taken.pairs)
    assert finish(taken) is None
    assert known(run_id) == []
    write(again, *again.pairs)
    assert finish(again) is not None
    assert known(run_id) == again.pairs


def test_a_helper_finishes_its_shard_though_the_runs_own_worker_is_lost(run_id: int) -> None:
    taken = claimed(run_id)
    with transaction() as session:
        assert [changed for changed, _ in leases.expire(session, LATER)] == [run_id]
    assert stored(run_id).status == "queued"
    write(taken, *taken.pairs)
    assert finish(taken) is not None
    assert known(run_id) == taken.pairs
    run = stored(run_id)
    assert (run.status, run.phase, run.tries_here) == ("queued", None, 1)


def test_what_is_stored_counts_as_progress_of_the_run(run_id: int) -> None:
    with transaction() as session:
        change(session, run_id, tries_here=3)
    taken = claimed(run_id)
    before = stored(run_id)
    revision = write(taken, *taken.pairs)
    run = stored(run_id)
    assert run.tries_here == 1
    assert run.revision == revision > before.revision
    assert run.reported_at != before.reported_at
    assert run.messages == ["Out of GPU memory"]


def test_the_run_shows_how_far_all_are_in_the_pass_alone(run_id: int) -> None:
    first, second = claimed(run_id), claimed(run_id, "barbara")
    write(first, *first.pairs)
    write(second, second.pairs[0])
    run = stored(run_id)
    assert (run.progress_done, run.progress_total, run.progress_unit) == (3, 6, "pairs")
    assert (run.phase, run.phase_done, run.phase_total) == ("reference pass", 3, 6)
    assert run.phase_eta_seconds == run.eta_seconds == pytest.approx(3 / (2 / 0.5 + 1 / 0.5))
    with transaction() as session:
        change(session, run_id, phase="training", progress_done=7, phase_done=7)
    write(second, *second.pairs)
    run = stored(run_id)
    assert (run.phase, run.phase_done, run.progress_done) == ("training", 7, 7)


def test_it_is_complete_once_all_shards_are_done(run_id: int) -> None:
    def is_complete() -> bool:
        with transaction() as session:
            return reference.is_complete(session, run_id)

    for _ in range(3):
        assert not is_complete()
        assert finish(claimed(run_id)) is not None
    assert is_complete()

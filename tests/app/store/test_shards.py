"""Runs that several workers do at once: how they are cut, and who has which shard.

Time is driven by hand through `now`.
"""

import itertools
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.runs import requests
from app.store import leases, queue, recording
from app.store.datasets import Pair
from app.store.runs import Run, Worker
from app.store.scores import Score
from app.store.selection import record_selection
from app.store.shards import claims, planning
from app.store.shards import recording as shard_recording
from app.store.shards.claims import Ended, ShardClaim
from app.store.shards.progress import read_progress
from app.store.shards.tables import RunShard
from chesboard.configs import Selection
from chesboard.records import FindingRecord, ScoreRecord
from tests.app import factories
from tests.app.rows import shards_of, stored

LEASE = timedelta(seconds=30)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + 2 * LEASE
SUMMARY = {"pairs": 6}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two pairs, if they are short."""
    monkeypatch.setattr(planning, "CHARACTERS_A_SHARD", 200)
    monkeypatch.setattr(planning, "PAIRS_A_SHARD", 2)


def queued(pairs: Any = 6, kind: str = "score", **config: Any) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, pairs)
        return factories.run(session, dataset.id, kind=kind, status="queued", config=config).id


@pytest.fixture
def run_id(database: Any) -> int:
    """A queued run of three shards of two pairs."""
    return queued()


def claim(run_id: int, worker: str = "ada", now: datetime = NOON) -> ShardClaim | None:
    with transaction() as session:
        return claims.claim(session, run_id, worker, LEASE, now)


def claimed(run_id: int, worker: str = "ada", now: datetime = NOON) -> ShardClaim:
    taken = claim(run_id, worker, now)
    assert taken is not None
    return taken


def finish(taken: ShardClaim) -> Ended | None:
    with transaction() as session:
        return claims.finish(session, taken.run_id, taken.token, {}, lambda _: SUMMARY)


def fail(taken: ShardClaim, message: str = "too small a GPU", for_good: bool = False) -> str | None:
    error = {"message": message, "hint": None, "traceback": None}
    with transaction() as session:
        ended = claims.fail(session, taken.run_id, taken.token, error, LEASE, for_good=for_good)
    return ended and ended.status


def write(taken: ShardClaim, *records: Any, done: int = 0, seconds: float = 0.0) -> int:
    batch = recording.Batch(
        records=list(records),
        progress=recording.Progress(done, len(taken.pairs), "pairs", done, seconds),
    )
    with transaction() as session:
        return shard_recording.write(session, taken.run_id, taken.token, batch, LEASE)


def a_score(pair: int) -> ScoreRecord:
    return ScoreRecord(pair, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0, 1, 1, 1, 0, [1], [1])


# --- planning -----------------------------------------------------------------------------------


def planned(run_id: int) -> list[list[int]]:
    """The pairs of each shard."""
    claimed(run_id)
    return [shard.pairs for shard in shards_of(run_id)]


def of_length(*characters: int) -> list[tuple[str, str, str]]:
    """Pairs of so many characters; two are the quotes of the prompt, which is stored as JSON."""
    return [("?" * (length - 4), "a", "b") for length in characters]


def test_the_longest_pairs_come_first_and_shards_are_about_as_long(database: Any) -> None:
    run_id = queued(of_length(50, 150, 120, 60, 180, 40))
    # Before them are 0 and 180; 330; 450 and 550, as short pairs count for 100; and 650.
    assert planned(run_id) == [[1, 4], [2], [0, 3], [5]]
    found = shards_of(run_id)
    assert [shard.characters for shard in found] == [330, 120, 110, 40]
    assert [shard.total for shard in found] == [2, 1, 2, 1]


def test_a_pair_longer_than_a_shard_has_one_of_its_own_and_leaves_no_gap(database: Any) -> None:
    run_id = queued(of_length(10, 950, 10, 10))
    assert planned(run_id) == [[1], [0], [2, 3]]
    assert [shard.shard for shard in shards_of(run_id)] == [0, 1, 2]


def test_every_pair_of_the_selection_is_in_one_shard(database: Any) -> None:
    run_id = queued(9)
    with transaction() as session:
        dataset_id = session.get_one(Run, run_id).dataset_id
        assert dataset_id is not None
        record_selection(session, run_id, dataset_id, Selection(pairs=[1, 3, 4, 5, 8]))
    assert sorted(itertools.chain(*planned(run_id))) == [1, 3, 4, 5, 8]
    assert stored(run_id).progress_total == 5


def test_a_run_is_cut_once(run_id: int) -> None:
    before = planned(run_id)
    with transaction() as session:
        session.execute(update(Pair).values(preferred="much longer than before"))
    claimed(run_id)
    assert [shard.pairs for shard in shards_of(run_id)] == before


def test_pairs_with_the_same_prompt_are_answered_together(database: Any) -> None:
    prompts = ["Is it?", "Was it?", "Is it?", "Will it be?", "Is it?", "Was it?"]
    pairs = [(prompt, "a" * number, "b") for number, prompt in enumerate(prompts, 1)]
    run_id = queued(pairs, kind="generate", samples=3, answer_tokens=10)
    assert planned(run_id) == [[1, 3, 5], [0, 2, 4]]
    assert [shard.total for shard in shards_of(run_id)] == [6, 3]


def test_a_selection_without_a_pair_is_one_shard_without_pairs(database: Any) -> None:
    run_id = queued(3, selection={"only_verdicts": ["drop"]})
    assert planned(run_id) == [[]]


def test_a_run_that_a_worker_had_before_there_were_shards_is_cut_when_it_lost_it(
    run_id: int,
) -> None:
    with transaction() as session:
        run = session.get_one(Run, run_id)
        run.status, run.lease_token, run.lease_expires_at = "running", "its", NOON + LEASE
    assert claim(run_id) is None
    taken = claimed(run_id, now=LATER)
    assert (taken.shard, taken.attempt, len(shards_of(run_id))) == (0, 1, 3)
    assert stored(run_id).lease_token is None


# --- claims -------------------------------------------------------------------------------------


def test_each_shard_is_claimed_by_one_worker(run_id: int) -> None:
    taken = [claimed(run_id, worker) for worker in ("ada", "grace", "barbara")]
    assert [one.shard for one in taken] == [0, 1, 2]
    assert [one.begins for one in taken] == [True, False, False]
    assert claim(run_id, "joan") is None
    run = stored(run_id)
    assert (run.status, run.attempts, run.worker, run.started_at) == ("running", 1, "barbara", NOON)


def test_many_workers_at_once_get_a_shard_each(database: Any) -> None:
    run_id = queued(20)
    together, taken = threading.Barrier(8), []

    def work(name: str) -> None:
        together.wait()
        while one := claim(run_id, name):
            taken.append(one)

    workers = [threading.Thread(target=work, args=[f"worker {n}"]) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(one.shard for one in taken) == list(range(10))


def test_whole_runs_have_no_shards_and_runs_in_shards_no_lease_of_their_own(run_id: int) -> None:
    check = queued(3, kind="check")
    assert claim(check) is None
    with transaction() as session:
        assert leases.claim(session, run_id, "ada", LEASE) is None
    assert shards_of(check) == shards_of(run_id) == []


def test_a_run_ends_with_its_last_shard_and_once(run_id: int) -> None:
    taken = [claimed(run_id, worker) for worker in ("ada", "grace", "barbara")]
    ends: list[Ended | None] = []
    workers = [threading.Thread(target=lambda one=one: ends.append(finish(one))) for one in taken]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(one.status for one in ends if one) == ["running", "running", "succeeded"]
    run = stored(run_id)
    assert (run.status, run.summary, run.lease_expires_at) == ("succeeded", SUMMARY, None)
    assert [finish(one) for one in taken] == [None] * 3
    assert stored(run_id).revision == run.revision


def test_a_summary_that_fails_leaves_the_shard_to_its_worker(database: Any) -> None:
    run_id = queued(1)
    taken = claimed(run_id)

    def broken(_: Session) -> dict[str, Any]:
        raise ValueError("no prompt could be answered")

    with pytest.raises(ValueError, match="no prompt"), transaction() as session:
        claims.finish(session, run_id, taken.token, {}, broken)
    assert fail(taken, for_good=True) == "failed"


def test_a_worker_that_wakes_up_late_can_change_nothing(run_id: int) -> None:
    late = claimed(run_id, "ada")
    again = claimed(run_id, "grace", LATER)
    assert again.shard == late.shard
    with pytest.raises(recording.StaleLeaseError):
        write(late, a_score(late.pairs[0]))
    assert finish(late) is None
    assert fail(late) is None
    with transaction() as session:
        assert claims.hand_back(session, run_id, late.token) is None
        assert claims.cancel(session, run_id, late.token) is None
        assert not claims.renew(session, run_id, late.token, LEASE).held
        assert not claims.read_state(session, run_id, late.token).held
        assert session.scalar(select(func.count()).select_from(Score)) == 0
    write(again, a_score(again.pairs[0]))
    assert (stored(run_id).status, stored(run_id).worker) == ("running", "grace")


def test_a_renewed_lease_lasts_longer_and_so_does_the_runs(run_id: int) -> None:
    taken = claimed(run_id)
    soon = NOON + timedelta(seconds=20)
    with transaction() as session:
        state = claims.renew(session, run_id, taken.token, LEASE, soon)
    assert state == leases.LeaseState(held=True, cancel_requested=False)
    assert stored(run_id).lease_expires_at == soon + LEASE
    with transaction() as session:
        assert claims.expire(session, soon + LEASE) == leases.expire(session, soon + LEASE) == []
    assert claimed(run_id, "grace", soon + LEASE).shard == 1


# --- workers that are lost, fail or leave -------------------------------------------------------


def expire(now: datetime) -> list[int]:
    """As the sweeper does."""
    with transaction() as session:
        changed = [*claims.expire(session, now), *leases.expire(session, now)]
    return [run_id for run_id, _ in changed]


def test_a_lost_shard_waits_and_its_run_only_if_nobody_has_another(run_id: int) -> None:
    claimed(run_id, "ada")
    claimed(run_id, "grace", NOON + LEASE)
    assert expire(NOON + LEASE + timedelta(seconds=1)) == [run_id]
    assert [shard.status for shard in shards_of(run_id)] == ["queued", "running", "queued"]
    assert stored(run_id).status == "running"
    assert expire(NOON + 3 * LEASE) == [run_id]
    run = stored(run_id)
    assert (run.status, run.phase, run.lease_expires_at) == ("queued", None, None)
    assert claimed(run_id, "barbara", NOON + 3 * LEASE).attempt == 2


def test_a_run_whose_worker_is_lost_between_two_shards_waits(run_id: int) -> None:
    finish(claimed(run_id))
    assert stored(run_id).status == "running"
    assert expire(datetime.now(UTC) + 2 * LEASE) == [run_id]
    assert stored(run_id).status == "queued"


def test_three_workers_lost_at_one_shard_fail_the_run(run_id: int) -> None:
    finish(claimed(run_id))
    for number in range(1, leases.MAX_TRIES + 1):
        now = NOON + 3 * number * LEASE
        assert claimed(run_id, now=now).shard == 1
        expire(now + 2 * LEASE)
    run = stored(run_id)
    assert run.status == "failed"
    assert run.error is not None
    assert "stopped responding 3 times" in run.error["message"]
    assert claim(run_id, now=NOON + 99 * LEASE) is None


def test_a_shard_that_gets_further_may_lose_any_number_of_workers(database: Any) -> None:
    run_id = queued(of_length(*[25] * 8))  # of four shards
    for number in range(8):
        taken = claimed(run_id, now=NOON + 3 * number * LEASE)
        write(taken, a_score(number), done=1)
        with transaction() as session:
            session.execute(update(RunShard).values(lease_expires_at=NOON))
        expire(NOON + 3 * number * LEASE + LEASE)
    assert [shard.tries_here for shard in shards_of(run_id)] == [1, 0, 0, 0]


def test_handing_back_is_not_counted_as_a_try(run_id: int) -> None:
    for _ in range(leases.MAX_TRIES + 1):
        taken = claimed(run_id)
        assert (taken.shard, taken.attempt) == (0, 1)
        with transaction() as session:
            ended = claims.hand_back(session, run_id, taken.token)
        assert ended is not None
        assert ended.status == "queued"
    taken, other = claimed(run_id), claimed(run_id, "grace")
    with transaction() as session:
        ended = claims.hand_back(session, run_id, taken.token)
    assert ended is not None
    assert ended.status == "running"
    assert claimed(run_id).shard == taken.shard != other.shard


def at_work(*names: str) -> None:
    with transaction() as session:
        session.execute(delete(Worker))
        session.add_all(Worker(name=name, device="cpu") for name in names)


def test_a_shard_at_which_a_worker_failed_is_left_to_another(run_id: int) -> None:
    at_work("ada", "grace")
    assert fail(claimed(run_id, "ada")) == "queued"
    assert claim(run_id, "ada") is None
    with transaction() as session:
        assert queue.next_claimable(session, "ada", LEASE, NOON) is None
        assert queue.next_claimable(session, "grace", LEASE, NOON) == run_id
    assert claimed(run_id, "grace").shard == 0
    [message] = stored(run_id).messages
    assert "ada gave its part of the run up to others: too small a GPU" in message


def test_the_last_that_could_do_it_fails_the_run_with_its_reason(run_id: int) -> None:
    at_work("ada", "grace")
    assert fail(claimed(run_id, "ada"), "too small a GPU") == "queued"
    assert fail(claimed(run_id, "grace"), "no such model here") == "failed"
    run = stored(run_id)
    assert run.error is not None
    assert run.error["message"] == "no such model here"


def test_three_tries_at_one_shard_fail_the_run_with_the_reason_of_the_last(run_id: int) -> None:
    at_work("ada", "grace", "barbara", "joan")
    for name in ("ada", "grace", "barbara"):
        last = fail(claimed(run_id, name), f"{name} could not")
    assert last == "failed"
    run = stored(run_id)
    assert run.error is not None
    assert run.error["message"] == "barbara could not"


def test_who_failed_tries_again_once_nobody_else_is_there(run_id: int) -> None:
    at_work("ada", "grace")
    assert fail(claimed(run_id, "ada")) == "queued"
    at_work("ada")
    assert claimed(run_id, "ada").shard == 0


def test_what_nobody_could_do_fails_the_run_at_once_and_ends_all_its_workers(run_id: int) -> None:
    at_work("ada", "grace")
    taken, other = claimed(run_id, "ada"), claimed(run_id, "grace")
    assert fail(taken, "The prompt of pair 3 is empty.", for_good=True) == "failed"
    with transaction() as session:
        assert not claims.read_state(session, run_id, other.token).held
    with pytest.raises(recording.StaleLeaseError):
        write(other, a_score(other.pairs[0]))


def test_a_resumed_run_goes_on_with_the_shards_that_are_left(run_id: int) -> None:
    finish(claimed(run_id))
    assert fail(claimed(run_id), for_good=True) == "failed"
    with transaction() as session:
        requests.resume(session, run_id)
    taken = claimed(run_id)
    assert (taken.shard, taken.attempt) == (1, 1)
    assert [shard.tries_here for shard in shards_of(run_id)] == [1, 1, 0]
    assert shards_of(run_id)[1].failed_by == []


# --- cancel and delete --------------------------------------------------------------------------


def test_a_cancel_is_heard_by_all_workers_and_the_first_ends_the_run(run_id: int) -> None:
    both = [claimed(run_id, worker) for worker in ("ada", "grace")]
    with transaction() as session:
        requests.cancel(session, run_id)
    with transaction() as session:
        for one in both:
            assert claims.read_state(session, run_id, one.token).cancel_requested
    assert claim(run_id, "barbara") is None
    with transaction() as session:
        ended = claims.cancel(session, run_id, both[0].token)
    assert ended is not None
    assert ended.status == stored(run_id).status == "cancelled"
    with transaction() as session:
        assert not claims.read_state(session, run_id, both[1].token).held
        requests.delete(session, run_id)
    assert shards_of(run_id) == []


def test_a_run_that_was_to_be_cancelled_is_when_its_workers_are_lost(run_id: int) -> None:
    claimed(run_id)
    with transaction() as session:
        requests.cancel(session, run_id)
    expire(LATER)
    assert stored(run_id).status == "cancelled"


# --- progress, messages, the queue --------------------------------------------------------------


def test_progress_and_time_left_are_of_the_whole_run(run_id: int) -> None:
    ada, grace = claimed(run_id, "ada"), claimed(run_id, "grace")
    write(ada, done=2, seconds=4.0)
    finish(ada)
    write(grace, done=1, seconds=0.5)
    run = stored(run_id)
    assert (run.progress_done, run.progress_total) == (3, 6)
    # Ada has no shard now: the three that are left are done by two a second.
    assert run.eta_seconds == 1.5
    claimed(run_id, "ada")
    write(grace, done=2, seconds=1.0)
    assert stored(run_id).eta_seconds == pytest.approx(2 / 2.5)
    with transaction() as session:
        found = read_progress(session, run_id)
    assert [(one.worker, one.shards_done, one.done, one.per_second) for one in found.workers] == [
        ("ada", 1, 2, 0.5),
        ("grace", 0, 2, 2.0),
    ]


def test_the_run_shows_the_phase_of_the_worker_that_is_furthest(run_id: int) -> None:
    ada, grace = claimed(run_id, "ada"), claimed(run_id, "grace")

    def enter(taken: ShardClaim, name: str) -> str | None:
        batch = recording.Batch(phase=recording.Phase(name))
        with transaction() as session:
            shard_recording.write(session, run_id, taken.token, batch, LEASE)
        return stored(run_id).phase

    assert enter(ada, "downloading") == "downloading"
    assert enter(grace, "tokenizing") == "tokenizing"
    assert enter(ada, "loading") == "tokenizing"
    assert enter(grace, "scoring") == "scoring"
    assert enter(ada, "tokenizing") == "scoring"


def test_a_phase_that_counts_layers_keeps_its_count(run_id: int) -> None:
    taken = claimed(run_id)

    def count(done: int, total: int, unit: str) -> tuple[int | None, int | None, str | None]:
        batch = recording.Batch(
            phase=recording.Phase("scoring", done, total, unit),
            progress=recording.Progress(1, 2, "pairs", 1, 1.0),
        )
        with transaction() as session:
            shard_recording.write(session, run_id, taken.token, batch, LEASE)
        run = stored(run_id)
        assert (run.progress_done, run.progress_total) == (1, 6)
        return run.phase_done, run.phase_total, run.phase_unit

    assert count(3, 80, "layers") == (3, 80, "layers")
    assert count(1, 2, "pairs") == (1, 6, "pairs")


def test_what_is_said_of_pairs_is_written_anew_as_more_are_read(run_id: int) -> None:
    said: list[tuple[int, dict[str, int]]] = []

    def messages(counts: Any, found: Any) -> list[str]:
        said.append((counts["pairs"], {kind: one.count for kind, one in found.kinds.items()}))
        return [f"of {counts['pairs']} pairs"]

    for worker in ("ada", "grace"):
        taken = claimed(run_id, worker)
        write(taken, *(FindingRecord(pair, "retokenized", None) for pair in taken.pairs))
        with transaction() as session:
            shard_recording.record_read(
                session, run_id, taken.token, LEASE, {"pairs": 2}, 1, messages
            )
    assert said == [(2, {"retokenized": 2}), (4, {"retokenized": 4})]
    run = stored(run_id)
    assert run.pair_messages == ["of 4 pairs"]
    assert run.progress_total == 4


def test_workers_are_wanted_while_shards_are_free(run_id: int) -> None:
    def wanted() -> tuple[int | None, int]:
        with transaction() as session:
            return queue.next_claimable(session, now=NOON), queue.places(session, run_id, NOON)

    assert wanted() == (run_id, 1)  # nobody knows yet how many shards it has
    claimed(run_id)
    assert wanted() == (run_id, 2)
    claimed(run_id)
    claimed(run_id)
    assert wanted() == (None, 0)

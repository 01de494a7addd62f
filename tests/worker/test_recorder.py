"""The recorder against a real PostgreSQL: nothing lost or doubled, nothing after the lease."""

import threading
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, get_args

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core.database import get_engine, limit_idle_transactions, transaction
from app.core.settings import get_settings
from app.local.embedded import Services
from app.store import leases, recording
from app.store.probes import PositionStep, ProbeAnswer, ProbeStep
from app.store.recording import RECORD_KINDS
from app.store.runs import Metric, ReferenceLogprob, Run
from chesboard.records import (
    AnswerRecord,
    FinalRecord,
    LedgerEntry,
    LedgerRecord,
    MetricRecord,
    PositionRecord,
    PositionStepRecord,
    ProbeRecord,
    ProbeStepRecord,
    RecentLedger,
    Record,
    ReferenceRecord,
)
from chesboard.reporting import LeaseLostError
from tests.app import factories
from worker import recorder as recorder_module
from worker.recorder import Recorder

METRIC = MetricRecord(
    step=1,
    loss=0.69,
    margin=0.0,
    preferred_logprob=-3.0,
    dispreferred_logprob=-2.0,
    preferred_change=0.0,
    dispreferred_change=0.0,
    displaced_fraction=0.0,
    accuracy=0.0,
    grad_norm=1.5,
    learning_rate=1e-7,
    tokens_per_second=100.0,
    tokens_seen=20,
)
PROBE = ProbeRecord(0, "Is it?", ["No"], ["Never"], 0, [], [])
PROBE_STEP = ProbeStepRecord(
    pair=0,
    step=1,
    preferred_logprobs=[-1.0],
    dispreferred_logprobs=[-2.0],
    preferred_change=-0.1,
    dispreferred_change=-0.3,
    onset_step=1,
    preferred_prob=0.4,
    dispreferred_prob=0.1,
    other_prob=0.5,
    group_probs=[],
    ledger=LedgerRecord([], [], [], 0.0, 0.0),
)


@pytest.fixture
def claim(database: Services) -> leases.Claim:
    with transaction() as session:
        run = factories.run(session, factories.dataset(session).id, kind="train", status="queued")
    with transaction() as session:
        taken = leases.claim(session, run.id, "ada", get_settings().lease)
    assert taken is not None
    return taken


def steps_of(run_id: int) -> list[int]:
    with transaction() as session:
        return list(
            session.scalars(
                select(Metric.step).where(Metric.run_id == run_id).order_by(Metric.step)
            )
        )


def test_every_record_is_stored_once_and_in_order(claim: leases.Claim) -> None:
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.put(PROBE)
        for step in range(1, 501):
            recorder.put(replace(METRIC, step=step))
            recorder.put(replace(PROBE_STEP, step=step))
            recorder.progress(step, 500, "steps")
        recorder.flush()
    assert steps_of(claim.run_id) == list(range(1, 501))
    with transaction() as session:
        rows = session.execute(select(ProbeStep.step, ProbeStep.revision)).all()
        run = session.get_one(Run, claim.run_id)
    assert len(rows) == 500
    assert [row.step for row in sorted(rows, key=lambda row: (row.revision, row.step))] == list(
        range(1, 501)
    )
    assert (run.progress_done, run.progress_total, run.progress_unit) == (500, 500, "steps")
    assert run.revision >= max(row.revision for row in rows)
    assert run.reported_at is not None
    assert run.started_at is not None
    assert run.reported_at > run.started_at


def test_a_repeated_step_overwrites_itself_under_a_newer_revision(claim: leases.Claim) -> None:
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.put(METRIC)
        recorder.flush()
        with transaction() as session:
            before = session.scalars(select(Metric)).one()
        recorder.put(replace(METRIC, loss=0.5))
        recorder.flush()
    with transaction() as session:
        after = session.scalars(select(Metric)).one()
    assert (before.loss, after.loss) == (0.69, 0.5)
    assert after.revision > before.revision


def test_not_a_number_is_kept_as_it_is(claim: leases.Claim) -> None:
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.put(replace(METRIC, loss=float("nan"), grad_norm=float("inf")))
    with transaction() as session:
        stored = session.scalars(select(Metric)).one()
    assert stored.loss != stored.loss
    assert stored.grad_norm == float("inf")


def test_a_ledger_with_numbers_that_are_not_finite_is_stored_with_gaps(
    claim: leases.Claim,
) -> None:
    entry = LedgerEntry(7, "Yes", 0.1, float("nan"), float("nan"), None)
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.put(PROBE)
        recorder.put(replace(PROBE_STEP, ledger=LedgerRecord([], [entry], [], 0.0, float("nan"))))
    with transaction() as session:
        [gainer] = session.scalars(select(ProbeStep.gainers)).one()
    assert (gainer["initial"], gainer["final"], gainer["change"]) == (0.1, None, None)


def test_a_probability_too_small_for_what_stores_it_is_zero(claim: leases.Claim) -> None:
    """As of a model that has become certain, or diverged."""
    ledger = LedgerRecord([1e-60, 0.25, 1e-45], [], [], 0.0, 0.0, predicted_changes=[-1e-60])
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.put(PROBE)
        recorder.put(replace(PROBE_STEP, ledger=ledger))
    with transaction() as session:
        stored = session.scalars(select(ProbeStep)).one()
    assert stored.watched_probs == [0, 0.25, pytest.approx(1.4e-45, rel=0.1)]
    assert stored.predicted_changes == [0]


def test_positions_answers_and_final_numbers_are_stored_and_overwritten(
    claim: leases.Claim,
) -> None:
    ledger = LedgerRecord(
        watched_probs=[0.25],
        gainers=[],
        losers=[],
        rest_change=0.0,
        moved_mass=0.1,
        recent=RecentLedger(1, [], [], float("nan"), 0.1),
        predicted_changes=[0.5],
        predicted_ranks=[3],
        rank_agreement=0.5,
    )
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.put(ReferenceRecord(0, -1.0, -2.0))
        recorder.put(PROBE)
        recorder.put(replace(PROBE, pair=-1, kind="prompt", name="mine"))
        recorder.put(PositionRecord(0, "dispreferred", 4, [], []))
        for text in ("No", "Yes"):
            recorder.put(PositionStepRecord(0, "dispreferred", 4, 7, ledger))
            recorder.put(AnswerRecord(-1, 7, text, ended=True))
            recorder.put(FinalRecord(0, -1.0, -2.0, -1.5, -4.0))
            recorder.flush()
    with transaction() as session:
        step = session.scalars(select(PositionStep)).one()
        answer = session.scalars(select(ProbeAnswer)).one()
        final = session.scalars(select(ReferenceLogprob)).one()
    assert (step.response, step.position, step.step) == ("dispreferred", 4, 7)
    assert step.recent == {
        "since_step": 1,
        "gainers": [],
        "losers": [],
        "rest_change": None,
        "moved_mass": 0.1,
    }
    assert (step.predicted_ranks, step.rank_agreement) == ([3], 0.5)
    assert (answer.pair, answer.text) == (-1, "Yes")
    assert (final.preferred, final.final_preferred, final.final_dispreferred) == (-1, -1.5, -4)


@pytest.mark.parametrize("kind", get_args(Record))
def test_every_record_kind_has_a_table_with_its_fields_and_key(kind: type[Record]) -> None:
    table, key, _ = RECORD_KINDS[kind]
    names = {field.name for field in fields(kind)}
    if "ledger" in names:
        names = names - {"ledger"} | {field.name for field in fields(LedgerRecord)}
    assert names <= set(table.__table__.c.keys())
    assert ["run_id", *key] == [column.name for column in table.__table__.primary_key]


def test_after_the_lease_is_lost_nothing_is_written_and_the_caller_is_told(
    claim: leases.Claim,
) -> None:
    with transaction() as session:
        session.get_one(Run, claim.run_id).lease_token = "someone else's"
    recorder = Recorder(claim.run_id, claim.token)
    recorder.put(METRIC)
    with pytest.raises(LeaseLostError):
        recorder.flush()
    with pytest.raises(LeaseLostError):
        recorder.put(METRIC)
    assert steps_of(claim.run_id) == []


def test_a_message_is_kept_once(claim: leases.Claim) -> None:
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.message("3 prompts were cut")
        recorder.flush()
        recorder.message("3 prompts were cut")
        recorder.message("two forwards a pair")
    with transaction() as session:
        run = session.get_one(Run, claim.run_id)
    assert run.messages == ["3 prompts were cut", "two forwards a pair"]


def test_connections_that_break_lose_nothing(claim: leases.Claim) -> None:
    killer = get_engine().connect()
    with Recorder(claim.run_id, claim.token) as recorder:
        for step in range(1, 101):
            recorder.put(replace(METRIC, step=step))
            if step % 20 == 0:
                killer.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
                killer.commit()
    killer.close()
    assert steps_of(claim.run_id) == list(range(1, 101))


def test_a_worker_that_freezes_in_a_transaction_holds_nobody_up_and_then_writes_what_it_had(
    claim: leases.Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_idle_transactions(timedelta(seconds=0.1))
    really, got_at_the_row = recording.write, threading.Event()

    def freeze_once(session: Session, *arguments: Any) -> int:
        revision: int = really(session, *arguments)
        if not got_at_the_row.is_set():
            # The sweeper's part: it gets at the run's row although its lock was not let go.
            with get_engine().begin() as other:
                other.execute(text("SET LOCAL lock_timeout = '10s'"))
                other.execute(select(Run.id).with_for_update())
            got_at_the_row.set()
        return revision

    monkeypatch.setattr(recording, "write", freeze_once)
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.put(METRIC)
    assert got_at_the_row.is_set()
    assert steps_of(claim.run_id) == [1]


def test_a_full_buffer_makes_the_caller_wait_and_drops_nothing(
    claim: leases.Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MAX_WAITING", 3)
    with Recorder(claim.run_id, claim.token) as recorder:
        for step in range(1, 51):
            recorder.put(replace(METRIC, step=step))
    assert steps_of(claim.run_id) == list(range(1, 51))


def phase_of(run_id: int) -> tuple[Any, ...]:
    with transaction() as session:
        run = session.get_one(Run, run_id)
    return (run.phase, run.phase_done, run.phase_total, run.phase_unit)


def test_a_phase_is_stored_and_progress_counts_for_it(claim: leases.Claim) -> None:
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.phase("downloading", 3, 15, "bytes")
        recorder.flush()
        assert phase_of(claim.run_id) == ("downloading", 3, 15, "bytes")
        recorder.phase("loading")
        recorder.flush()
        assert phase_of(claim.run_id) == ("loading", None, None, None)
        recorder.phase("training")
        recorder.progress(2, 9, "steps")
        recorder.flush()
        assert phase_of(claim.run_id) == ("training", 2, 9, "steps")
    with transaction() as session:
        run = session.get_one(Run, claim.run_id)
    assert (run.progress_done, run.progress_total, run.progress_unit) == (2, 9, "steps")


def test_nobody_foresees_when_other_workers_come(
    claim: leases.Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("worker.recorder.time.monotonic", lambda: now)
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.phase("waiting for seats", 1, 3, "taken")
        now += 60.0
        recorder.phase("waiting for seats", 2, 3, "taken")
        recorder.flush()
        assert phase_of(claim.run_id) == ("waiting for seats", 2, 3, "taken")
    with transaction() as session:
        assert session.get_one(Run, claim.run_id).phase_eta_seconds is None


def test_a_phase_is_written_seldom_but_to_its_end(
    claim: leases.Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int | None] = []
    really = recording.write

    def write(session: Session, run_id: int, token: str, batch: Any) -> int:
        written.append(batch.phase.done)
        return really(session, run_id, token, batch)

    monkeypatch.setattr(recording, "write", write)
    with Recorder(claim.run_id, claim.token) as recorder:
        for done in range(10_001):
            recorder.phase("downloading", done, 10_000, "bytes")
            if done % 100 == 0:
                recorder.flush()
    # Once at the start, once at the end, and at most twice a second between.
    assert written[0] == 0
    assert written[-1] == 10_000
    assert len(written) < 10


def test_a_phase_that_counts_something_else_keeps_its_count(claim: leases.Claim) -> None:
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.phase("scoring")
        recorder.progress(0, 60, "pairs")
        recorder.flush()
        assert phase_of(claim.run_id) == ("scoring", 0, 60, "pairs")
        recorder.phase("scoring", 2, 6, "layers")
        recorder.progress(20, 60, "pairs")
        recorder.flush()
        assert phase_of(claim.run_id) == ("scoring", 2, 6, "layers")
    with transaction() as session:
        run = session.get_one(Run, claim.run_id)
    assert (run.progress_done, run.progress_total, run.progress_unit) == (20, 60, "pairs")


def test_a_count_that_went_back_begins_anew(
    claim: leases.Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("worker.recorder.time.monotonic", lambda: now)
    with Recorder(claim.run_id, claim.token) as recorder:
        for layer in (0, 4, 0, 2):
            now += 5.0
            recorder.phase("comparing forward passes", layer, 6, "layers")
        recorder.flush()
    with transaction() as session:
        run = session.get_one(Run, claim.run_id)
    assert run.phase_eta_seconds == pytest.approx(4 * 5.0 / 2)


def test_the_time_left_counts_from_where_a_phase_began(
    claim: leases.Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("worker.recorder.time.monotonic", lambda: now)
    with Recorder(claim.run_id, claim.token) as recorder:
        recorder.phase("loading")
        recorder.progress(0, 60, "pairs")
        now += 240.0
        recorder.phase("scoring")
        recorder.progress(10, 60, "pairs")
        now += 5.0
        recorder.progress(20, 60, "pairs")
        recorder.flush()
    with transaction() as session:
        run = session.get_one(Run, claim.run_id)
    assert run.eta_seconds == run.phase_eta_seconds == pytest.approx(20.0)

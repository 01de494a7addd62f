"""A run's life as a state machine: whatever people, workers and time do, in whatever order.

hypothesis puts steps together, a model in plain Python says what each must lead to, and the real
functions are called on the real database. Time stands still but for `wait`.
"""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, func, select

from app.core.database import transaction
from app.core.errors import ConflictError, NotFoundError
from app.runs import requests
from app.store import leases, queue, recording
from app.store.runs import FINAL, Metric, Run
from chesboard.records import MetricRecord
from tests.app import factories

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)
WORKERS = st.sampled_from(["ada", "grace", "barbara"])


def a_step(step: int) -> MetricRecord:
    measured = dict.fromkeys((field.name for field in dataclasses.fields(MetricRecord)), 0.5)
    return MetricRecord(**{**measured, "step": step, "tokens_seen": step})  # type: ignore[arg-type]


class RunLife(RuleBasedStateMachine):
    """One run. `claims` holds every lease that was ever given, also those that were lost."""

    claims: Bundle[leases.Claim] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        with transaction() as session:
            dataset = factories.dataset(session, pairs=1)
            self.id = factories.run(session, dataset.id, status="queued").id
        self.now = NOON
        self.status = "queued"
        self.attempts = 0
        self.tries_here = 0
        self.cancelling = False
        self.holder: str | None = None
        self.expires = NOON
        self.recorded: set[int] = set()
        self.revision = 0
        self.gone = False

    # --- what the model knows ---

    @property
    def has_expired(self) -> bool:
        return self.status == "running" and self.expires < self.now

    def holds(self, claim: leases.Claim) -> bool:
        return not self.gone and self.status == "running" and self.holder == claim.token

    def ends(self, status: str) -> None:
        self.status, self.holder = status, None

    # --- time ---

    @rule(seconds=st.sampled_from([1, 10, 29, 31, 100]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.status == "running")
    @rule(after=st.sampled_from([timedelta(0), timedelta(microseconds=1)]))
    def wait_until_the_lease_ends(self, after: timedelta) -> None:
        self.now = max(self.now, self.expires + after)

    # --- workers ---

    @precondition(lambda self: self.status == "running")
    @rule(target=claims, worker=WORKERS)
    def lose_to_another(self, worker: str) -> Any:
        """A worker goes silent, and another takes its run before the sweeper comes by."""
        self.now = max(self.now, self.expires + timedelta(seconds=1))
        return self.claim(worker)

    @rule(target=claims, worker=WORKERS)
    def claim(self, worker: str) -> Any:
        to_be_had = (
            not self.gone
            and (self.status == "queued" or self.has_expired)
            and self.tries_here < leases.MAX_TRIES
        )
        with transaction() as session:
            taken = leases.claim(session, self.id, worker, LEASE, self.now)
        assert (taken is not None) == to_be_had
        if taken is None:
            return multiple()
        self.status, self.holder, self.expires = "running", taken.token, self.now + LEASE
        self.attempts += 1
        self.tries_here += 1
        assert taken.attempt == self.attempts
        return taken

    @rule(claim=claims)
    def renew(self, claim: leases.Claim) -> None:
        with transaction() as session:
            state = leases.renew(session, self.id, claim.token, LEASE, self.now)
        assert state.held == self.holds(claim)
        if state.held:
            self.expires = self.now + LEASE
            assert state.cancel_requested == self.cancelling

    @rule(claim=claims, step=st.integers(0, 3), checkpointed=st.booleans())
    def record(self, claim: leases.Claim, step: int, checkpointed: bool) -> None:
        batch = recording.Batch(records=[a_step(step)], checkpointed=checkpointed)
        if not self.holds(claim):
            with pytest.raises(recording.StaleLeaseError), transaction() as session:
                recording.write(session, self.id, claim.token, batch)
            return
        with transaction() as session:
            recording.write(session, self.id, claim.token, batch)
        self.recorded.add(step)
        if checkpointed:
            self.tries_here = 1

    # Ends are rare in what is tried, or most of it would be about runs that are over.
    @precondition(lambda self: self.revision > 4)
    @rule(claim=claims, status=st.sampled_from(sorted(FINAL)))
    def finish(self, claim: leases.Claim, status: str) -> None:
        error = {"message": "it failed"} if status == "failed" else None
        with transaction() as session:
            done = leases.finish(session, self.id, claim.token, status, error=error, now=self.now)
        assert (done is not None) == self.holds(claim)
        if done is not None:
            self.ends(status)

    @rule(claim=consumes(claims))
    def hand_back(self, claim: leases.Claim) -> None:
        with transaction() as session:
            done = leases.hand_back(session, self.id, claim.token)
        assert (done is not None) == self.holds(claim)
        if done is not None:
            self.ends("queued")
            self.attempts -= 1
            self.tries_here -= 1

    @rule()
    def sweep(self) -> None:
        expired = self.has_expired and not self.gone
        with transaction() as session:
            changed = leases.expire(session, self.now)
        assert [run_id for run_id, _ in changed] == ([self.id] if expired else [])
        if not expired:
            return
        if self.tries_here >= leases.MAX_TRIES:
            self.ends("failed")
        elif self.cancelling:
            self.ends("cancelled")
        else:
            self.ends("queued")

    # --- people ---

    @precondition(lambda self: self.revision > 3)
    @rule()
    def cancel(self) -> None:
        if self.gone:
            self._refused(NotFoundError, requests.cancel)
        elif self.status in ("succeeded", "failed"):
            self._refused(ConflictError, requests.cancel)
        else:
            with transaction() as session:
                requests.cancel(session, self.id)
            self.cancelling = True
            if self.status == "queued":
                self.ends("cancelled")

    @rule()
    def resume(self) -> None:
        if self.gone:
            self._refused(NotFoundError, requests.resume)
        elif self.status not in ("failed", "cancelled"):
            self._refused(ConflictError, requests.resume)
        else:
            with transaction() as session:
                requests.resume(session, self.id)
            self.status, self.cancelling = "queued", False
            self.attempts = self.tries_here = 0

    @precondition(lambda self: len(self.recorded) > 1)
    @rule()
    def delete(self) -> None:
        if self.gone:
            self._refused(NotFoundError, requests.delete)
        elif self.status == "running":
            self._refused(ConflictError, requests.delete)
        else:
            with transaction() as session:
                requests.delete(session, self.id)
            self.gone = True

    def _refused(self, kind: type[Exception], ask: Any) -> None:
        with pytest.raises(kind), transaction() as session:
            ask(session, self.id)

    # --- what holds at every moment ---

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        with transaction() as session:
            run = session.get(Run, self.id)
            steps = list(session.scalars(select(Metric.step).where(Metric.run_id == self.id)))
            claimable = queue.next_claimable(session, now=self.now)
        if self.gone:
            assert (run, steps, claimable) == (None, [], None)
            return
        assert run is not None
        assert (run.status, run.lease_token) == (self.status, self.holder)
        assert (run.attempts, run.tries_here) == (self.attempts, self.tries_here)
        # Each step once, none lost, whoever wrote it.
        assert sorted(steps) == sorted(self.recorded)
        # A lease, and nobody else, means that somebody works on it; an end has its time.
        assert (run.lease_expires_at is not None) == (self.status == "running")
        assert (run.finished_at is not None) == (self.status in FINAL)
        assert (run.error is not None) == (self.status == "failed")
        assert run.revision >= self.revision, "a page that has seen a revision sees no older one"
        self.revision = run.revision
        waits = self.status == "queued" or self.has_expired
        assert (claimable == self.id) == (waits and self.tries_here < leases.MAX_TRIES)

    def teardown(self) -> None:
        with transaction() as session:
            session.execute(delete(Run))


def test_a_run_lives_as_the_model_says(database: Any) -> None:
    run_state_machine_as_test(
        RunLife,
        settings=settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    with transaction() as session:
        assert session.scalar(select(func.count()).select_from(Metric)) == 0

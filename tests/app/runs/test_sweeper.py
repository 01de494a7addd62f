"""The sweeper: what stands in PostgreSQL and nobody works on is sent to somebody again."""

from datetime import UTC, datetime

import pytest

from app.core.broker import QUEUE, get_redis
from app.core.database import transaction
from app.core.settings import get_settings
from app.runs import sweeper
from app.store.runs import Run, Worker
from tests.app import factories
from tests.support import database_is_away, eventually

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def waiting(database) -> int:
    """A queued run whose message was lost, and an idle worker."""
    with transaction() as session:
        session.add(Worker(name="ada", device="cpu", run_id=None))
        return factories.run(session, factories.dataset(session).id, status="queued").id


@pytest.fixture
def silent(database) -> int:
    """A run whose worker has not renewed its lease."""
    with transaction() as session:
        run = factories.run(session, factories.dataset(session).id, status="running")
        run.lease_token, run.lease_expires_at = "a token", LONG_AGO
        return run.id


def status(run_id: int) -> str:
    with transaction() as session:
        return session.get_one(Run, run_id).status


def messages() -> int:
    return get_redis().llen(QUEUE)


def test_a_run_whose_message_was_lost_is_sent_again(waiting: int) -> None:
    get_redis().flushdb()
    sweeper.sweep()
    assert messages() == 1


def test_no_message_is_sent_while_nobody_is_idle(waiting: int) -> None:
    with transaction() as session:
        session.get_one(Worker, "ada").run_id = 7
    sweeper.sweep()
    assert messages() == 0


def test_a_run_whose_worker_is_silent_is_taken_back(silent: int) -> None:
    sweeper.sweep()
    assert status(silent) == "queued"


def test_after_the_database_was_away_workers_get_a_round_to_renew_their_leases(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    really = sweeper.sweep

    def away_at_first(*, expire: bool = True) -> None:
        if not seen:
            seen.append("away")
            raise database_is_away()
        really(expire=expire)
        seen.append(status(silent))

    monkeypatch.setattr(sweeper, "sweep", away_at_first)
    at_work = sweeper.Sweeper(get_settings().heartbeat / 100)
    at_work.start()
    eventually(lambda: len(seen) >= 3)
    at_work.stop()
    assert seen[:3] == ["away", "running", "queued"]

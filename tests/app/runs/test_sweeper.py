"""The sweeper: what stands in PostgreSQL and nobody works on is sent to somebody again."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.core.broker import QUEUE, get_redis
from app.core.database import transaction
from app.core.settings import get_settings
from app.runs import sweeper
from app.store.runs import Run, Worker
from app.store.shards.tables import RunShard
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


def test_as_many_workers_are_woken_as_there_are_free_shards(database: Any) -> None:
    with transaction() as session:
        session.add_all(Worker(name=name, device="cpu") for name in ("ada", "grace", "barbara"))
        dataset = factories.dataset(session)
        run = factories.run(session, dataset.id, kind="score", status="queued")
        session.add_all(
            RunShard(run_id=run.id, shard=number, pairs=[number], characters=1, total=1)
            for number in range(2)
        )
    get_redis().flushdb()
    sweeper.sweep()
    assert messages() == 2


def test_a_shard_whose_worker_is_silent_is_taken_back(database: Any) -> None:
    with transaction() as session:
        run = factories.run(
            *(session, factories.dataset(session).id), kind="score", lease_expires_at=LONG_AGO
        )
        shard = {"run_id": run.id, "shard": 0, "pairs": [0], "characters": 1, "total": 1}
        lease = {"lease_token": "a token", "lease_expires_at": LONG_AGO, "tries_here": 1}
        session.add(RunShard(**shard, **lease, status="running"))
    sweeper.sweep()
    assert status(run.id) == "queued"
    with transaction() as session:
        taken_back = session.get_one(RunShard, (run.id, 0))
    assert (taken_back.status, taken_back.lease_token) == ("queued", None)


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

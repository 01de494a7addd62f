"""GET /healthz: is everything there that a run needs?"""

import time

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func

from app.core import broker
from app.core import database as db
from app.core.settings import get_settings
from app.store.runs import Worker


def test_all_is_well(client: TestClient) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "database": "ok", "broker": "ok", "workers": []}
    assert answer.headers["cache-control"] == "no-store"


def test_workers_heard_of_within_a_lease_are_listed(client: TestClient) -> None:
    lease = get_settings().lease
    with db.transaction() as session:
        session.add(Worker(name="alive", device="cpu, 2 threads", run_id=4))
        session.add(Worker(name="lost", device="cpu", seen_at=func.now() - 2 * lease))
    assert client.get("/healthz").json()["workers"] == [
        {"name": "alive", "device": "cpu, 2 threads", "run_id": 4}
    ]


def test_broker_that_is_away_is_named(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(get_settings(), "redis_url", "redis://127.0.0.1:9/0")
        broker.reset_broker()
        answer = client.get("/healthz")
    broker.reset_broker()
    assert answer.status_code == 503
    assert (answer.json()["database"], answer.json()["broker"]) == ("ok", "down")
    assert answer.json()["status"] == "down"


def test_database_that_is_away_is_named(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(get_settings(), "database_url", "postgresql://nobody@127.0.0.1:9/none")
        db.reset_engine()
        started = time.monotonic()
        answer = client.get("/healthz")
    db.reset_engine()
    assert answer.status_code == 503
    assert (answer.json()["database"], answer.json()["broker"]) == ("down", "ok")
    assert time.monotonic() - started < 10

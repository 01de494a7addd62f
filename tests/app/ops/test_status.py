"""Seeing inside: the status in plain words, and /metrics. The database is a real one."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, text

from app.core import database as db
from app.core.database import transaction
from app.core.settings import get_settings
from app.ops.snapshot import DeploymentSnapshot, take_snapshot
from app.ops.status import describe
from app.store.runs import Run, Worker
from tests.app import factories

GB = 1 << 30


def ago(seconds: float) -> Any:
    return func.clock_timestamp() - timedelta(seconds=seconds)


def worker(name: str = "ada", seconds: float = 0, **columns: Any) -> None:
    with transaction() as session:
        session.add(Worker(name=name, device="cpu", seen_at=ago(seconds), **columns))


def run(status: str, **columns: Any) -> int:
    with transaction() as session:
        dataset = factories.dataset(session)
        made = factories.run(session, dataset.id, status=status, **columns)
        return made.id


def findings(client: TestClient) -> list[str]:
    answer = client.get("/api/v1/status")
    assert answer.status_code == 200
    return [finding["what"] for finding in answer.json()["findings"]]


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """{(name, label values…): value} of everything that /metrics tells."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture(autouse=True)
def _enough_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ops.status.MIN_DISK_BYTES", 0)


def test_all_is_well(client: TestClient) -> None:
    worker()
    assert findings(client) == []
    assert client.get("/api/v1/status").json()["sentence"] == "Operational; no run in progress."


def test_a_queue_without_a_worker(client: TestClient) -> None:
    run("queued")
    assert findings(client) == ["1 run in the queue, and no worker is running."]
    assert "There are problems." in client.get("/status").text
    assert "chesboard worker" in client.get("/status").text


def test_a_worker_that_went_silent_and_its_run(client: TestClient) -> None:
    number = run("running", worker="ada", lease_expires_at=ago(40), lease_token="t")
    worker("ada", 70, run_id=number)
    silent, lease = findings(client)
    assert silent.startswith("Worker ada was last seen 7")
    assert f"The worker of run {number}" in lease
    assert "ran out" in client.get("/status").text


def test_a_worker_of_yesterday_is_forgotten(client: TestClient) -> None:
    worker("old", 90_000)
    assert findings(client) == []


def test_an_idle_worker_that_does_not_hear(client: TestClient) -> None:
    run("queued", created_at=ago(120))
    worker()
    assert findings(client)[0].startswith("A run has been queued for 12")


def test_a_recorder_that_cannot_store(client: TestClient) -> None:
    worker(report={"recorder_lag_seconds": 42.0, "recorder_waiting": 7})
    assert findings(client) == [
        "Worker ada has been trying to store its measurements for 42 s.",
    ]


def test_a_run_whose_worker_is_held_up(client: TestClient) -> None:
    columns = {"worker": "ada", "lease_expires_at": ago(-20), "lease_token": "t"}
    lately = run("running", **columns, reported_at=ago(500))
    number = run("running", **columns, reported_at=ago(660))
    worker()
    assert findings(client) == [f"Run {number} “train run” has reported nothing for 11 min."]
    assert "Nothing was reported since" in client.get(f"/runs/{number}").text
    assert client.get(f"/api/v1/runs/{number}").json()["quiet_since"] is not None
    assert "Nothing was reported since" not in client.get(f"/runs/{lately}").text
    assert client.get(f"/api/v1/runs/{lately}").json()["quiet_since"] is None


def test_a_run_that_failed_lately(client: TestClient) -> None:
    run("failed", finished_at=ago(100), error={"message": "The <device> ran out of memory."})
    run("failed", finished_at=ago(100_000), error={"message": "long ago"})
    [found] = findings(client)
    assert found.endswith("The <device> ran out of memory.")
    assert "&lt;device&gt;" in client.get("/status").text


def test_a_schema_that_is_behind(client: TestClient) -> None:
    with transaction() as session:
        known = session.scalar(text("SELECT version_num FROM alembic_version"))
        session.execute(text("UPDATE alembic_version SET version_num = '190001010000'"))
    try:
        assert findings(client)[0].startswith("The database has schema 190001010000")
    finally:
        with transaction() as session:
            session.execute(
                text("UPDATE alembic_version SET version_num = :known"), {"known": known}
            )


def test_a_full_disk(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ops.status.MIN_DISK_BYTES", 2 * GB)
    seen = take_snapshot()
    little = DeploymentSnapshot(seen.database, True, GB, 100 * GB, seen.expected_revision)
    [found] = describe(little, get_settings()).findings
    assert found.what.startswith("Only 1.1 GB are free")


def test_a_database_that_is_away_is_told_on_the_page_and_to_prometheus(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(get_settings(), "database_url", "postgresql://nobody@127.0.0.1:9/none")
        db.reset_engine()
        page = client.get("/status")
        seen = samples(client)
    db.reset_engine()
    assert page.status_code == 200
    assert "The database does not answer" in page.text
    assert seen[("chesboard_database_up",)] == 0
    assert seen[("chesboard_broker_up",)] == 1


# --- Prometheus -------------------------------------------------------------------------------


def test_queue_leases_workers_and_steps_are_measured(client: TestClient) -> None:
    number = run(
        "running", worker="ada", lease_expires_at=ago(-20), lease_token="t", reported_at=ago(3)
    )
    run("queued", created_at=ago(50))
    worker("ada", 1, run_id=number, report={"gpu_memory_bytes": 5.0, "recorder_lag_seconds": 0.5})
    with transaction() as session:
        for step in range(5):
            factories.metric(
                session, number, step, tokens_per_second=100.0 + step, recorded_at=ago(9 - 2 * step)
            )
    seen = samples(client)
    assert seen[("chesboard_queue_length",)] == 1
    assert seen[("chesboard_queue_oldest_seconds",)] == pytest.approx(50, abs=5)
    assert seen[("chesboard_runs", "running")] == 1
    assert seen[("chesboard_run_lease_seconds_left", str(number))] == pytest.approx(20, abs=5)
    assert seen[("chesboard_run_step_seconds", str(number))] == pytest.approx(2, abs=0.1)
    assert seen[("chesboard_run_tokens_per_second", str(number))] == 104
    assert seen[("chesboard_run_recorded_seconds_ago", str(number))] == pytest.approx(1, abs=5)
    assert seen[("chesboard_run_quiet_seconds", str(number))] == pytest.approx(3, abs=5)
    assert seen[("chesboard_worker_gpu_memory_bytes", "ada")] == 5
    assert seen[("chesboard_worker_recorder_lag_seconds", "ada")] == 0.5
    assert seen[("chesboard_worker_busy", "ada")] == 1


def test_requests_are_counted_by_route_and_not_by_address(client: TestClient) -> None:
    for number in (1, 2, 3):
        client.get(f"/api/v1/runs/{number}")
        client.get(f"/nowhere/{number}")
    seen = samples(client)
    route = "/api/v1/runs/{run_id}"
    assert seen[("chesboard_http_requests_total", "GET", route, "404")] == 3
    assert seen[("chesboard_http_request_seconds_count", "GET", route)] == 3
    assert seen[("chesboard_http_requests_total", "(any)", "(other)", "404")] == 3
    assert not [name for name in seen if any("nowhere" in part for part in name)]


def test_a_run_is_not_lost_among_many(client: TestClient) -> None:
    run("running", worker="ada", lease_expires_at=ago(-20), lease_token="t")
    with transaction() as session:
        assert session.query(Run).count() == 1
    assert len(client.get("/api/v1/status").json()["running"]) == 1

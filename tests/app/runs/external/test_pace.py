"""The time left of runs that are trained elsewhere."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func

from app.core.database import transaction
from app.runs.external.pace import next_pace
from app.store.external import ExternalRun
from tests.app.runs.external.sending import CONFIG, begin, metric, send


def test_the_pace_is_that_of_late() -> None:
    pace = next_pace(None, 2, 10.0)
    assert pace == 5.0
    for _ in range(60):
        pace = next_pace(pace, 1, 20.0)
    assert pace == pytest.approx(20.0, rel=1e-4)


def test_steps_that_waited_and_come_at_once_hardly_count() -> None:
    """As after the server was away, and when `chesboard sync` begins while the training goes on."""
    assert next_pace(20.0, 1000, 0.05) == pytest.approx(20.0, rel=1e-3)
    pace = next_pace(None, 1000, 1.0)  # nothing else is known yet
    for _ in range(6):
        pace = next_pace(pace, 1, 20.0)
    assert pace == pytest.approx(20.0, rel=0.2)


def elapse(run_id: int, seconds: float) -> None:
    """As if its last batch had come so many seconds earlier."""
    with transaction() as session:
        external = session.get_one(ExternalRun, run_id)
        external.advanced_at = func.clock_timestamp() - timedelta(seconds=seconds)


def progress(client: TestClient, run_id: int) -> dict[str, float | None]:
    found: dict[str, float | None] = client.get(f"/api/v1/runs/{run_id}").json()["progress"]
    return found


def test_a_run_of_known_length_says_how_long_it_will_take(client: TestClient) -> None:
    run_id = begin(client)["id"]
    send(client, run_id, [metric(1)])
    assert progress(client, run_id)["eta_seconds"] is None
    elapse(run_id, 30)
    send(client, run_id, [metric(6)])
    now = progress(client, run_id)
    assert (now["done"], now["total"]) == (6, 20)
    assert now["eta_seconds"] == pytest.approx(6 * 14, abs=2)
    for page in (f"/runs/{run_id}", "/runs", "/"):
        assert "1 min 2" in client.get(page).text, page
    at = f"/api/v1/runs/{run_id}"
    elapse(run_id, 3600)
    assert client.post(f"{at}/attempts", json={"resumed_from_step": 1}).status_code == 201
    assert progress(client, run_id)["eta_seconds"] == pytest.approx(6 * 19, abs=3)
    client.post(f"{at}/finish", json={"attempt": 2, "status": "succeeded"})
    assert progress(client, run_id)["eta_seconds"] is None


@pytest.mark.parametrize("max_steps", [None, 3])
def test_one_of_unknown_length_says_how_far_it_is(
    client: TestClient, max_steps: int | None
) -> None:
    """Also where it goes on beyond what its trainer had told."""
    run_id = begin(client, config={**CONFIG, "max_steps": max_steps})["id"]
    send(client, run_id, [metric(1)])
    elapse(run_id, 30)
    send(client, run_id, [metric(7)])
    assert progress(client, run_id) == {
        "done": 7,
        "total": None,
        "unit": "steps",
        "eta_seconds": None,
    }
    for page in (f"/runs/{run_id}", "/runs"):
        assert "7 steps" in client.get(page).text, page

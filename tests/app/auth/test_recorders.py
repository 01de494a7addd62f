"""The role recorder, and its tokens that are made on a page."""

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.auth import recorders
from app.auth.permissions import RULES, Role, Visitor
from app.core.database import transaction
from tests.app import factories
from tests.app.runs.external.sending import begin, metric, send
from tests.support import (
    OPERATOR_TOKEN,
    REVIEWER_TOKEN,
    VIEWER_TOKEN,
    bearer,
    database_is_away,
)


@pytest.fixture
def token(locked: TestClient) -> str:
    answer = locked.post(
        "/api/v1/recorder-tokens", json={"name": "gpu 7"}, headers=bearer(OPERATOR_TOKEN)
    )
    assert answer.status_code == 201
    return str(answer.json()["token"])


@pytest.fixture
def recorder(locked: TestClient, token: str) -> TestClient:
    locked.headers.update(bearer(token))
    return locked


def test_a_recorder_records_and_reads_external_runs(recorder: TestClient) -> None:
    run_id = begin(recorder)["id"]
    assert send(recorder, run_id, [metric(1)]).status_code == 200
    for part in ("", "/metrics", "/probes"):
        assert recorder.get(f"/api/v1/runs/{run_id}{part}").status_code == 200
    at = f"/api/v1/runs/{run_id}"
    assert recorder.post(f"{at}/attempts", json={"resumed_from_step": 1}).status_code == 201
    ending = {"attempt": 2, "status": "succeeded"}
    assert recorder.post(f"{at}/finish", json=ending).status_code == 200


def test_a_recorder_reads_the_texts_of_pairs_that_it_names(recorder: TestClient) -> None:
    with transaction() as session:
        dataset_id = factories.dataset(session).id
    at = f"/api/v1/datasets/{dataset_id}"
    answer = recorder.get(f"{at}/texts", params={"pair": [2]})
    assert [item["preferred"] for item in answer.json()["items"]] == ["No"]
    for path in ("", "/pairs", "/pairs/2", "/export", "/flags", "/reviews"):
        assert recorder.get(f"{at}{path}").status_code == 403, path


def test_and_nothing_else(recorder: TestClient) -> None:
    with transaction() as session:
        ours = factories.run(session, factories.dataset(session).id).id
    external = begin(recorder)["id"]
    for method, path in (
        *(("GET", "/"), ("GET", "/runs"), ("GET", f"/runs/{external}"), ("GET", "/api/v1/runs")),
        *(("GET", f"/api/v1/runs/{ours}"), ("GET", f"/api/v1/runs/{ours}/metrics")),
        *(("DELETE", f"/api/v1/runs/{external}"), ("POST", f"/api/v1/runs/{external}/cancel")),
        *(("GET", "/api/v1/datasets"), ("GET", "/api/v1/recorder-tokens"), ("GET", "/metrics")),
    ):
        assert recorder.request(method, path).status_code == 403, (method, path)
    body = {"kind": "score", "dataset_id": 1}
    assert recorder.post("/api/v1/runs", json=body).status_code == 403


def test_no_other_role_but_an_operator_records() -> None:
    recording = [rule for rule in RULES if rule.recorder and rule.method == "POST"]
    assert len(recording) == 4
    for rule in recording:
        allowed = {role for role in Role if Visitor("a", role, "").may(rule)}
        assert allowed == {Role.RECORDER, Role.OPERATOR}, rule


@pytest.mark.parametrize("role_token", [REVIEWER_TOKEN, VIEWER_TOKEN])
def test_only_an_operator_makes_tokens(locked: TestClient, role_token: str) -> None:
    answer = locked.post("/api/v1/recorder-tokens", json={}, headers=bearer(role_token))
    assert answer.status_code == 403


def test_a_token_is_stored_as_its_hash_alone(locked: TestClient, token: str) -> None:
    listed = locked.get("/api/v1/recorder-tokens", headers=bearer(OPERATOR_TOKEN))
    assert token not in listed.text
    assert [(one["name"], one["made_by"]) for one in listed.json()["items"]] == [
        ("gpu 7", "operator")
    ]
    page = locked.get("/runs/watch", headers=bearer(OPERATOR_TOKEN))
    assert "gpu 7" in page.text
    assert token not in page.text


def test_a_deleted_token_is_refused_after_a_while(
    locked: TestClient, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = "/api/v1/recorder-tokens/1"
    assert locked.delete(at, headers=bearer(OPERATOR_TOKEN)).status_code == 204
    later = time.monotonic() + recorders.REMEMBER_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert locked.get("/api/v1/runs/1", headers=bearer(token)).status_code == 401
    assert locked.delete(at, headers=bearer(OPERATOR_TOKEN)).status_code == 404


def test_while_the_database_is_away_no_token_is_called_wrong(
    locked: TestClient, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> Any:
        raise database_is_away()

    monkeypatch.setattr(recorders, "_find", away)
    answer = locked.get("/api/v1/runs/1", headers=bearer(token))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")

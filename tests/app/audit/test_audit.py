"""The audit log: what is written down, by whom it may be read, and that it is true."""

import csv
import io
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError

from app.audit import recording
from app.core.database import transaction
from app.core.settings import get_settings
from app.main import create_app
from app.store import audit as store_audit
from app.store.audit import AuditEvent, NewEvent
from app.store.runs import Run
from tests.app import factories
from tests.model_folders import write_model

HOME = "http://127.0.0.1:8000"
ROW = b'{"prompt": "Is it?", "chosen": "No", "rejected": "Never"}\n'


def events() -> list[AuditEvent]:
    with transaction() as session:
        return list(session.scalars(select(AuditEvent).order_by(AuditEvent.id)))


def actions() -> list[tuple[str, str]]:
    return [(event.action, event.subject) for event in events()]


def upload(client: TestClient, body: bytes = ROW) -> Any:
    return client.post("/api/v1/datasets", files={"file": ("mine.jsonl", body)})


def test_the_life_of_a_dataset_and_its_runs_is_written_down(
    client: TestClient, models_dir: Any
) -> None:
    write_model(models_dir / "tiny")
    dataset = upload(client).json()["id"]
    wanted = {"kind": "score", "dataset_id": dataset, "config": {"model": "tiny"}}
    run = client.post("/api/v1/runs", json=wanted).json()["id"]
    client.patch(f"/api/v1/runs/{run}", json={"name": "mine"})
    client.post(f"/api/v1/runs/{run}/cancel")
    client.post(f"/api/v1/runs/{run}/resume")
    client.post(f"/api/v1/runs/{run}/cancel")
    client.get(f"/api/v1/datasets/{dataset}/export")
    client.delete(f"/api/v1/runs/{run}")
    client.delete(f"/api/v1/datasets/{dataset}")
    assert actions() == [
        ("dataset.upload", f"dataset {dataset}"),
        ("run.create", f"run {run}"),
        ("run.rename", f"run {run}"),
        ("run.cancel", f"run {run}"),
        ("run.resume", f"run {run}"),
        ("run.cancel", f"run {run}"),
        ("dataset.export", f"dataset {dataset}"),
        ("run.delete", f"run {run}"),
        ("dataset.delete", f"dataset {dataset}"),
    ]
    first, second = events()[:2]
    assert first.details["source_filename"] == "mine.jsonl"
    assert first.details["pairs"] == 1
    assert (second.actor, second.role, second.address) == ("local", "operator", "testclient")
    assert second.details["kind"] == "score"


def test_flags_are_written_down(client: TestClient) -> None:
    with transaction() as session:
        dataset = factories.dataset(session)
        run = factories.run(session, dataset.id, kind="score", status="succeeded")
        for pair in range(3):
            factories.score(session, run.id, pair, float(pair))
    wanted = {"score_run": run.id, "measure": "ches", "top_fraction": 0.5}
    assert client.post(f"/api/v1/datasets/{dataset.id}/flags", json=wanted).status_code == 200
    client.delete(f"/api/v1/datasets/{dataset.id}/flags")
    named = f"dataset {dataset.id}"
    assert actions() == [("flags.set", named), ("flags.clear", named)]


def test_reading_and_what_was_refused_is_not(client: TestClient) -> None:
    with transaction() as session:
        dataset = factories.dataset(session)
        run = factories.run(session, dataset.id, status="succeeded")
    for path in ("/", "/api/v1/runs", f"/api/v1/runs/{run.id}/metrics", "/api/v1/audit"):
        assert client.get(path).status_code == 200
    assert upload(client, b"not a row").status_code == 422
    assert client.delete("/api/v1/runs/99").status_code == 404
    assert client.delete(f"/api/v1/datasets/{dataset.id}").status_code == 409
    assert events() == []


def test_downloads_of_a_run_and_of_the_log_are(client: TestClient) -> None:
    with transaction() as session:
        run = factories.run(session, factories.dataset(session).id, status="succeeded")
    client.get(f"/api/v1/runs/{run.id}/metrics", params={"format": "csv"})
    client.get("/api/v1/audit", params={"format": "jsonl"})
    assert actions() == [("run.export", f"run {run.id}"), ("audit.export", "")]


def test_a_sample_that_is_there_already_is_no_upload(client: TestClient) -> None:
    first = client.post("/api/v1/samples/sentences")
    again = client.post("/api/v1/samples/sentences")
    assert (first.status_code, again.status_code) == (201, 200)
    assert actions() == [("dataset.upload", f"dataset {first.json()['id']}")]


def test_logins_and_their_names_are(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings(), "token", get_settings().token)
    monkeypatch.setenv("CHESBOARD_TOKEN", "an operator's token")
    get_settings.cache_clear()
    client = TestClient(create_app(), base_url=HOME)
    client.post("/login", data={"token": "a guess"})
    client.post("/login", data={"token": "an operator's token"})
    client.post("/api/v1/samples/sentences")
    client.post("/logout")
    assert [(event.action, event.actor) for event in events()] == [
        ("login.refused", ""),
        ("login", "operator"),
        ("dataset.upload", "operator"),
        ("logout", "operator"),
    ]
    # Neither the token nor the guess is kept.
    assert "token" not in json.dumps([event.details for event in events()])


def test_whoever_got_the_answer_finds_it_in_the_log(client: TestClient) -> None:
    """Written before the answer goes out, not some time after."""
    order: list[str] = []
    real = store_audit.add

    def add(*arguments: Any) -> None:
        order.append("written")
        real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_audit, "add", add)
        with client.stream("POST", "/api/v1/samples/sentences") as answer:
            order.append("answered")
            answer.read()
    assert order == ["written", "answered"]


def test_a_log_that_cannot_be_written_is_told_to_the_servers_own(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("insert", {}, Exception("gone"))

    monkeypatch.setattr(store_audit, "add", fail)
    assert client.post("/api/v1/samples/sentences").status_code == 201
    assert "not in the audit log" in caplog.text
    assert "dataset.upload" in caplog.text


def test_text_that_postgresql_cannot_hold_does_not_stop_it(database: Any) -> None:
    short = recording._clean("a\0b\ud800" + "x" * 1000)
    store_audit.record(NewEvent("test", details={"name": short}))
    assert events()[0].details["name"].startswith("a\N{SYMBOL FOR NULL}b?xxx")
    assert len(events()[0].details["name"]) == recording.MAX_TEXT


# --- reading it -------------------------------------------------------------------------------


@pytest.fixture
def written(client: TestClient) -> TestClient:
    for number, (action, actor) in enumerate(
        [("run.create", "ada"), ("run.delete", "grace"), ("runner", "ada"), ("login", "=ada()")]
    ):
        store_audit.record(NewEvent(action, actor, "operator", "::1", f"run {number}"))
    return client


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["login", "runner", "run.delete", "run.create"]),
        ({"action": "run"}, ["run.delete", "run.create"]),
        ({"action": "run.create"}, ["run.create"]),
        ({"actor": "ada"}, ["runner", "run.create"]),
        ({"action": "%"}, []),
        ({"limit": 1, "offset": 1}, ["runner"]),
    ],
)
def test_it_is_filtered(written: TestClient, query: dict[str, Any], found: list[str]) -> None:
    page = written.get("/api/v1/audit", params=query).json()
    assert [item["action"] for item in page["items"]] == found


def test_it_is_downloaded_oldest_first(written: TestClient) -> None:
    rows = list(csv.DictReader(io.StringIO(written.get("/api/v1/audit?format=csv").text)))
    # The download is written down when it begins, so it stands in itself.
    assert [row["action"] for row in rows] == [
        *("run.create", "run.delete", "runner", "login"),
        "audit.export",
    ]
    # A spreadsheet must not compute what somebody called himself.
    assert rows[-2]["actor"] == "'=ada()"
    lines = written.get("/api/v1/audit?format=jsonl&actor=ada").text.splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["run.create", "runner"]


def test_its_page_shows_it_escaped_and_in_pages(written: TestClient) -> None:
    with transaction() as session:
        session.execute(delete(Run))
    for _ in range(101):
        store_audit.record(NewEvent("run.create", "<b>eve</b>"))
    first = written.get("/audit").text
    assert "&lt;b&gt;eve&lt;/b&gt;" in first
    assert "<b>eve</b>" not in first
    assert "1–100 of 105" in first
    assert "Older" in first
    assert "Nothing matches" in written.get("/audit?actor=nobody").text

"""Recording a run that is trained elsewhere, through the API."""

import csv
import gzip
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.database import transaction
from app.core.settings import get_settings
from app.runs import sweeper
from app.runs.external import reading, requests
from app.runs.external import routes as external_routes
from app.store.runs import Run
from app.streaming.events import read_rows
from chesboard.record_json import to_json
from tests.app import factories
from tests.app.runs.external.sending import (
    CONFIG,
    begin,
    final,
    metric,
    probe,
    probe_step,
    send,
    steps,
)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.core.rate_limit import TokenBuckets

    monkeypatch.setattr(external_routes, "_batches", TokenBuckets(1000, 1000))


def run_of(client: TestClient, run_id: int) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/runs/{run_id}").json()
    return found


def recorded(client: TestClient, run_id: int) -> tuple[list[int], list[int], list[int]]:
    """The steps of the metrics, of the probe and of its answers."""
    at = f"/api/v1/runs/{run_id}"
    return (
        [one["step"] for one in client.get(f"{at}/metrics").json()["items"]],
        client.get(f"{at}/probes/0").json()["steps"],
        [one["step"] for one in client.get(f"{at}/probes/0/answers").json()["items"]],
    )


# --- create ---------------------------------------------------------------------------------------


def test_a_run_begins_without_a_dataset(client: TestClient) -> None:
    made = begin(client)
    assert (made["kind"], made["status"], made["attempt"]) == ("external", "running", 1)
    assert (made["dataset_id"], made["dataset_name"], made["recorded_through"]) == (None,) * 3
    assert made["url"] == f"http://127.0.0.1:8000/runs/{made['id']}"
    assert made["lease_seconds"] == 600
    assert made["config"]["a_setting_of_its_own"] == [1, 2]
    assert made["name"] == "dpo, trl.DPOTrainer"


def test_the_same_key_is_the_same_run(client: TestClient) -> None:
    key = uuid.uuid4()
    first = begin(client, str(key))
    again = client.post(
        "/api/v1/runs", json={"kind": "external", "key": key.hex, "config": {"trainer": "other"}}
    )
    assert again.status_code == 200
    assert again.json()["id"] == first["id"]
    assert again.json()["config"]["trainer"] == "trl.DPOTrainer"
    assert begin(client)["id"] != first["id"]


def test_its_dataset_is_found_by_the_file(client: TestClient) -> None:
    sha256 = "ab" * 32
    with transaction() as session:
        ours = factories.dataset(session, source_sha256=sha256).id
    assert begin(client, dataset_sha256=sha256)["dataset_id"] == ours
    assert begin(client, dataset_id=ours)["dataset_id"] == ours
    assert begin(client, dataset_sha256="cd" * 32)["dataset_id"] is None


def test_probes_are_there_from_the_start(client: TestClient) -> None:
    watched = {
        "pair": 7,
        "prompt": "Is it?",
        "preferred_tokens": ["No"],
        "dispreferred_tokens": ["Never"],
        "fork_position": 0,
        "preferred_ids": [5],
        "dispreferred_ids": [6],
    }
    made = begin(client, config={**CONFIG, "probes": [watched]})
    assert made["config"]["probes"] == [{"pair": 7, "name": None}]
    [found] = client.get(f"/api/v1/runs/{made['id']}/probes").json()
    assert (found["pair"], found["preferred_tokens"]) == (7, ["No"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"key": None}, "key"),
        ({"key": "mine"}, "key"),
        ({"dataset_id": 77}, "dataset_id"),
        ({"dataset_sha256": "ab"}, "dataset_sha256"),
        ({"config": {}}, "config.trainer"),
        ({"config": {**CONFIG, "beta": "much"}}, "config.beta"),
        ({"config": {**CONFIG, "note": "a\0b"}}, "config.note"),
        ({"config": {**CONFIG, "note": "x" * 70_000}}, "config"),
        ({"config": {**CONFIG, "opposite_groups": [["no", "such"]]}}, "config.opposite_groups"),
    ],
)
def test_what_cannot_begin_is_said_by_field(
    client: TestClient, changes: dict[str, Any], field: str
) -> None:
    body = {"kind": "external", "key": uuid.uuid4().hex, "config": CONFIG} | changes
    answer = client.post("/api/v1/runs", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_our_own_kinds_need_a_dataset_and_have_no_key(client: TestClient) -> None:
    answer = client.post("/api/v1/runs", json={"kind": "score"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "dataset_id")
    body = {"kind": "score", "dataset_id": 1, "key": uuid.uuid4().hex}
    answer = client.post("/api/v1/runs", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "key")


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_is_stored_and_shown_as_those_of_our_own_runs(
    client: TestClient, packed: bool
) -> None:
    run_id = begin(client)["id"]
    answer = send(client, run_id, [*steps(0, 5), final()], packed=packed)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["recorded_through"], said["cancel_requested"]) == (5, False)
    assert recorded(client, run_id) == ([*range(6)], [*range(6)], [*range(6)])
    run = run_of(client, run_id)
    assert run["revision"] == said["revision"]
    assert run["progress"] == {"done": 5, "total": 20, "unit": "steps", "eta_seconds": None}
    assert run["displacement_kind"] == "catastrophic"
    assert "took the lead" in run["verdict"] or "opposite" in run["verdict"]
    displacement = client.get(f"/api/v1/runs/{run_id}/displacement").json()
    assert [item["displaced"] for item in displacement["items"]] == [True]


def test_a_trainers_own_metrics_are_kept(client: TestClient) -> None:
    run_id = begin(client)["id"]
    send(client, run_id, [metric(1, extra={"entropy": 1.5, "lost": float("inf")})])
    [row] = client.get(f"/api/v1/runs/{run_id}/metrics").json()["items"]
    assert row["extra"] == {"entropy": 1.5, "lost": None}
    assert row["grad_norm"] is None


def test_they_stand_in_the_csv_by_their_own_names(client: TestClient) -> None:
    run_id = begin(client)["id"]
    logged = {"entropy": 1.5, "rewards/chosen": float("inf"), "loss": 7.0}
    send(client, run_id, [metric(1, extra=logged), metric(2)])
    text = client.get(f"/api/v1/runs/{run_id}/metrics?format=csv").text
    first, second = csv.DictReader(text.splitlines())
    assert [first[name] for name in ("loss", "extra.loss", "entropy", "rewards/chosen")] == [
        *("0.5", "7.0", "1.5", "")
    ]
    assert second["entropy"] == ""


def test_downsampling_keeps_the_peaks_of_the_one_that_is_asked_for(client: TestClient) -> None:
    run_id = begin(client)["id"]
    rows = [
        metric(step, loss=1 / step, extra={"entropy": 9.0 if step == 37 else 1.0})
        for step in range(1, 101)
    ]
    send(client, run_id, rows)

    def peak(**query: Any) -> float:
        query = {"points": 8, **query}
        answer = client.get(f"/api/v1/runs/{run_id}/metrics", params=query).json()
        assert answer["decimated"]
        return max(float(row["extra"]["entropy"]) for row in answer["items"])

    assert (peak(), peak(other="unknown"), peak(other="entropy")) == (1.0, 1.0, 9.0)


def test_what_its_trainer_says_stands_on_its_page_at_once(client: TestClient) -> None:
    run_id = begin(client)["id"]
    at = f"/api/v1/runs/{run_id}/records"
    said = ["Not watched: pair 3.", "Not watched: pair 3.", "<b>Cut</b>"]
    before = run_of(client, run_id)["revision"]
    answer = client.post(at, json={"attempt": 1, "records": [], "messages": said})
    assert answer.json()["revision"] == before + 1
    assert run_of(client, run_id)["messages"] == said[1:]
    page = client.get(f"/runs/{run_id}").text
    assert "Not watched: pair 3." in page
    assert "&lt;b&gt;Cut" in page
    again = client.post(at, json={"attempt": 1, "records": [], "messages": said})
    assert again.json()["revision"] == before + 1, "what is known is no news"
    many = [f"message {number}" for number in range(200)]
    client.post(at, json={"attempt": 1, "records": [], "messages": many})
    assert len(run_of(client, run_id)["messages"]) == requests.MAX_MESSAGES


def test_sending_twice_changes_nothing(client: TestClient) -> None:
    run_id = begin(client)["id"]
    first = send(client, run_id, steps(0, 3)).json()
    again = send(client, run_id, steps(0, 3)).json()
    assert again["recorded_through"] == first["recorded_through"] == 3
    assert recorded(client, run_id) == ([*range(4)],) * 3


def test_a_batch_with_one_bad_record_is_not_stored_at_all(client: TestClient) -> None:
    run_id = begin(client)["id"]
    bad = to_json(metric(2)) | {"loss": "low"}
    answer = send(client, run_id, [metric(1), bad, metric(3)])
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"row": 2, "field": "loss", "message": "Input should be a valid number"}
    ]
    assert answer.json()["detail"].startswith("Record 2, loss: ")
    assert client.get(f"/api/v1/runs/{run_id}/metrics").json()["items"] == []
    assert run_of(client, run_id)["revision"] == 1


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (probe_step(1, pair=9), "pair"),
        ({**to_json(probe_step(1)), "preferred_logprobs": [-1.0]}, "preferred_logprobs"),
        ({**to_json(probe_step(1)), "group_probs": []}, "group_probs"),
        ({**to_json(probe()), "fork_position": 2}, "fork_position"),
        ({**to_json(probe()), "preferred_tokens": []}, "preferred_tokens"),
        ({**to_json(probe()), "probe_kind": "prompt"}, "pair"),
        ({**to_json(probe()), "positions": {}}, "positions"),
        ({**to_json(probe()), "preferred_tokens": ["a"] * 131_073}, "preferred_tokens"),
        (metric(1, extra={"n" * 201: 1.0}), f"extra.{'n' * 201}.[key]"),
        ({"kind": "score", "pair": 0}, "kind"),
        ({"kind": ["metric"]}, "kind"),
    ],
)
def test_records_fit_their_probe(client: TestClient, record: Any, field: str) -> None:
    run_id = begin(client)["id"]
    answer = send(client, run_id, [probe(), record])
    assert answer.status_code == 422
    found = answer.json()["errors"][0]
    assert (found["row"], found["field"]) in ((2, field), (1, field))


def test_a_probe_keeps_its_tokens_once_steps_are_recorded(client: TestClient) -> None:
    run_id = begin(client)["id"]
    send(client, run_id, [probe(), probe_step(0)])
    other = {**to_json(probe()), "preferred_tokens": ["No", "way", "</s>"]}
    answer = send(client, run_id, [other])
    assert answer.status_code == 422
    assert "with other tokens before" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b'{"attempt": 1}', 422),
        (b'{"attempt": true, "records": []}', 422),
        (b'{"attempt": 1, "records": [NaN]}', 422),
        (b'{"attempt": 1, "records": [7]}', 422),
        (b'{"attempt": 1, "records": {}}', 422),
        (b'{"attempt": 1, "records": [], "messages": "one"}', 422),
        (b'{"attempt": 1, "records": [], "messages": [""]}', 422),
        (b'{"attempt": 1, "records": [], "messages": ["a\\u0000"]}', 422),
        (b'{"attempt": 1, "records": [], "messages": ["' + b"x" * 2001 + b'"]}', 422),
        (b'{"attempt": 1, "records": [' + b"{}," * 1000 + b"{}]}", 413),
        (b"[" * 100_000, 422),
        (b" " * (reading.MAX_BYTES + 1), 413),
        (b"\xff", 422),
    ],
)
def test_what_is_no_batch_is_refused(client: TestClient, body: bytes, status: int) -> None:
    run_id = begin(client)["id"]
    at = f"/api/v1/runs/{run_id}/records"
    assert client.post(at, content=body).status_code == status
    packed = client.post(at, content=gzip.compress(body), headers={"content-encoding": "gzip"})
    assert packed.status_code == status


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"no gzip", "gzip"), (gzip.compress(b"{}")[:-9], "gzip"), (b"{}", "br")],
    ids=["no gzip", "a part of gzip", "another encoding"],
)
def test_an_encoding_that_is_none_is_refused(
    client: TestClient, body: bytes, encoding: str
) -> None:
    at = f"/api/v1/runs/{begin(client)['id']}/records"
    answer = client.post(at, content=body, headers={"content-encoding": encoding})
    assert answer.status_code == 422


def test_a_run_has_a_limit_of_records(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_RECORDS_OF_RUN", 3)
    run_id = begin(client)["id"]
    assert send(client, run_id, [metric(1), metric(2)]).status_code == 200
    assert send(client, run_id, [metric(3), metric(4)]).status_code == 413
    assert send(client, run_id, []).status_code == 200


def test_batches_that_come_too_fast_are_told_when_to_come_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.core.rate_limit import TokenBuckets

    monkeypatch.setattr(external_routes, "_batches", TokenBuckets(0.1, 2))
    run_id = begin(client)["id"]
    answers = [send(client, run_id, []) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_of_a_deleted_run_the_trainer_is_told_to_stop(client: TestClient) -> None:
    run_id = begin(client)["id"]
    assert client.delete(f"/api/v1/runs/{run_id}").status_code == 204
    answer = send(client, run_id, [metric(1)])
    assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")


def test_a_run_of_our_own_is_recorded_by_no_one_else(client: TestClient) -> None:
    with transaction() as session:
        run_id = factories.run(session, factories.dataset(session).id).id
    answer = send(client, run_id, [metric(1)])
    assert (answer.status_code, answer.json()["code"]) == (409, "not_external")


def test_a_wish_to_stop_reaches_the_trainer(client: TestClient) -> None:
    run_id = begin(client)["id"]
    client.post(f"/api/v1/runs/{run_id}/cancel")
    assert run_of(client, run_id)["status"] == "running"
    assert send(client, run_id, []).json()["cancel_requested"] is True


# --- attempts -------------------------------------------------------------------------------------


def test_a_resumed_training_goes_on_from_its_checkpoint(client: TestClient) -> None:
    run_id = begin(client)["id"]
    send(client, run_id, [*steps(0, 8), final()])
    answer = client.post(f"/api/v1/runs/{run_id}/attempts", json={"resumed_from_step": 5})
    assert answer.status_code == 201
    assert (answer.json()["attempt"], answer.json()["recorded_through"]) == (2, 5)
    assert recorded(client, run_id) == ([*range(6)],) * 3
    assert client.get(f"/api/v1/runs/{run_id}/displacement").json()["items"] == []
    stale = send(client, run_id, [metric(6, loss=9.0)])
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_attempt")
    assert send(client, run_id, steps(6, 7), attempt=2).status_code == 200
    assert recorded(client, run_id) == ([*range(8)],) * 3


def test_pages_are_told_to_cut_their_curves(client: TestClient) -> None:
    run_id = begin(client)["id"]
    revision = send(client, run_id, steps(0, 3)).json()["revision"]
    client.post(f"/api/v1/runs/{run_id}/attempts", json={"resumed_from_step": 1})
    send(client, run_id, steps(2, 2), attempt=2)
    with transaction() as session:
        now = session.get_one(Run, run_id).revision
        stream = read_rows(session, run_id, revision, now).data.decode()
    names = [line for line in stream.splitlines() if line.startswith("event: ")]
    assert names == ["event: rewound", "event: metric", "event: probe", "event: answer"]
    assert '{"step":1,"attempt":2}' in stream


def test_a_run_that_had_ended_goes_on(client: TestClient) -> None:
    run_id = begin(client)["id"]
    send(client, run_id, steps(0, 3))
    ending = {"attempt": 1, "status": "failed", "error": {"message": "out of memory"}}
    client.post(f"/api/v1/runs/{run_id}/finish", json=ending)
    client.post(f"/api/v1/runs/{run_id}/attempts", json={"resumed_from_step": 2})
    run = run_of(client, run_id)
    assert (run["status"], run["error"], run["finished_at"]) == ("running", None, None)


# --- the end, and silence -------------------------------------------------------------------------


def test_a_run_ends_once(client: TestClient) -> None:
    run_id = begin(client)["id"]
    ending = {"attempt": 1, "status": "succeeded", "summary": {"final_loss": 0.25}}
    at = f"/api/v1/runs/{run_id}/finish"
    first = client.post(at, json=ending)
    assert first.status_code == 200
    assert (first.json()["status"], first.json()["summary"]) == ("succeeded", {"final_loss": 0.25})
    again = client.post(at, json={**ending, "status": "failed"})
    assert again.json() == first.json()
    assert client.post(at, json={**ending, "attempt": 2}).status_code == 409
    # What was on its way is stored still.
    assert send(client, run_id, [metric(1)]).status_code == 200
    assert run_of(client, run_id)["status"] == "succeeded"


def test_a_silent_run_is_lost_and_comes_back(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHESBOARD_EXTERNAL_LEASE", "PT0.001S")
    get_settings.cache_clear()
    assert get_settings().external_lease == timedelta(milliseconds=1)
    run_id = begin(client)["id"]
    send(client, run_id, [metric(1)])
    sweeper.sweep()
    lost = run_of(client, run_id)
    assert (lost["status"], lost["finished_at"]) == ("lost", None)
    assert client.get(f"/runs/{run_id}").status_code == 200
    sweeper.sweep()
    assert run_of(client, run_id)["revision"] == lost["revision"]
    answer = send(client, run_id, [])
    assert answer.json()["revision"] == lost["revision"] + 1
    assert run_of(client, run_id)["status"] == "running"


# --- everywhere else ------------------------------------------------------------------------------


def test_every_call_and_page_that_names_a_run_takes_an_external_one(client: TestClient) -> None:
    run_id = begin(client)["id"]
    send(client, run_id, [*steps(0, 4), final()])
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    asked = [
        path.replace("{run_id}", str(run_id)).replace("{pair}", "0")
        for path, calls in paths.items()
        if "get" in calls and "{run_id}" in path and not path.endswith("/events")
    ]
    pages = [f"/runs/{run_id}", "/runs", "/runs?kind=external&status=lost", "/"]
    pages += [f"/compare?runs={run_id}", f"/runs/{run_id}/judge"]
    for path in (*asked, *pages):
        assert client.get(path).status_code in (200, 404, 409, 422), path
    for path in (f"/runs/{run_id}", f"/compare?runs={run_id}", "/runs", "/"):
        assert "trl.DPOTrainer" in client.get(path).text, path


def test_a_run_named_as_a_model_by_an_external_run_can_be_deleted(client: TestClient) -> None:
    with transaction() as session:
        ours = factories.run(session, factories.dataset(session).id, status="succeeded").id
    begin(client, config={**CONFIG, "model": f"run:{ours}"})
    assert client.delete(f"/api/v1/runs/{ours}").status_code == 204


def test_it_is_resumed_where_it_is_trained(client: TestClient) -> None:
    run_id = begin(client)["id"]
    client.post(f"/api/v1/runs/{run_id}/finish", json={"attempt": 1, "status": "failed"})
    answer = client.post(f"/api/v1/runs/{run_id}/resume")
    assert answer.status_code == 409
    assert "trained elsewhere" in answer.json()["detail"]


def test_what_is_not_finite_is_a_gap(client: TestClient) -> None:
    run_id = begin(client)["id"]
    body = json.dumps(to_json(metric(1, loss=float("nan"))))
    assert '"loss": null' in body
    send(client, run_id, [metric(1, loss=float("nan"))])
    [row] = client.get(f"/api/v1/runs/{run_id}/metrics").json()["items"]
    assert (row["loss"], row["nonfinite"]) == (None, ["loss"])


def test_the_stream_of_a_run_is_open_while_the_application_is(client: TestClient) -> None:
    run_id = begin(client)["id"]
    ending = {"attempt": 1, "status": "succeeded"}
    client.post(f"/api/v1/runs/{run_id}/finish", json=ending)
    stream = client.get(f"/api/v1/runs/{run_id}/events")
    assert stream.status_code == 200
    assert "event: end" in stream.text

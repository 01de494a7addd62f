"""Datasets through the API: stored whole or not at all, listed, exported, deleted."""

import gzip
import hashlib
import io
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.settings import get_settings
from app.datasets import storing
from app.datasets.progress import Progress, UploadCancelledError
from app.datasets.storing import store_dataset
from app.local.embedded import Services
from app.store.datasets import Dataset, Pair
from app.store.runs import Run
from app.store.scores import Flag
from tests.chesboard.formats.test_parsing import LINE

API = "/api/v1"
ROWS = [
    {"prompt": "Shall we?", "chosen": "No.", "rejected": "Never.", "source": "hand"},
    {"prompt": "Ärger? 😀", "chosen": "tab\there", "rejected": "back\\slash\nline"},
]


def jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def upload(client: TestClient, data: bytes, filename: str = "mine.jsonl", **form: str) -> Any:
    return client.post(f"{API}/datasets", files={"file": (filename, data)}, data=form)


@pytest.fixture
def dataset(client: TestClient) -> dict[str, Any]:
    """A stored dataset with two pairs."""
    stored: dict[str, Any] = upload(client, jsonl(*ROWS)).json()
    return stored


def add_run(dataset_id: int, **columns: Any) -> int:
    with transaction() as session:
        run = Run(
            **{"kind": "score", "name": "n", "dataset_id": dataset_id, "config": {}} | columns
        )
        session.add(run)
        session.flush()
        return run.id


def stored_rows(session: Session) -> tuple[int, int]:
    count = func.count()
    return (
        session.scalar(select(count).select_from(Dataset)) or 0,
        session.scalar(select(count).select_from(Pair)) or 0,
    )


def test_the_planner_knows_of_many_pairs_at_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "MANY_PAIRS", 40)
    rows = [{"prompt": f"Is {n} odd?", "chosen": "Yes", "rejected": "No"} for n in range(40)]
    upload(client, jsonl(*rows))
    with transaction() as session:
        known = session.scalar(text("SELECT reltuples FROM pg_class WHERE relname = 'pairs'"))
    assert known == 40


def test_upload_is_described(client: TestClient) -> None:
    data = jsonl(*ROWS, {"prompt": "no responses"}) + b"nonsense\n"
    answer = upload(client, data)
    assert answer.status_code == 201
    body = answer.json()
    assert (body["name"], body["format"]) == ("mine", "text")
    assert (body["pairs"], body["rejected"]) == (2, 2)
    assert [(item["row"], item["field"]) for item in body["errors"]] == [(3, "chosen"), (4, None)]
    assert body["source_sha256"] == hashlib.sha256(data).hexdigest()
    assert body["source_bytes"] == len(data)
    assert body["statistics"]["columns"] == ["prompt", "chosen", "rejected", "source"]
    assert body["statistics"]["characters"]["prompt"]["max"] == 9


def test_pairs_come_back_as_they_were_written(client: TestClient, dataset: dict[str, Any]) -> None:
    page = client.get(f"{API}/datasets/{dataset['id']}/pairs").json()
    assert page["total"] == 2
    assert page["items"][0] == {
        "pair": 0,
        "prompt": "Shall we?",
        "preferred": "No.",
        "dispreferred": "Never.",
        "meta": {"source": "hand", "row": 1},
    }
    assert page["items"][1]["prompt"] == ROWS[1]["prompt"]
    assert page["items"][1]["preferred"] == ROWS[1]["chosen"]
    assert page["items"][1]["dispreferred"] == ROWS[1]["rejected"]


def test_pairs_are_paged(client: TestClient) -> None:
    rows = [{"prompt": f"p{number}", "chosen": "a", "rejected": "b"} for number in range(7)]
    address = f"{API}/datasets/{upload(client, jsonl(*rows)).json()['id']}/pairs"

    def ordinals(**query: int) -> list[int]:
        return [item["pair"] for item in client.get(address, params=query).json()["items"]]

    assert ordinals(offset=2, limit=3) == [2, 3, 4]
    assert ordinals(offset=6, limit=3) == [6]
    assert ordinals(offset=10**9) == []
    for query in ({"limit": 0}, {"offset": 10**20}):
        assert client.get(address, params=query).status_code == 422


def test_name_and_mapping_may_be_given(client: TestClient) -> None:
    answer = upload(
        client,
        b"q,good,bad\na,b,c\n",
        "table.csv",
        name="  My pairs ",
        mapping='{"prompt": "q", "preferred": "good", "dispreferred": "bad"}',
    )
    assert answer.status_code == 201
    assert (answer.json()["name"], answer.json()["format"]) == ("My pairs", "text")


@pytest.mark.parametrize("name", ["x" * 201, "a\0b"])
def test_name_that_cannot_be_kept_is_refused(client: TestClient, name: str) -> None:
    answer = upload(client, jsonl(*ROWS), name=name)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "name"


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "holds no rows"),
        (b"\n\n", "holds no rows"),
        (b"nonsense\n{", "None of the rows can be used (2 were rejected)"),
        (b'{"text": "a", "label": 1}', "The columns found are text, label. The nearest form is"),
        (b"\x1f\x8b broken", "damaged"),
    ],
)
def test_nothing_usable_is_refused_and_nothing_stored(
    client: TestClient, session: Session, data: bytes, detail: str
) -> None:
    answer = upload(client, data)
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]
    assert stored_rows(session) == (0, 0)


def test_upload_that_breaks_off_leaves_nothing(client: TestClient, session: Session) -> None:
    rows = [{"prompt": f"p{number}", "chosen": "a", "rejected": "b"} for number in range(20_000)]
    answer = upload(client, gzip.compress(jsonl(*rows))[:-20], "mine.jsonl.gz")
    assert answer.status_code == 422
    assert stored_rows(session) == (0, 0)


def test_the_database_knows_a_large_upload_at_once(
    client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statistics, by which it plans queries, are of before."""
    monkeypatch.setattr("app.datasets.storing.MANY_PAIRS", 100)
    upload(client, jsonl(*ROWS))
    session.execute(text("ANALYZE pairs"))
    session.commit()
    made = upload(client, jsonl(*[PAIR | {"prompt": f"{n}"} for n in range(100)])).json()
    estimated = "EXPLAIN (FORMAT JSON) SELECT FROM pairs WHERE dataset_id = :id"
    [plan] = session.execute(text(estimated), {"id": made["id"]}).scalar_one()
    assert 90 <= plan["Plan"]["Plan Rows"] <= 110


def test_an_upload_is_hashed_once(
    client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*_: Any) -> None:
        raise AssertionError("hashed a second time")

    monkeypatch.setattr("app.datasets.storing.measure_file", again)
    assert upload(client, jsonl(*ROWS)).status_code == 201
    assert client.post(f"{API}/samples/sentences").status_code == 201


def test_too_large_upload_is_refused(
    client: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings(), "max_upload_bytes", 50)
    answer = upload(client, jsonl(*ROWS))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert stored_rows(session) == (0, 0)


def test_upload_without_a_file_names_the_field(client: TestClient) -> None:
    answer = client.post(f"{API}/datasets", data={"name": "x"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "file"


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(LINE, max_size=4))
def test_whatever_is_uploaded_is_stored_or_explained(
    client: TestClient, lines: list[bytes]
) -> None:
    usable = jsonl(ROWS[0])
    answer = upload(client, usable + b"\n".join(line.replace(b"\n", b" ") for line in lines))
    assert answer.status_code == 201
    body = answer.json()
    assert body["pairs"] + body["rejected"] == 1 + sum(bool(line.strip()) for line in lines)
    page = client.get(f"{API}/datasets/{body['id']}/pairs").json()
    assert len(page["items"]) == body["pairs"]


PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}


def test_repeated_contradicting_and_long_pairs_are_counted_and_listed(client: TestClient) -> None:
    swapped = PAIR | {"chosen": "b", "rejected": "a"}
    long = PAIR | {"prompt": "long " * 1000}
    other = PAIR | {"prompt": "q"}
    stored = upload(client, jsonl(PAIR, other, PAIR, swapped, long, PAIR, swapped)).json()
    issues = stored["statistics"]["issues"]
    assert (issues["duplicate"], issues["contradiction"], issues["long"]) == (3, 5, 1)
    assert stored["statistics"]["duplicates"] == 3

    def listed(issue: str, **query: int) -> list[tuple[int, int | None]]:
        address = f"{API}/datasets/{stored['id']}/pairs"
        page = client.get(address, params={"issue": issue, **query}).json()
        assert page["total"] == stored["statistics"]["issues"][issue]
        return [(item["pair"], item["other"]) for item in page["items"]]

    assert listed("duplicate") == [(2, 0), (5, 0), (6, 3)]
    assert listed("contradiction") == [(0, 3), (2, 3), (3, 0), (5, 3), (6, 0)]
    assert listed("contradiction", offset=3, limit=1) == [(5, 3)]
    assert listed("long") == [(4, None)]
    assert client.get(f"{API}/datasets/{stored['id']}/pairs?issue=ugly").status_code == 422


def test_same_texts_in_another_prompt_or_dataset_are_no_issue(client: TestClient) -> None:
    chat = PAIR | {"prompt": [{"role": "user", "content": "p"}]}
    for _ in range(2):
        stored = upload(client, jsonl(PAIR, chat, PAIR | {"chosen": "c"})).json()
        issues = stored["statistics"]["issues"]
        assert (issues["duplicate"], issues["contradiction"]) == (0, 0)


def test_rejected_rows_are_counted_by_reason_and_listed(client: TestClient) -> None:
    data = jsonl(PAIR, PAIR | {"chosen": ""}, PAIR | {"chosen": "b"}, PAIR | {"rejected": " "})
    stored = upload(client, data + b"nonsense\n").json()
    reasons = {"empty": 2, "identical": 1, "unreadable": 1}
    assert stored["statistics"]["rejected"] == reasons
    address = f"{API}/datasets/{stored['id']}/rejected"
    assert client.get(address).json()["total"] == 4
    for reason, rows in reasons.items():
        page = client.get(address, params={"reason": reason}).json()
        assert page["total"] == rows
        assert {item["reason"] for item in page["items"]} == {reason}
    assert [item["row"] for item in client.get(f"{address}?offset=1&limit=2").json()["items"]] == [
        3,
        4,
    ]
    assert client.get(f"{API}/datasets/99/rejected").status_code == 404


def test_same_file_again_is_recognized(client: TestClient, session: Session) -> None:
    first = upload(client, jsonl(PAIR)).json()
    assert first["same_file"] == []
    refused = upload(client, jsonl(PAIR), "renamed.jsonl", if_known="refuse")
    assert refused.status_code == 409
    assert f"dataset {first['id']}" in refused.json()["detail"]
    assert refused.json()["dataset_id"] == first["id"]
    assert refused.headers["location"] == f"{API}/datasets/{first['id']}"
    assert stored_rows(session) == (1, 1)
    assert upload(client, jsonl(PAIR)).json()["same_file"] == [first["id"]]


def test_progress_is_told_under_the_sender_s_key(client: TestClient) -> None:
    address = f"{API}/datasets/progress/0123456789"
    assert client.get(address).status_code == 404
    files = {"file": ("a.jsonl", jsonl(PAIR) + b"x\n")}
    client.post(f"{API}/datasets?progress=0123456789", files=files)
    told = client.get(address).json()
    assert (told["phase"], told["pairs"], told["rejected"]) == ("done", 1, 1)
    assert told["bytes_done"] == told["bytes_total"] == len(jsonl(PAIR)) + 2
    client.post(f"{API}/datasets?progress=0123456789", files={"file": ("a.jsonl", b"")})
    assert client.get(address).json()["phase"] == "failed"


def test_upload_that_is_cancelled_leaves_nothing(database: Services, session: Session) -> None:
    progress = Progress()
    lines = jsonl(*[PAIR | {"prompt": f"{n}"} for n in range(500)])

    class CalledOffHalfWay(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            progress.is_cancelled = progress.phase == "reading" and progress.pairs > 100
            return super().read(min(size or 0, 4096))

    with pytest.raises(UploadCancelledError), transaction() as storing:
        store_dataset(
            storing, CalledOffHalfWay(lines), "a.jsonl", max_bytes=1 << 20, progress=progress
        )
    assert 100 < progress.pairs < 500
    assert stored_rows(session) == (0, 0)


def test_datasets_are_listed_newest_first(client: TestClient) -> None:
    ids = [upload(client, jsonl(*ROWS), name=name).json()["id"] for name in ("one", "two")]
    listing = client.get(f"{API}/datasets").json()
    assert [item["id"] for item in listing["items"]] == ids[::-1]
    assert listing["total"] == 2


@pytest.mark.parametrize("number", ["7", "0", "-1", str(2**70)])
@pytest.mark.parametrize("path", ["", "/pairs", "/export", "/export/manifest"])
def test_missing_dataset_is_not_found(client: TestClient, number: str, path: str) -> None:
    answer = client.get(f"{API}/datasets/{number}{path}")
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"There is no dataset {number}."


def test_deleting_takes_the_pairs_along(
    client: TestClient, session: Session, dataset: dict[str, Any]
) -> None:
    assert client.delete(f"{API}/datasets/{dataset['id']}").status_code == 204
    assert stored_rows(session) == (0, 0)
    assert client.delete(f"{API}/datasets/{dataset['id']}").status_code == 404


@pytest.mark.parametrize("status", ["queued", "running", "succeeded"])
def test_dataset_that_a_run_uses_is_not_deleted(
    client: TestClient, session: Session, dataset: dict[str, Any], status: str
) -> None:
    run = add_run(dataset["id"], status=status)
    answer = client.delete(f"{API}/datasets/{dataset['id']}")
    assert answer.status_code == 409
    assert f"used by run {run}. Delete it first." in answer.json()["detail"]
    assert stored_rows(session) == (1, 2)


def test_export_can_be_uploaded_again(client: TestClient, dataset: dict[str, Any]) -> None:
    exported = client.get(f"{API}/datasets/{dataset['id']}/export?format=jsonl")
    assert "attachment" in exported.headers["content-disposition"]
    keys = ("prompt", "chosen", "rejected")
    assert [json.loads(line) for line in exported.iter_lines()] == [
        {key: row[key] for key in keys} for row in ROWS
    ]
    assert upload(client, exported.content).json()["pairs"] == 2


def test_chat_is_exported_as_chat(client: TestClient) -> None:
    row = {
        "prompt": [{"role": "user", "content": "Shall we?"}],
        "chosen": [{"role": "assistant", "content": "Yes."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }
    stored = upload(client, jsonl(row)).json()
    assert stored["format"] == "chat"
    exported = client.get(f"{API}/datasets/{stored['id']}/export")
    assert exported.json() == row


def test_flagged_pairs_are_left_out_and_the_manifest_says_so(
    client: TestClient, dataset: dict[str, Any]
) -> None:
    run = add_run(dataset["id"])
    with transaction() as session:
        session.add(
            Flag(dataset_id=dataset["id"], pair=0, score_run=run, measure="ches", value=1.0)
        )
    address = f"{API}/datasets/{dataset['id']}/export"
    kept = client.get(address, params={"exclude": "flagged"})
    assert [json.loads(line)["prompt"] for line in kept.iter_lines()] == [ROWS[1]["prompt"]]
    manifest = client.get(f"{address}/manifest", params={"exclude": "flagged"}).json()
    assert manifest["exclude"] == ["flagged"]
    assert (manifest["source_pairs"], manifest["kept"], manifest["left_out"]) == (2, 1, 1)
    assert manifest["source_sha256"] == dataset["source_sha256"]
    assert client.get(f"{address}/manifest").json()["kept"] == 2


def test_sample_is_brought_in_once(client: TestClient) -> None:
    listed = client.get(f"{API}/samples").json()["items"]
    assert {item["name"] for item in listed} == {"yes-no-words", "sentences"}
    first = client.post(f"{API}/samples/sentences")
    again = client.post(f"{API}/samples/sentences")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert (first.json()["pairs"], first.json()["rejected"]) == (60, 0)


def test_unknown_sample_is_not_found(client: TestClient) -> None:
    assert client.post(f"{API}/samples/poems").status_code == 404


def test_pages_list_what_is_doubtful_about_the_rows_once(client: TestClient) -> None:
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "tools": "[{}]", "context": "A."}
    stored = upload(client, jsonl(row)).json()
    assert len(stored["warnings"]) == 2
    for page in ("", "/doctor"):
        text = client.get(f"/datasets/{stored['id']}{page}").text
        assert text.count("Please check how the rows were read.") == 1
        assert "<li>The column <code>tools</code> looks like part of the prompt" in text


def test_fields_of_messages_are_stored_and_stay_when_a_text_is_edited(client: TestClient) -> None:
    calls = [{"id": "7", "type": "function", "function": {"name": "sum", "arguments": "{}"}}]
    prompt: list[dict[str, Any]] = [
        {"role": "user", "content": "What is the sum?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "1", "tool_call_id": "7"},
    ]
    answers = ([{"role": "assistant", "content": text}] for text in ("One.", "Two."))
    row = dict(zip(("prompt", "chosen", "rejected"), (prompt, *answers), strict=True))
    stored = upload(client, jsonl(row)).json()
    pairs = f"{API}/datasets/{stored['id']}/pairs"
    read = [prompt[0], {**prompt[1], "content": ""}, prompt[2]]
    assert client.get(pairs).json()["items"][0]["prompt"] == read
    assert any("`tool_calls`" in warning for warning in stored["warnings"])
    assert json.loads(client.get(f"{API}/datasets/{stored['id']}/export?form=original").text) == row

    edited = client.patch(f"{pairs}/0", json={"version": 1, "preferred": "It is one."})
    assert (edited.status_code, edited.json()["prompt"]) == (200, read)
    read[0] = {**read[0], "content": "And the sum?"}
    edited = client.patch(f"{pairs}/0", json={"version": 2, "prompt": read})
    assert (edited.status_code, edited.json()["prompt"]) == (200, read)
    forged = [read[0], {**read[1], "tool_calls": []}, read[2]]
    assert client.patch(f"{pairs}/0", json={"version": 3, "prompt": forged}).status_code == 422

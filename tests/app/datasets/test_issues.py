"""Issues of a stored dataset: kept with the upload, found again on request and after edits."""

import json
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.datasets.fingerprints import hash_texts
from app.datasets.issues import check_again
from app.store.datasets import Dataset, Pair, PairIssue
from app.store.issues import CHECKS, CHECKS_KEY
from chesboard.issues import ISSUES

API = "/api/v1"
PLAIN: dict[str, Any] = {
    "prompt": "Where?",
    "chosen": "On the island.",
    "rejected": "Behind the hills.",
}
ROWS: list[dict[str, Any]] = [
    PLAIN,
    PLAIN,
    {**PLAIN, "chosen": PLAIN["rejected"], "rejected": PLAIN["chosen"]},
    {"prompt": "When?", "chosen": "At nine.", "rejected": "at nine", "score_chosen": 1},
    {
        "prompt": "Why?",
        "chosen": "So</s>",
        "rejected": "No",
        "score_chosen": 1,
        "score_rejected": 3,
    },
]
FINGERPRINT = 4531368193035100949
FOUND = {
    ("duplicate", 1, 0, None),
    ("contradiction", 0, 2, None),
    ("contradiction", 1, 2, None),
    ("contradiction", 2, 0, None),
    ("near_identical", 3, None, "but for case, blanks and punctuation"),
    ("leftover_markup", 4, None, "</s>"),
    ("scores_against", 4, None, "1 < 3 (score_chosen, score_rejected)"),
}


def upload(client: TestClient, rows: list[dict[str, Any]]) -> dict[str, Any]:
    data = "\n".join(map(json.dumps, rows)).encode()
    answer = client.post(f"{API}/datasets", files={"file": ("a.jsonl", data)})
    assert answer.status_code == 201, answer.text
    stored: dict[str, Any] = answer.json()
    return stored


def stored_issues(
    session: Session, dataset_id: int
) -> set[tuple[str, int, int | None, str | None]]:
    session.rollback()
    rows = session.query(PairIssue).where(PairIssue.dataset_id == dataset_id)
    return {(row.issue, row.pair, row.other, row.detail) for row in rows}


def test_an_upload_is_checked(client: TestClient, session: Session) -> None:
    stored = upload(client, ROWS)
    assert stored_issues(session, stored["id"]) == FOUND
    counts = {kind: sum(one[0] == kind for one in FOUND) for kind in ISSUES}
    assert stored["statistics"]["issues"] == counts
    assert stored["statistics"][CHECKS_KEY]["version"] == CHECKS


def test_a_check_of_what_an_earlier_version_stored(client: TestClient, session: Session) -> None:
    stored = upload(client, ROWS)
    dataset = session.get_one(Dataset, stored["id"])
    dataset.statistics = {"columns": ["prompt"], "issues": {"duplicate": 1}}
    session.execute(delete(PairIssue).where(PairIssue.issue != "duplicate"))
    for pair in session.query(Pair).where(Pair.dataset_id == dataset.id):
        pair.fingerprint = None
    session.flush()
    for _ in range(2):
        check_again(session, dataset)
    assert dataset.statistics["issues"]["contradiction"] == 3
    assert dataset.statistics["columns"] == ["prompt"]
    session.commit()
    assert stored_issues(session, dataset.id) == FOUND


def test_an_edited_pair_is_checked_and_undone(client: TestClient, session: Session) -> None:
    dataset_id = upload(client, ROWS)["id"]
    address = f"{API}/datasets/{dataset_id}/pairs/4"
    edited = client.patch(address, json={"preferred": "It is so.", "version": 1})
    assert edited.status_code == 200, edited.text
    # The scores are of the uploaded row, and still say what they said.
    assert {one for one in stored_issues(session, dataset_id) if one[1] == 4} == {
        ("scores_against", 4, None, "1 < 3 (score_chosen, score_rejected)")
    }
    client.post(f"{address}/review/undo", json={})
    assert stored_issues(session, dataset_id) == FOUND


def test_what_pairs_are_to_each_other_is_found_again_after_edits(
    client: TestClient, session: Session
) -> None:
    dataset_id = upload(client, ROWS)["id"]
    texts = {"prompt": "Why?", "preferred": "So</s>", "dispreferred": "No"}
    client.patch(f"{API}/datasets/{dataset_id}/pairs/1", json={**texts, "version": 1})
    doctor = client.get(f"{API}/datasets/{dataset_id}/doctor").json()
    assert doctor["edited"] == 1
    doctor = client.post(f"{API}/datasets/{dataset_id}/doctor").json()
    assert doctor["edited"] == 0
    assert ("duplicate", 4, 1, None) in stored_issues(session, dataset_id)
    assert ("contradiction", 0, 2, None) in stored_issues(session, dataset_id)


def test_fingerprints_are_those_of_earlier_versions() -> None:
    """They are compared with the ones that are stored."""
    assert hash_texts("p", "a", "b").fingerprint() == FINGERPRINT
    assert hash_texts("p", "b", "a").fingerprint() == FINGERPRINT & ~1
    chat = [{"role": "user", "content": "p"}]
    assert hash_texts(chat, "a", "b").fingerprint() | 1 != FINGERPRINT


def test_pairs_of_a_kind_are_listed_with_what_was_seen(client: TestClient) -> None:
    dataset_id = upload(client, ROWS)["id"]
    page = client.get(f"{API}/datasets/{dataset_id}/pairs?issue=leftover_markup").json()
    assert [(item["pair"], item["other"], item["detail"]) for item in page["items"]] == [
        (4, None, "</s>")
    ]
    plain = client.get(f"{API}/datasets/{dataset_id}/pairs").json()["items"][0]
    assert "detail" not in plain


def test_exports_without_and_only_with_issues(client: TestClient) -> None:
    address = f"{API}/datasets/{upload(client, ROWS)['id']}/export"

    def prompts(query: str) -> list[str]:
        lines = client.get(f"{address}?{query}").text.splitlines()
        return [json.loads(line)["prompt"] for line in lines]

    assert prompts("exclude_issue=duplicate&exclude_issue=scores_against") == [
        *("Where?", "Where?", "When?")
    ]
    assert prompts("only_issue=near_identical&only_issue=leftover_markup") == ["When?", "Why?"]
    manifest = client.get(f"{address}/manifest?exclude_issue=contradiction").json()
    assert (manifest["kept"], manifest["exclude_issues"]) == (2, ["contradiction"])


def test_an_export_by_issues_that_were_not_looked_for_is_refused(
    client: TestClient, session: Session
) -> None:
    dataset_id = upload(client, ROWS)["id"]
    session.get_one(Dataset, dataset_id).statistics = {}
    session.commit()
    for path in ("export", "export/manifest"):
        answer = client.get(f"{API}/datasets/{dataset_id}/{path}?exclude_issue=no_end")
        assert answer.status_code == 422
        assert "Check now" in answer.json()["detail"]

"""The data doctor: counts, examples and hints by kind, what was not looked for, and its page."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.doctor.excerpts import EXCERPT, excerpts
from app.doctor.queries import EXAMPLES
from app.store.datasets import Dataset
from chesboard.issues import ISSUES
from tests.app import factories

API = "/api/v1"
PLAIN = {"prompt": "Where?", "chosen": "On the island.", "rejected": "Behind the hills."}


def stored(client: TestClient, *rows: dict[str, Any]) -> int:
    data = "\n".join(map(json.dumps, rows)).encode()
    answer = client.post(f"{API}/datasets", files={"file": ("pairs.jsonl", data)})
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


def doctor(client: TestClient, dataset_id: int, query: str = "") -> dict[str, Any]:
    answer = client.get(f"{API}/datasets/{dataset_id}/doctor{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_lists_every_kind_those_of_most_pairs_first(client: TestClient) -> None:
    marked = {**PLAIN, "chosen": "On the island.</s>"}
    dataset_id = stored(client, PLAIN, PLAIN, *({**marked, "prompt": str(i)} for i in range(7)))
    found = doctor(client, dataset_id)
    assert (found["pairs"], found["with_issues"], found["is_current"]) == (9, 8, True)
    assert found["by_severity"] == {"high": 0, "medium": 8, "low": 0}
    assert {kind["kind"] for kind in found["kinds"]} == set(ISSUES)
    first, second, third = found["kinds"][:3]
    assert (first["kind"], first["count"]) == ("leftover_markup", 7)
    assert (second["kind"], second["count"]) == ("duplicate", 1)
    assert third["count"] == 0
    assert first["label"] == ISSUES["leftover_markup"].label
    assert [example["pair"] for example in first["examples"]] == list(range(2, 2 + EXAMPLES))
    assert first["examples"][0] == {
        "pair": 2,
        "row": 3,
        "other": None,
        "detail": "</s>",
        "prompt": "0",
        "preferred": "On the island.</s>",
        "dispreferred": "Behind the hills.",
    }
    assert second["examples"][0]["other"] == 0
    listed = client.get(first["pairs_url"]).json()
    assert listed["total"] == 7


def test_tells_what_the_upload_told(client: TestClient) -> None:
    rejected = {**PLAIN, "rejected": PLAIN["chosen"]}
    scored = [
        {**PLAIN, "prompt": f"{i}", "score_chosen": 1, "score_rejected": 2} for i in range(25)
    ]
    found = doctor(client, stored(client, *scored, rejected, {**PLAIN, "context": "Their talk."}))
    assert found["rejected"] == {"identical": 1}
    assert len(found["warnings"]) == 1
    assert "In 25 of the 25 pairs with scores" in found["hints"][0]


def test_of_an_earlier_version_until_it_is_checked(client: TestClient, session: Session) -> None:
    dataset_id = factories.dataset(
        session, [("p", "a", "b"), ("p", "a", "b")], statistics={"issues": {"duplicate": 0}}
    ).id
    session.commit()
    found = doctor(client, dataset_id)
    counts = {kind["kind"]: kind["count"] for kind in found["kinds"]}
    assert (found["is_current"], found["checked_at"]) == (False, None)
    assert counts["duplicate"] == 0  # what earlier versions looked for is known
    assert counts["no_end"] is None  # unknown is not none
    assert "Check now" in client.get(f"/datasets/{dataset_id}/doctor").text

    checked = client.post(f"{API}/datasets/{dataset_id}/doctor").json()
    assert checked["is_current"]
    assert {kind["kind"]: kind["count"] for kind in checked["kinds"]}["duplicate"] == 1
    assert "Not checked for all kinds" not in client.get(f"/datasets/{dataset_id}/doctor").text


def test_under_a_model_says_that_no_run_looked(client: TestClient) -> None:
    dataset_id = stored(client, PLAIN)
    assert doctor(client, dataset_id)["under_model"] is None
    under = doctor(client, dataset_id, "?model=tiny")["under_model"]
    assert under == {"model": "tiny", "checked": None}
    page = client.get(f"/datasets/{dataset_id}/doctor?model=tiny").text
    assert "Check under this model" in page


def test_a_model_s_name_that_none_can_have_is_refused(client: TestClient, session: Session) -> None:
    dataset = factories.dataset(session)
    session.commit()
    refused = client.get(f"{API}/datasets/{dataset.id}/doctor", params={"model": "a\0b"})
    assert refused.status_code == 422


def test_a_dataset_without_issues_and_one_that_is_not_there(client: TestClient) -> None:
    dataset_id = stored(client, PLAIN)
    assert "Nothing found in 1 pairs" in client.get(f"/datasets/{dataset_id}/doctor").text
    assert client.get(f"{API}/datasets/99/doctor").status_code == 404
    assert client.post(f"{API}/datasets/99/doctor").status_code == 404
    assert client.get("/datasets/99/doctor").status_code == 404


def test_texts_are_never_read_as_html(client: TestClient) -> None:
    text = "</script><script>alert(1)</script><b>bold</b>"
    page = client.get(f"/datasets/{stored(client, {**PLAIN, 'chosen': text})}/doctor").text
    assert "alert(1)" in page
    assert "<script>alert" not in page


def test_pages_that_a_kind_leads_to(client: TestClient, session: Session) -> None:
    dataset_id = stored(client, PLAIN, {**PLAIN, "chosen": "So</s>"})
    root = f"/datasets/{dataset_id}"
    form = client.get(f"{root}/new?kind=train&exclude_issue=leftover_markup").text
    assert 'value="leftover_markup" checked' in form
    assert client.get(f"{root}/new?kind=train&exclude_issue=ugly").status_code == 422
    assert "leftover markup" in client.get(f"{root}/review?issue=leftover_markup").text.lower()
    assert "leftover markup (1)" in client.get(f"{root}?issue=leftover_markup").text
    assert session.get_one(Dataset, dataset_id).pairs == 2


@pytest.mark.parametrize("at", [0, 500, 5000])
def test_an_excerpt_shows_the_place_that_matters(at: int) -> None:
    filling = "word " * 2000
    text = f"{filling[:at]}<|end|>{filling[at:]}"
    turns = [{"role": "user", "content": "Hello"}, {"role": "user", "content": "And now?"}]
    prompt, preferred, dispreferred = excerpts("leftover_markup", "<|end|>", turns, text, "Short")
    assert (prompt, dispreferred) == ("And now?", "Short")
    assert "<|end|>" in preferred
    assert len(preferred) <= EXCERPT + 2
    assert excerpts("leftover_markup", "now", turns[::-1], text, "Short")[0] == "And now?"
    assert excerpts("no_end", "both responses", "p", filling + "end", "b")[1].endswith("word end")
    fork = excerpts("near_identical", None, "p", text + "a" + filling, text + "b" + filling)
    assert fork[1].replace("a", "b") == fork[2].replace("a", "b")
    assert fork[1] != fork[2]
